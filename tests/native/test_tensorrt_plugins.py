"""The plugins in the real parser of TensorRT-RTX, which needs no GPU. Running an engine would need
one."""

from __future__ import annotations

import json

import onnx
import pytest
from onnx import helper

from srflow_export import onnx_models
from srflow_sdk.backends.native_library import PLUGINS
from tests.native.builders_list import build_plugins, rtx_links, run_rtx_builder
from tests.networks import random_srflow, tiny_config

pytestmark = pytest.mark.slow  # ten processes of TensorRT-RTX, a second each


@pytest.fixture(scope="module")
def links(tmp_path_factory):
    return rtx_links(tmp_path_factory.mktemp("links"))


@pytest.fixture(scope="module")
def library(links):
    return str(build_plugins(links))


@pytest.fixture(scope="module")
def sampler():
    """A sampler of `--precision fp16 --plugins`, with six steps and two splits."""
    return onnx_models.sampler_model(random_srflow(tiny_config(steps=2)), "fp16", flow_nodes=True)


def build(links, model, how, **variables):
    """The refusal of a model, or "", and what the plugins say; a crash is a failure for any
    file."""
    onnx.save(model, links / "model.onnx")
    result = run_rtx_builder(links, how, links / "model.onnx", **variables)
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout.splitlines()[-1]).get("refused", ""), result.stderr


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("scale_map", "cube", 'attribute scale_map is "cube"; it must be exp, sigmoid or tanh'),
        ("end", None, "attribute end is missing"),
        ("clamp", 1, "attribute clamp must be one float"),
        ("end", [24], "h is ?x48x?x?; it must be ?x24x?x?"),
        ("begin", [48], "attributes begin and end are 48 and 48; 0 <= begin < end must hold"),
    ],
    ids=["unknown map", "missing", "wrong type", "too narrow", "empty"],
)
def test_what_does_not_fit_is_refused_in_one_line(links, library, sampler, attribute, value, words):
    model = onnx.ModelProto.FromString(sampler.SerializeToString())
    tail = next(node for node in model.graph.node if node.op_type == "FlowStepTail")
    kept = [each for each in tail.attribute if each.name != attribute]
    del tail.attribute[:]
    tail.attribute.extend(
        kept + ([] if value is None else [helper.make_attribute(attribute, value)])
    )
    refusal, said = build(links, model, "with", **{PLUGINS: library})
    assert "cannot read the graph" in refusal
    assert f"srflow: FlowStepTail {tail.name}: {words}" in said.splitlines()


def test_srflow_exports_builder_takes_a_plugin_for_each_flow_operation_and_no_function(
    links, library, sampler
):
    named = {PLUGINS: library}
    nodes = sum(node.domain == "srflow" for node in sampler.graph.node)
    assert build(links, sampler, "with", **named)[0] == ""
    assert f"plugins: {nodes} instead of 0" in build(links, sampler, "without", **named)[0]
    refusal, _ = build(links, sampler, "with")  # which has functions in their place
    assert "cannot read the graph" in refusal, "a function has no second output"
    assert build(links, sampler, "without")[0] == ""
