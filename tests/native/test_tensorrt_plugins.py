"""The plugins in the real parser and builder of TensorRT-RTX, which need no GPU. Running an engine would need one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from srflow_export import onnx_models
from srflow_export.engines.graphs import rewritten, with_h_a
from srflow_export.flow_ops import append_functions
from srflow_sdk.backends.native_library import PLUGINS
from tests.native.conftest import ROOT, built_plugins
from tests.networks import random_srflow, tiny_config

pytestmark = pytest.mark.slow  # nvcc builds the plugins in half a minute

CHANNELS, STEPS, DRAWN = 12, 3, 6


@dataclass(frozen=True)
class Parsed:
    """What the parser found: `found` is empty if the file was refused; `log` is the whole log."""

    found: dict[str, Any]
    log: str


@pytest.fixture(scope="module")
def library(native_tree):
    return built_plugins(native_tree) / "runtime/tensorrt/libsrflow_trt.so"


@pytest.fixture(scope="module")
def links(tmp_path_factory):
    """A folder with a file named libtensorrt_rtx.so, without which plugins end the process."""
    spec = importlib.util.find_spec("tensorrt_rtx_libs")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("TensorRT-RTX is not installed: pip install 'srflow-sdk[rtx]'")
    (real,) = Path(spec.submodule_search_locations[0]).glob("libtensorrt_rtx.so.*")
    links = tmp_path_factory.mktemp("links")
    (links / "libtensorrt_rtx.so").symlink_to(real)
    return links


@pytest.fixture(scope="module")
def parse(links):
    """parse(model, library) runs TensorRT-RTX's parser in a separate process."""

    def run(model, *libraries):
        onnx.save(model, links / "model.onnx")
        return run_script(links, "parse", links / "model.onnx", *libraries)

    return run


