"""Packages stay within their budgets of code, so that what is added is weighed, and what is deleted
stays deleted."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import pytest

from .bare_environment import ROOT

TOKENS = {  # round numbers; nobody raises one: what does not fit deletes something first
    "srflow_sdk": 91_000,
    "apps": 49_000,
    "training/srflow_training": 42_500,
    "training/srflow_evaluation": 39_000,
    "export": 46_000,
    "benchmarks": 34_000,
    "tests": 367_000,
    "windows": 2_000,
}
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def count_tokens(path: Path) -> int:
    """What Python's tokenizer sees, without comments, docstrings and layout: more lines cost
    nothing."""
    source = path.read_text("utf-8")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        (node.body[0].lineno, node.body[0].col_offset)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
    }
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return sum(token.type not in LAYOUT and token.start not in docstrings for token in tokens)


@pytest.mark.parametrize("house", TOKENS)
def test_a_house_stays_within_its_budget_of_tokens(house: str) -> None:
    files = [path for path in (ROOT / house).rglob("*.py*") if path.suffix in (".py", ".pyi")]
    assert sum(map(count_tokens, files)) <= TOKENS[house]
