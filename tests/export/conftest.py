"""Exports are proved on small patches: most of these tests ask for the rest of an export."""

import pytest

from tests.networks import proved_on_small_patches


@pytest.fixture(autouse=True, scope="package")
def _proved_on_small_patches():
    with proved_on_small_patches():
        yield
