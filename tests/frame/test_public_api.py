"""What users can rely on: no name, parameter or option is added, removed or renamed unnoticed."""

from __future__ import annotations

import difflib
import importlib
import inspect

import pytest

from .public_api import SNAPSHOT, public_api, public_members


def test_the_public_api_is_the_one_that_is_written_down() -> None:
    written = SNAPSHOT.read_text("utf-8").splitlines()
    changed = [line for line in difflib.ndiff(written, public_api()) if line[0] in "+-"]
    assert not changed, "\n".join(
        ["add a line to CHANGELOG.md, and run python -m tests.frame.public_api", *changed]
    )


@pytest.mark.parametrize("package", ["srflow_sdk", "srflow_training", "srflow_export"])
def test_every_public_name_says_what_it_is(package: str) -> None:
    module = importlib.import_module(package)
    values = {name: getattr(module, name) for name in module.__all__}
    for name, value in [*values.items()]:
        values |= {f"{name}.{member}": each for member, each in public_members(value).items()}
    assert not [name for name, value in values.items() if not inspect.getdoc(value)]