def run_script(links, *arguments, **variables):
    """Run rtx_builder.py with TensorRT-RTX."""
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    environment[PLUGINS] = ""  # also where a library is installed
    environment["LD_LIBRARY_PATH"] = os.pathsep.join([str(links), os.environ.get("LD_LIBRARY_PATH", "")])
    command = [sys.executable, str(Path(__file__).with_name("rtx_builder.py")), *map(str, arguments)]
    result = subprocess.run(
        command, env=environment | variables, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr  # a crash is a failure for any file
    return Parsed(json.loads(result.stdout.splitlines()[-1]), result.stderr)


def small_model(conditioning=TensorProto.FLOAT, **attributes):
    """Both flow ops, one after the other, with open sizes. attributes: the tail's; None leaves one out."""
    named = {"plugin_namespace": "srflow", "plugin_version": "1"}
    tail = {"scale_map": "tanh", "order": "shift_first", "clamp": 0.7, "begin": [CHANNELS], "end": [2 * CHANNELS]}
    kept = {key: value for key, value in (tail | attributes).items() if value is not None}
    inputs = ["h", "head", "injector_scale", "injector_shift", "weight", "bias"]
    step = helper.make_node("FlowStepTail", inputs, ["mixed"], name="step", domain="srflow", **kept, **named)
    inputs = ["mixed", "prior", "noise", "tau"]
    split = helper.make_node("UnsqueezeSplit", inputs, ["out"], name="split", domain="srflow", bound=2.0, **named)

    def tensor(name, kind, channels, sides, batch="n"):
        return helper.make_tensor_value_info(name, kind, [batch, channels, *sides])

    coarse, fine = ("y", "x"), ("fine_y", "fine_x")
    tensors = [
        tensor("h", TensorProto.FLOAT, CHANNELS, coarse),
        tensor("head", conditioning, CHANNELS, coarse),
        tensor("injector_scale", conditioning, STEPS * CHANNELS, coarse, "b"),
        tensor("injector_shift", conditioning, STEPS * CHANNELS, coarse, "b"),
        tensor("prior", conditioning, 2 * DRAWN, fine),
        tensor("noise", TensorProto.FLOAT, DRAWN, fine),
        helper.make_tensor_value_info("tau", TensorProto.FLOAT, ["t"]),
    ]
    weights = {"weight": np.eye(CHANNELS, dtype=np.float32)[..., None, None], "bias": np.ones(CHANNELS, np.float32)}
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    output = tensor("out", TensorProto.FLOAT, CHANNELS // 4 + DRAWN, fine)
    graph = helper.make_graph([step, split], "flow_ops", tensors, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("srflow", 1)])
    model.ir_version = 10
    append_functions(model, scale_map="tanh", order="shift_first", split_bounded=True)
    return model


@pytest.mark.parametrize("conditioning", [TensorProto.FLOAT, TensorProto.FLOAT16], ids=["float32", "float16"])
def test_plugins_infer_shapes_and_an_engine_is_built(parse, library, conditioning):
    parsed = parse(small_model(conditioning), library)
    assert parsed.found["plugins"] == {
        "step": [[[-1, CHANNELS, -1, -1], "FLOAT"]],
        "split": [[[-1, CHANNELS // 4 + DRAWN, -1, -1], "FLOAT"]],
    }
    assert parsed.found["engine_bytes"] > 0
    without = parse(small_model(conditioning))  # the same file
    assert without.found["plugins"] == {}
    assert without.found["engine_bytes"] > 0


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"scale_map": "cube"}, 'attribute scale_map is "cube"; it must be exp, sigmoid or tanh'),
        ({"end": None}, "attribute end is missing"),
        ({"clamp": 1}, "attribute clamp must be one float"),
        ({"begin": [0]}, f"h is ?x{CHANNELS}x?x?; it must be ?x{2 * CHANNELS}x?x?"),
        ({"begin": [36], "end": [48]}, "attribute end is 48, but injector_scale has 36 channels"),
    ],
    ids=["unknown map", "missing", "wrong type", "too wide", "beyond the conditioning"],
)
def test_what_does_not_fit_is_refused_in_one_line(parse, library, attributes, words):
    parsed = parse(small_model(**attributes), library)
    assert parsed.found == {"parsed": False}
    ours = [line for line in parsed.log.splitlines() if line.startswith("srflow: ")]
    assert ours
    assert set(ours) == {f"srflow: FlowStepTail step: {words}"}


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    """A sampler of `--precision fp16 --plugins`, with six steps and two splits."""
    file = tmp_path_factory.mktemp("plugins") / "sampler.onnx"
    model = onnx_models.sampler_model(random_srflow(tiny_config(steps=2)), "fp16", flow_nodes=True)
    file.write_bytes(onnx_models.finished(model, {}))
    return file


def test_a_tail_gives_h_a_in_half_too_and_the_network_has_fewer_layers(parse, library, sampler):
    before = rewritten(onnx.load(sampler))
    one, other = (parse(model, library).found for model in (before, with_h_a(before)))
    assert all(len(outputs) == 1 for outputs in one["plugins"].values())
    seconds = [outputs[1] for outputs in other["plugins"].values() if len(outputs) > 1]
    assert seconds == [[[-1, channels, -1, -1], "HALF"] for channels in (24, 12, 6)]
    assert other["layers"] < one["layers"]


def test_srflow_exports_builder_takes_a_plugin_for_each_flow_operation_and_no_function(links, library, sampler):
    named = {PLUGINS: str(library)}
    nodes = sum(node.domain == "srflow" for node in onnx.load(sampler).graph.node)
    assert run_script(links, "with", sampler, **named).found["bytes"] > 0
    refused = run_script(links, "without", sampler, **named).found["refused"]
    assert f"plugins: {nodes} instead of 0" in refused
    refused = run_script(links, "with", sampler).found["refused"]  # which has functions in their place
    assert "cannot read the graph" in refused, "a function has no second output"
    assert run_script(links, "without", sampler).found["bytes"] > 0
