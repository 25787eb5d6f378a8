"""Houses stay small and open: few tokens, few of them a line, one assignment a statement."""

from __future__ import annotations

import ast
import io
import tokenize
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from .bare_environment import ROOT

TOKENS = {  # round numbers; nobody raises one: what does not fit deletes something first
    "srflow_sdk": 90_000,
    "apps": 48_000,
    "training/srflow_training": 42_000,
    "training/srflow_evaluation": 39_000,
    "export": 46_000,
    "benchmarks": 33_000,
    "tests": 340_000,
    "windows": 2_000,
}
TOKENS_A_LINE = dict.fromkeys(TOKENS, 8.5) | {
    "benchmarks": 9.5,
    "tests": 9.5,
}
PACKED_A_THOUSAND_LINES = 6
LAYOUT = {"COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT", "ENCODING", "ENDMARKER"}


class House(NamedTuple):
    """What there is to read in a folder's Python, without comments, docstrings and layout."""

    tokens: int
    lines_of_code: int
    packed: int
    """Assignments `a, b = x, y`."""
    lines: int


def measure_file(path: Path) -> tuple[int, ...]:
    source = path.read_text("utf-8")
    texts = source.splitlines()
    nodes = list(ast.walk(ast.parse(source)))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        (node.body[0].lineno, node.body[0].col_offset)
        for node in nodes
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
    }
    tokens = [
        token
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if tokenize.tok_name[token.type] not in LAYOUT and token.start not in docstrings
    ]
    lines = {token.start[0] for token in tokens}
    packed = [
        node
        for node in nodes
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Tuple)
        and isinstance(node.value, ast.Tuple)
    ]
    return len(tokens), len(lines), len(packed), len(texts)


@cache
def measure_house(folder: str) -> House:
    files = [path for path in (ROOT / folder).rglob("*.py*") if path.suffix in (".py", ".pyi")]
    return House(*map(sum, zip(*map(measure_file, files), strict=True)))


@pytest.mark.parametrize("house", TOKENS)
def test_a_house_stays_within_its_budget_of_tokens(house: str) -> None:
    assert measure_house(house).tokens <= TOKENS[house]


@pytest.mark.parametrize("house", TOKENS)
def test_a_line_holds_few_tokens_and_a_statement_one_assignment(house: str) -> None:
    measured = measure_house(house)
    assert round(measured.tokens / measured.lines_of_code, 1) <= TOKENS_A_LINE[house]
    assert measured.packed <= PACKED_A_THOUSAND_LINES * measured.lines / 1000
