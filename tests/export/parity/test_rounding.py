"""Half precision on a machine without it: the same values as numpy's float16, operator by
operator."""

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from srflow_export.parity.measure import psnr
from srflow_export.parity.photographs import photo_patches
from srflow_export.parity.runners import compute_in, round_as_on_gpus
from tests.export.running import run_graph
from tests.networks import random_srflow, tiny_config

TYPES = [(TensorProto.FLOAT16, np.float16), (TensorProto.BFLOAT16, ml_dtypes.bfloat16)]


def typed_graph(half, weight):
    """y = (relu(x·weight) as half) · 3 + x, in a graph with a local function."""
    body = [
        helper.make_node("Constant", [], ["three"], value=weight(3.0)),
        helper.make_node("Mul", ["a", "three"], ["b"]),
    ]
    function = helper.make_function(
        "srflow",
        "Triple",
        ["a"],
        ["b"],
        body,
        [helper.make_opsetid("", 18)],
    )
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=half),
        helper.make_node("Mul", ["h", "w"], ["m"]),
        helper.make_node("Relu", ["m"], ["r"]),
        helper.make_node("Triple", ["r"], ["t"], domain="srflow"),
        helper.make_node("Cast", ["t"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["f", "x"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy")
    w = weight(1.7)
    w.name = "w"
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("srflow", 1)]
    graph = helper.make_graph(nodes, "typed", [x], [y], [w])
    model = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=10)
    onnx.checker.check_model(model)
    return model


@pytest.mark.parametrize(("half", "dtype"), TYPES)
def test_every_half_value_is_rounded_after_its_operator(half, dtype):
    def weight(value):
        return numpy_helper.from_array(np.array(value, dtype), "")

    model = typed_graph(half, weight)
    x = np.random.default_rng(0).normal(size=1000).astype(np.float32) * 10
    x[0] = 30_000  # in float16 30,000 · 1.7 fits, and three times that overflows
    times = x.astype(dtype).astype(np.float32) * np.float32(np.array(1.7, dtype))
    tripled = np.maximum(times.astype(dtype).astype(np.float32), 0) * np.float32(3)
    with np.errstate(over="ignore"):
        expected = tripled.astype(dtype).astype(np.float32) + x
    np.testing.assert_array_equal(run_graph(round_as_on_gpus(model), x=x)[0], expected)
    if dtype is np.float16:  # why all this: the same graph as it stands is not rounded
        assert expected[0] == np.inf
        assert np.isfinite(run_graph(model, x=x)[0]).all()


@pytest.mark.parametrize(
    ("arithmetic", "dtype"),
    [("fp16", torch.float16), ("bf16", torch.bfloat16)],
)
def test_the_network_in_half_is_as_far_from_itself_as_by_torchs_own_operators(arithmetic, dtype):
    model = random_srflow(tiny_config(variant="published"))
    hr = torch.from_numpy(photo_patches(8)[0].lr)

    def latents_of(network):
        condition = network.condition(hr[..., ::4, ::4])
        return network.encode_conditioned(hr, condition)[0]

    with torch.no_grad():
        exact = latents_of(model)
        with torch.autocast("cpu", dtype=dtype):
            theirs = latents_of(model)
    with compute_in(model, arithmetic) as (network, _):
        ours = latents_of(network)
    for level, expected in exact.items():
        far = psnr(ours[level].numpy(), expected.numpy(), least_spread=0)
        as_far = psnr(theirs[level].numpy(), expected.numpy(), least_spread=0)
        assert far < 110
        assert far == pytest.approx(as_far, abs=0.5)
