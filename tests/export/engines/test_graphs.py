"""TensorRT's builders get other operators than the bundle's graph has, and the same results."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

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
    assert groups(before) == {1, 2, 4, 6}, "the steps of each level"
    assert groups(after) == {1}
    lr = np.random.default_rng(0).random((1, 3, 12, 10), np.float32)
    for one, other in zip(run(before, lr=lr), run(after, lr=lr), strict=True):
        assert np.abs(one - other).max() <= 2e-5 * np.abs(one).max()


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
    assert types == [TensorProto.INT64, TensorProto.BFLOAT16, TensorProto.BFLOAT16]
    onnx.checker.check_model(after, full_check=True)


@pytest.mark.parametrize("also_used", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
def test_a_convolution_after_nearest_doubling_is_a_transposed_one(size: tuple[int, int], *, also_used: bool) -> None:
    generator = np.random.default_rng(1)
    kernel, bias = generator.normal(size=(4, 3, 3, 3)), generator.normal(size=4)
    weights = {"kernel": kernel, "bias": bias, "scales": np.array([1, 1, 2, 2], np.float32)}
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["large"], **how),
        helper.make_node("Conv", ["large", "kernel", "bias"], ["y"], pads=[1] * 4, kernel_shape=[3, 3]),
    ]
    ends = ["y", "large"] if also_used else ["y"]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "doubling",
            [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [1, 3, None, None])],
            [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [1, None, None, None]) for name in ends],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    after = rewritten(model)
    assert operators(after) == ({"ConvTranspose": 1, "Resize": 1} if also_used else {"ConvTranspose": 1})
    assert "kernel" not in {tensor.name for tensor in after.graph.initializer}
    x = generator.normal(size=(1, 3, *size))
    for one, other in zip(reference(model, x), reference(after, x), strict=True):
        assert np.abs(one - other).max() < 1e-6


def reference(model: onnx.ModelProto, x: np.ndarray) -> list[Any]:
    return list(onnx.reference.ReferenceEvaluator(model).run(None, {"x": x}))
