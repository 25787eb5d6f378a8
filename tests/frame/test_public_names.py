"""Private names have an underscore; examples and benchmarks, which users read and copy, do not use
them."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import srflow_sdk

from .public_api import PUBLIC

ROOT = Path(__file__).parents[2]
USERS = sorted(
    path.relative_to(ROOT)
    for folder in ("examples", "benchmarks")
    for path in ROOT.glob(f"{folder}/**/*.py")
)
INSIDE = [path for path in USERS if path.parent.name == "gpu_report"]
"""They check on a GPU what lies behind the public names."""
OURS = ("srflow_sdk", "srflow_apps", "srflow_training", "srflow_evaluation", "srflow_export")
FRONTS = ("srflow_sdk", "srflow_training", "srflow_export")
HEAVY = {"torch", "onnx", "numpy", "polygraphy", "tensorrt", "tensorrt_rtx", "onnxruntime"}


def is_private(name: str) -> bool:
    """True for a dotted name with an underscore, and for one of runtime or applications that is not
    in PUBLIC."""
    if any(part.startswith("_") and not part.endswith("__") for part in name.split(".")):
        return True
    if not name.startswith(("srflow_sdk.", "srflow_apps.")) or name.endswith("__"):
        return False
    return name.removeprefix("srflow_sdk.") not in srflow_sdk.__all__ and not f"{name}.".startswith(
        tuple(f"{module}." for module in PUBLIC)
    )


def private_uses(source: str) -> Iterator[str]:
    """`LINE: name` for each import of a private module or name of this project, and each private
    attribute of others.

    `self._x` and `cls._x` are allowed: they belong to the class itself.
    """
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] in OURS]
        elif (
            isinstance(node, ast.ImportFrom)
            and node.module is not None
            and node.module.split(".")[0] in OURS
        ):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            of = node.value.id if isinstance(node.value, ast.Name) else ""
            names = [] if of in ("self", "cls") else [node.attr]
        yield from (f"{node.lineno}: {name}" for name in names if is_private(name))


@pytest.mark.parametrize("path", [path for path in USERS if path not in INSIDE], ids=str)
def test_examples_and_benchmarks_use_public_names_only(path: Path) -> None:
    assert list(private_uses((ROOT / path).read_text("utf-8"))) == []


@pytest.mark.parametrize("package", FRONTS)
def test_every_name_of_a_front_is_there(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name).__name__ == name
        assert name in dir(module)
        assert not is_private(name)
    with pytest.raises(AttributeError, match=rf"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("package", FRONTS)
def test_a_front_costs_nothing_until_it_is_used(package: str) -> None:
    script = f"import sys, {package}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert not HEAVY & set(done.stdout.split())
