"""A name with a leading underscore is used in its own module alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from .bare_environment import ROOT

FOLDERS = ("srflow_sdk", "apps/srflow_apps")
SHARED = {"srflow_sdk._checks"}  # the checks of arguments, which every folder needs
OTHERS = {"_exit", "_private", "_remove_log_handler", "_strip_protocol"}
"""Of os, ray, pyvips and fsspec."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def own_names(tree: ast.Module) -> set[str]:
    """The private names that a module defines, also of its classes: it may use them on others."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "cls"):
            if isinstance(node.ctx, ast.Store):
                names.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def foreign_names(path: Path) -> Iterator[str]:
    """`FILE:LINE: name` for each private attribute, keyword or import of another module."""
    tree = ast.parse(path.read_text("utf-8"))
    own = own_names(tree) | OTHERS
    where = path.relative_to(ROOT)
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls"):
            names = [node.attr]
        elif isinstance(node, ast.Call):
            names = [keyword.arg or "" for keyword in node.keywords]
        elif isinstance(node, ast.ImportFrom) and node.module not in SHARED:
            module = str(node.module)
            if module.split(".")[0] != where.parts[where.parts[0] == "apps"]:
                names = module.split(".")
            if module.split(".")[:-1] != [part for part in where.parent.parts if part != "apps"]:
                names += [alias.name for alias in node.names]
        yield from (
            f"{where}:{node.lineno}: {name}"
            for name in names
            if is_private(name) and name not in own
        )


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_module_uses_a_private_name_of_another(folder: str) -> None:
    assert not [
        name for path in sorted((ROOT / folder).rglob("*.py")) for name in foreign_names(path)
    ]
