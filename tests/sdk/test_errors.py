from __future__ import annotations

import json
import re

import pytest

from srflow_sdk import errors
from srflow_sdk.system import raising as _raising


def test_everything_raised_on_purpose_has_one_base() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) == 13
    assert all(issubclass(kind, errors.SRFlowError) for kind in kinds)
    assert issubclass(errors.ArgumentError, ValueError)


def test_the_tree_at_the_top_of_the_module_is_the_hierarchy() -> None:
    assert errors.__doc__ is not None
    parents: list[type] = []
    drawn = {}
    for indent, name in re.findall(r"^    ([│├└─ ]*)([A-Z]\w+Error)\b", errors.__doc__, re.MULTILINE):
        depth = len(indent) // 4
        kind = getattr(errors, name)
        drawn[name] = kind
        assert depth == 0 or parents[depth - 1] in kind.__bases__, name
        parents[depth:] = [kind]
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert set(drawn) == kinds


def test_a_message_is_one_line_that_a_terminal_can_show() -> None:
    message = str(errors.BundleError("a\n  b \x1b[31mred\x9b \u2028 \u202e é ×"))
    assert message == "a b �[31mred� � � é ×"


def test_an_endless_message_keeps_its_beginning_and_its_fix() -> None:
    message = str(errors.ImageError(f"{'a' * 50_000}; use another"))
    assert message.startswith("aaa")
    assert message.endswith("a; use another")
    assert len(message) < 2100


def test_a_module_that_is_there_is_returned() -> None:
    assert _raising.require_extra("json", "train") is json


def test_a_missing_extra_is_one_line_with_the_pip_command() -> None:
    with pytest.raises(errors.MissingExtraError, match=r'absent_module.*pip install "srflow-sdk\[train\]"') as error:
        _raising.require_extra("absent_module", "train")
    assert "\n" not in str(error.value)


def test_every_message_is_one_line() -> None:
    error = errors.ArgumentError("source is array([[0],\n       [1]]); it is a path")
    assert str(error) == "source is array([[0], [1]]); it is a path"
