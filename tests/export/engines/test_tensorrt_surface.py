"""Every name of TensorRT that this code uses is there, from the oldest version that it takes to the newest known one.

TensorRT cannot run here. What its module has was recorded from its own bindings by record_tensorrt_surface.py; what the
code uses is read from the code: `config.clear_flag` is IBuilderConfig's, since in these modules `config` is always one.
"""

import ast
import functools
import json
from pathlib import Path

import pytest

import srflow_export.engines as package
from srflow_export.engines.building import _network_flags
from srflow_sdk.backends import native_library

SURFACES = json.loads(Path(__file__).with_name("tensorrt_surface.json").read_text())
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
RESULTS = {"get_timing_cache": "ITimingCache", "get_output": "ITensor"}


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


def test_the_reading_of_the_code_finds_what_it_must(used):
    assert {
        ("", "OnnxParser"),
        ("", "get_plugin_registry"),
        ("BuilderFlag", "TF32"),
        ("Builder", "build_serialized_network"),
        ("IBuilderConfig", "progress_monitor"),
        ("ILayer", "type"),
        ("ILogger.Severity", "ERROR"),
        ("IOptimizationProfile", "set_shape"),
        ("IPluginRegistry", "load_library"),
        ("ITensor", "dtype"),
        ("ITimingCache", "serialize"),
        ("ParserError", "node_name"),
    } <= used
    assert len(used) > 45


@pytest.mark.parametrize("version", SURFACES)
def test_tensorrt_has_every_name_that_is_used(used, version):
    surface = SURFACES[version]
    missing = {use for use in used - OF_RTX_ALONE if use[1] not in surface.get(use[0], ())}
    assert not missing


@pytest.mark.parametrize("version", SURFACES)
def test_only_tensorrt_rtx_has_the_names_that_are_said_to_be_its_own(used, version):
    assert used >= OF_RTX_ALONE
    assert not any(name in SURFACES[version].get(owner, ()) for owner, name in OF_RTX_ALONE)


def test_tensorrt_rtx_has_every_name_that_is_used(rtx, used):
    owners = {owner: functools.reduce(getattr, filter(None, owner.split(".")), rtx) for owner, _ in used}
    assert not {use for use in used if not hasattr(owners[use[0]], use[1])}


def test_nothing_that_tensorrt_11_dropped_is_used(used):
    old, new = SURFACES["10.15.1.29"], SURFACES["11.4.0.106"]
    dropped = {(owner, name) for owner in old for name in set(old[owner]) - set(new[owner])}
    assert ("BuilderFlag", "FP16") in dropped
    assert not used & dropped


def test_strong_typing_is_asked_for_where_it_is_a_choice_and_left_out_where_the_flag_is_gone():
    class Flag:
        STRONGLY_TYPED = 1

    assert _network_flags(type("trt", (), {"NetworkDefinitionCreationFlag": Flag})) == 2
    assert _network_flags(type("trt", (), {"NetworkDefinitionCreationFlag": object})) == 0
