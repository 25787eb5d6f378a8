"""Photographs for the tests of the trainer."""

import pytest

from tests.training.crops import three_photographs


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return three_photographs(tmp_path_factory.mktemp("photos"))
