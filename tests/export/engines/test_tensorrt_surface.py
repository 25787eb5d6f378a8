"""Every name of TensorRT that this code uses is there, from the oldest version that it takes to the
newest known one.

TensorRT cannot run here. What its module has was recorded where it is installed (no GPU is needed),
by

    python -m tests.export.engines.test_tensorrt_surface

What the code uses is read from the code: `config.clear_flag` is IBuilderConfig's, since in these
modules `config` is always one.
"""

import ast
import functools
import importlib
import json
from pathlib import Path

import pytest

import srflow_export.engines as package
from srflow_export.engines.building import _network_flags
from srflow_sdk.backends import native_library

RECORD = Path(__file__).with_name("tensorrt_surface.json")
SURFACES = json.loads(RECORD.read_text())
OF_RTX_ALONE = {
    ("", "ComputeCapability"),
    *(("IBuilderConfig", name) for name in ("num_compute_capabilities", "set_compute_capability")),
}

# What a name stands for in these modules, and what a method returns.
VARIABLES = {
    "builder": "Builder",
    "cache": "ITimingCache",
    "config": "IBuilderConfig",
    "error": "ParserError",
    "layer": "ILayer",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "registry": "IPluginRegistry",
    "severity": "ILogger.Severity",
    "tensor": "ITensor",
}
RESULTS = {"get_output": "ITensor"}


def used_names(path):
    """(class, name) for every use of a class's name, the module's being ""."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Attribute):
            continue
        match node.value:
            case ast.Name(id="trt"):
                found.add(("", node.attr))
            case ast.Attribute(value=ast.Name(id="trt"), attr=owner):
                found.add((owner, node.attr))
            case ast.Name(id=name) if name in VARIABLES:
                found.add((VARIABLES[name], node.attr))
            case ast.Call(func=ast.Attribute(attr=method)) if method in RESULTS:
                found.add((RESULTS[method], node.attr))
    return {use for use in found if not use[1].startswith("__")}


@pytest.fixture(scope="module")
def used():
    folder = Path(package.__file__).parent
    return used_names(folder / "building.py") | used_names(Path(native_library.__file__))


@pytest.mark.parametrize("version", SURFACES)
def test_tensorrt_has_every_name_that_is_used(used, version):
    surface = SURFACES[version]
    assert len(used) > 40, "the reading of the code finds what it must"
    missing = {use for use in used - OF_RTX_ALONE if use[1] not in surface.get(use[0], ())}
    assert not missing
    assert ("FP16" in surface["BuilderFlag"]) == version.startswith("10."), (
        "names go, and none of those is used"
    )


def test_strong_typing_is_asked_for_where_it_is_a_choice_and_left_out_where_the_flag_is_gone():
    class Flag:
        STRONGLY_TYPED = 1

    assert _network_flags(type("trt", (), {"NetworkDefinitionCreationFlag": Flag})) == 2
    assert _network_flags(type("trt", (), {"NetworkDefinitionCreationFlag": object})) == 0


def main() -> None:
    """Record the TensorRT that is installed, as another version."""
    trt = importlib.import_module("tensorrt")
    owners = {
        owner: functools.reduce(getattr, filter(None, owner.split(".")), trt)
        for owner in SURFACES["10.15.1.29"]
    }
    found = {
        owner: [name for name in dir(thing) if not name.startswith("_")]
        for owner, thing in owners.items()
    }
    found[""] = [name for name in found[""] if name in owners or name == "get_plugin_registry"]
    RECORD.write_text(
        json.dumps({**SURFACES, trt.__version__: found}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
