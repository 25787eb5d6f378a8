"""TensorRT's builders get other operators than the bundle's graph has, and the same results."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from srflow_export import onnx_models
from srflow_export.engines.graphs import rewritten, with_h_a
from srflow_sdk.model.bundle import Bundle
from tests.networks import random_srflow, tiny_config


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> list[Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def groups(model: onnx.ModelProto) -> set[int]:
    return {
        attribute.i
        for node in model.graph.node
        if node.op_type == "Conv"
        for attribute in node.attribute
        if attribute.name == "group"
    }


def test_the_embedded_encoder_has_no_groups_left_and_gives_the_same_conditioning() -> None:
    before = onnx.load(Bundle.embedded().file("encoder.onnx"))
    after = rewritten(before)
    onnx.checker.check_model(after)
    assert groups(before) == {1, 4, 6}, "the steps of each level"
    assert groups(after) == {1}
    lr = np.random.default_rng(0).random((1, 3, 12, 10), np.float32)
    for one, other in zip(run(before, lr=lr), run(after, lr=lr), strict=True):
        assert np.abs(one - other).max() <= 2e-5 * np.abs(one).max()


@pytest.mark.parametrize("scale", [4, 8])
@pytest.mark.parametrize(
    "maps",
    [{}, {"scale_map": "exp", "affine_order": "scale_first"}, {"scale_map": "sigmoid"}, {"level_feature": False}],
    ids=str,
)
def test_what_an_encoders_steps_share_is_split_once_and_joined_nowhere(scale: int, maps: dict[str, Any]) -> None:
    before = onnx_models.encoder_model(random_srflow(tiny_config(scale=scale, steps=2, **maps)))
    after = rewritten(before)
    onnx.checker.check_model(after, full_check=True)
    lr = np.random.default_rng(0).random((1, 3, 16, 8), np.float32)
    for one, other in zip(run(before, lr=lr), run(after, lr=lr), strict=True):
        assert np.abs(one - other).max() <= 2e-5 * np.abs(one).max()
    assert not {"Reshape", "Unsqueeze"} & operators(after).keys(), "no phases are interleaved"
    splits = 4 * scale.bit_length()  # in each level: of hidden tensors, of couplings, and of a head for each step
    assert operators(after)["Split"] == splits
    made_by = {name: node.op_type for node in after.graph.node for name in node.output}
    joined = {node.input[0] for node in after.graph.node if node.op_type == "Split"}
    assert "Concat" not in {made_by[name] for name in joined}
    of_injectors = {made_by[each.name] for each in after.graph.output if "injector" in each.name}
    assert "Split" not in of_injectors


def test_h_a_comes_from_the_tail_before_and_from_the_unsqueeze() -> None:
    """In half, as the plugin gives it: a second output of the function here, so that ONNX Runtime can compute it."""
    before = rewritten(onnx_models.sampler_model(random_srflow(tiny_config(steps=2)), "fp16", flow_nodes=True))
    after = with_h_a(before)
    assert [operators(before)[op] for op in ("Slice", "Cast")] == [4, 6]
    assert [operators(after)[op] for op in ("Slice", "Cast")] == [1, 3], "of the first latent, and two for priors"
    tails = [node for node in after.graph.node if node.op_type == "FlowStepTail"]
    asked = [helper.get_node_attr_value(tail, "h_a") for tail in tails]
    assert asked == [len(tail.output) - 1 for tail in tails] == [1, 0] * 3, "the last step of a level is unsqueezed"
    for index, tail in enumerate(tails):
        tail.output[1:] = tail.output[1:] or [f"unused{index}"]
    (function,) = [function for function in after.functions if function.name == "FlowStepTail"]
    function.output.append("h_a_in_half")
    function.node.append(helper.make_node("Slice", ["out", "none", "kept", "channel_axis"], ["first_half"]))
    function.node.append(helper.make_node("Cast", ["first_half"], ["h_a_in_half"], to=TensorProto.FLOAT16))
    function.attribute.append("h_a")
    generator = np.random.default_rng(0)
    inputs = {"tau": np.ones(1, np.float32)}
    for entry in before.graph.input:
        dimensions = entry.type.tensor_type.shape.dim
        if len(dimensions) == 4:
            side = 32 >> int(entry.name.partition("level")[2][0])
            type_ = helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
            inputs[entry.name] = generator.normal(size=(1, dimensions[1].dim_value, side, side)).astype(type_)
    (one,), (other,) = run(before, **inputs), run(after, **inputs)
    assert np.array_equal(one, other)


def test_parts_of_bfloat16_weights_are_bfloat16() -> None:
    kernel = helper.make_tensor("kernel", TensorProto.BFLOAT16, [4, 2, 1, 1], range(8))
    ends = [helper.make_tensor_value_info(name, TensorProto.BFLOAT16, [1, 4, 2, 2]) for name in ("x", "y")]
    node = helper.make_node("Conv", ["x", "kernel"], ["y"], group=2)
    after = rewritten(helper.make_model(helper.make_graph([node], "groups", ends[:1], ends[1:], [kernel])))
    types = [tensor.data_type for tensor in after.graph.initializer]
    assert types == [TensorProto.BFLOAT16, TensorProto.BFLOAT16]
    onnx.checker.check_model(after, full_check=True)
