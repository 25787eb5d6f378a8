"""Imports go one way: between the packages, and in the runtime from layers below a module's own,
never in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from .bare_environment import ROOT

PACKAGE = "srflow_sdk"
# from the bottom; a name is a folder of srflow_sdk, or a module beside them
LAYERS = [
    {"_version", "_lazy_names", "plain_text"},
    {"errors"},
    {"_checks", "system"},
    {"geometry", "pixels"},
    {"files"},
    {"model"},
    {"latents"},
    {"backends"},
    {"drawing"},
    {"encoding"},
    {"flow"},
    {"engine"},
    {"upscaler"},
    {"aio", "clips"},
    {"ray", "triton", "__main__"},
    {"__init__"},
]
# the base of every house's
COMMANDS = ("srflow_apps.commands.base_command", "srflow_apps.commands.signals")
HOUSES = {  # each with the folder it lies in, and with those it may import
    "srflow_sdk": (".", ()),
    "srflow_apps": ("apps", ("srflow_sdk",)),
    "srflow_training": ("training", ("srflow_sdk", *COMMANDS)),
    "srflow_evaluation": ("training", ("srflow_training", "srflow_sdk", *COMMANDS)),
    "srflow_export": ("export", ("srflow_training", "srflow_sdk", *COMMANDS)),
}
LAZY = {  # modules of the runtime that name an application, to import it when it is used
    "srflow_sdk": "srflow_apps.batch",
    "srflow_sdk.__main__": "srflow_apps.commands",
    "srflow_sdk.ray": "srflow_apps.batch",
    "srflow_sdk.triton": "srflow_apps.serving",
}


def modules_of(house: str) -> dict[str, Path]:
    folder = ROOT / HOUSES[house][0]
    return {
        ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((folder / house).rglob("*.py"))
    }


MODULES = modules_of(PACKAGE)
ALL = {module: path for house in HOUSES for module, path in modules_of(house).items()}


def imports(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports anywhere, including in functions and for type
    checkers."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name if name in ALL else str(node.module) for name in inner]
        else:
            continue
        yield from (name for name in found if name.split(".")[0].startswith("srflow_"))


def part(module: str) -> str:
    """The name in LAYERS that a module belongs to."""
    return (module.split(".")[1:] or ["__init__"])[0]


def is_empty(module: str) -> bool:
    """True for the `__init__.py` of a folder that holds its docstring alone."""
    return (
        MODULES[module].name == "__init__.py"
        and len(ast.parse(MODULES[module].read_text("utf-8")).body) == 1
    )


def test_every_module_has_a_layer_and_every_layer_its_modules() -> None:
    named = [name for layer in LAYERS for name in layer]
    assert sorted(named) == sorted({part(module) for module in MODULES if not is_empty(module)})


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_from_its_own_layer_or_above(module: str) -> None:
    height = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    for imported in imports(MODULES[module]):
        if module in LAZY and imported.startswith(LAZY[module]):
            continue  # for type checkers alone: see below
        assert imported in MODULES, f"{module} imports {imported}, which is not part of the runtime"
        below = height[part(imported)] < height[part(module)]
        assert below or part(imported) == part(module), (
            f"{module} imports {imported}, which is not in a layer below it"
        )


def test_no_imports_go_in_a_circle() -> None:
    graph = {
        module: {name for name in imports(path) if name in MODULES} - {module}
        for module, path in MODULES.items()
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


@pytest.mark.parametrize("house", [house for house in HOUSES if house != PACKAGE])
def test_a_house_imports_only_from_those_below_it(house: str) -> None:
    for module, path in modules_of(house).items():
        for imported in imports(path):
            allowed = (house, *HOUSES[house][1])
            assert {imported, imported.split(".")[0]} & {*allowed}, f"{module} imports {imported}"


def test_the_runtime_names_applications_in_its_lazy_modules_alone() -> None:
    naming = set()
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text("utf-8"))
        texts = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        if any(text.startswith("srflow_apps") for text in texts):
            naming.add(module)
    assert naming == set(LAZY)


def test_importing_the_runtime_imports_no_application() -> None:
    names = [name for name in MODULES if name != "srflow_sdk.__main__"]
    code = (
        f"import sys, importlib\nfor name in {names}: "
        "importlib.import_module(name)\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded & {"click", *HOUSES} == {"srflow_sdk"}
