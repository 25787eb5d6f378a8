"""Imports go one way: a module of the runtime imports only from layers below its own, and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from .bare_environment import ROOT

PACKAGE = "srflow_sdk"
LAYERS = [  # from the bottom; a name is a module of srflow_sdk, or a package with everything in it
    {"_graph_operators", "_urls"},
    {
        "_system",
        "_version",
        "_device_names",
        "_lazy_names",
        "_psnr_bounds",
        "_bits",
        "_graph_sizes",
        "_plain_text",
        "_portable_math",
        "errors",
    },
    {"_raising", "_graph_structure", "engine_records", "_images", "latents", "_machine"},
    {"tiles", "_files", "_engine_shapes"},
    {"manifest"},
    {"_pixels"},
    {"bundle", "_latents"},
    {"_engine_commands", "picture_latents"},
    {"backends"},
    {"_drawing"},
    {"encoding"},
    {"_transferring", "_serving", "model_choice"},
    {"_model_list"},
    {"_choosing", "_restoring"},
    {"_flow_uses"},
    {"upscaler", "_async_calls"},
    {"async_upscaler", "triton"},
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
    """The name in LAYERS that a module belongs to."""
    return module.split(".")[1] if "." in module else "__init__"


def test_every_module_has_a_layer_and_every_layer_its_modules() -> None:
    named = [name for layer in LAYERS for name in layer]
    assert sorted(named) == sorted({part(module) for module in MODULES})


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
