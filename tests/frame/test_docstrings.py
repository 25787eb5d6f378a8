"""Docstrings are sentences about what there is: none begins with "What" or "Whether", as half a sentence would."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from .bare_environment import ROOT

HELD = ("srflow_sdk", "apps", "export", "training", "tests/evaluation", "tests/export", "tests/training")


def riddles(path: Path) -> Iterator[str]:
    """`LINE: first words` of each docstring, of attributes too, that begins with one of the two words."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            words = node.value.value.split()
            if words and words[0] in ("What", "Whether"):
                yield f"{node.lineno}: {' '.join(words[:8])}"


@pytest.mark.parametrize("held", HELD)
def test_no_docstring_begins_with_what_or_whether(held: str) -> None:
    files = sorted((ROOT / held).rglob("*.py"))
    assert files
    assert {str(path.relative_to(ROOT)): found for path in files if (found := list(riddles(path)))} == {}


def test_the_check_sees_docstrings_of_modules_functions_and_attributes(tmp_path: Path) -> None:
    source = '"""What is."""\ndef f():\n    """Whether so."""\nx = 1\n"""What x is."""\n"""Fine."""\n'
    (tmp_path / "some.py").write_text(source, encoding="utf-8")
    assert sorted(riddles(tmp_path / "some.py")) == ["1: What is.", "3: Whether so.", "5: What x is."]
