"""Imports go one way: a module of the runtime imports only from layers below its own, and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from .bare_environment import ROOT

PACKAGE = "srflow_sdk"
LAYERS = [  # from the bottom; a name is a module of srflow_sdk, or a package with all of it that is not named itself
    {"model.graph_operators", "system.urls"},
    {"_version", "_lazy_names", "errors", "latents.bits_per_dimension", "latents.portable_math"},
    {"model.graph_sizes", "model.psnr_bounds"},
    {"system", "model.graph_structure", "model.engine_records", "pixels.in_memory", "latents.random_field"},
    {"drawing.tiles", "files", "model.engine_shapes"},
    {"model.manifest"},
    {"pixels", "model.bundle"},
    {"latents", "model.engine_commands", "model.round_trips"},
    {"backends"},
    {"drawing"},
    {"flow.inverting"},
    {"encoding"},
    {"flow", "model.model_choice", "_serving"},
    {"model.model_list"},
    {"upscaler", "aio.calls"},
    {"aio", "triton"},
    {"_batch", "_doctor"},
    {"ray"},
    {"_command_line"},
    {"_file_options"},
    {"cli", "_transfer_command", "_demo"},
    {"__main__"},
    {"__init__"},
]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / PACKAGE).rglob("*.py"))
}


def imports(path: Path) -> Iterator[str]:
    """Modules of the runtime that a file imports anywhere, including in functions and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name if name in MODULES else str(node.module) for name in inner]
        else:
            continue
        yield from (name for name in found if name.split(".")[0].startswith("srflow_"))


def part(module: str) -> str:
    """The name in LAYERS that a module belongs to: the longest one that is the module or a package around it."""
    named = {name for layer in LAYERS for name in layer}
    parts = module.split(".")[1:] or ["__init__"]
    places = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return next((place for place in places if place in named), places[-1])


def is_empty(module: str) -> bool:
    """True for the `__init__.py` of a folder that holds its docstring alone."""
    return MODULES[module].name == "__init__.py" and len(ast.parse(MODULES[module].read_text("utf-8")).body) == 1


def test_every_module_has_a_layer_and_every_layer_its_modules() -> None:
    named = [name for layer in LAYERS for name in layer]
    assert sorted(named) == sorted({part(module) for module in MODULES if not is_empty(module)})


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_from_its_own_layer_or_above(module: str) -> None:
    height = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    for imported in imports(MODULES[module]):
        assert imported in MODULES, f"{module} imports {imported}, which is not part of the runtime"
        below = height[part(imported)] < height[part(module)]
        assert below or part(imported) == part(module), f"{module} imports {imported}, which is not in a layer below it"


def test_no_imports_go_in_a_circle() -> None:
    graph = {module: {name for name in imports(path) if name != module} for module, path in MODULES.items()}
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
