"""TensorRT's builders get other operators with plugins than the bundle's graph has, and the same
results."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import helper

from srflow_export import onnx_models
from srflow_export.engines.graphs import convert_for_plugins
from tests.export.running import run_graph
from tests.networks import random_srflow, tiny_config


def as_plugins(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose functions read and write as the plugins do, so that ONNX Runtime can compute
    it."""
    result = onnx.ModelProto.FromString(model.SerializeToString())
    for index, node in enumerate(result.graph.node):
        if node.domain == "srflow" and len(node.output) == 1:
            node.output.append(f"unused{index}")
    (function,) = result.functions
    for node in function.node:
        node.input[:] = ["planes" if name == "head" else name for name in node.input]
    function.node.insert(0, helper.make_node("Transpose", ["head"], ["planes"], perm=[0, 3, 1, 2]))
    function.attribute.extend(["channels_last", "h_a"])
    function.output.append("h_a_last")
    function.node.append(
        helper.make_node("Slice", ["out", "none", "kept", "channel_axis"], ["first_half"])
    )
    function.node.append(
        helper.make_node("Cast", ["first_half"], ["h_a_in_half"], to=onnx.TensorProto.FLOAT16)
    )
    function.node.append(
        helper.make_node("Transpose", ["h_a_in_half"], ["h_a_last"], perm=[0, 2, 3, 1])
    )
    return result


def test_plugins_take_heads_and_give_h_a_with_channels_last() -> None:
    before = onnx_models.sampler_model(random_srflow(tiny_config(steps=2)), "fp16", flow_nodes=True)
    after = convert_for_plugins(before)
    counts = [Counter(node.op_type for node in model.graph.node) for model in (before, after)]
    assert [[count[op] for op in ("Slice", "Cast", "Transpose")] for count in counts] == [
        [4, 10, 0],
        [1, 7, 9],
    ]
    tails = [node for node in after.graph.node if node.op_type == "FlowStepTail"]
    assert [len(tail.output) for tail in tails] == [2, 1] * 3, (
        "the last step of a level is unsqueezed"
    )
    generator = np.random.default_rng(0)
    inputs = {"tau": np.ones(1, np.float32)}
    for entry in before.graph.input:
        dimensions = entry.type.tensor_type.shape.dim
        if len(dimensions) == 4:
            side = 32 >> int(entry.name.partition("level")[2][0])
            type_ = helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
            inputs[entry.name] = generator.normal(
                size=(1, dimensions[1].dim_value, side, side)
            ).astype(type_)
    drawn = [run_graph(model, **inputs)[0] for model in (as_plugins(after), before)]
    np.testing.assert_array_equal(*drawn)
