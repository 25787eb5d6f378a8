"""The flow ops in three implementations: torch, the function that ONNX Runtime inlines, and the native kernel."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from srflow_export import flow_ops
from srflow_training.model.config import AffineOrder, ScaleMap
from tests.native import models

SCALE_MAPS: tuple[ScaleMap, ...] = get_args(ScaleMap)
ORDERS: tuple[AffineOrder, ...] = get_args(AffineOrder)
TOLERANCE = 4e-6  # relative to the numbers' size: some 30 roundings
HALF = torch.float16


def assert_close(actual: np.ndarray, expected: np.ndarray, size: np.ndarray, tolerance: float = TOLERANCE) -> None:
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    assert np.max(np.abs(actual - expected) / size) <= tolerance


def assert_tails_equal(library: Path, scale_map: ScaleMap, order: AffineOrder, **shapes: Any) -> None:
    inputs = models.tail_inputs(**shapes)
    clamp = 1.5 if scale_map == "tanh" else 0.0
    step: dict[str, Any] = {"step": models.STEP, "scale_map": scale_map, "order": order, "clamp": clamp}
    exact = flow_ops.flow_step_tail(**models.in_double(inputs), **step).numpy()
    size = models.tail_size(inputs, scale_map, order, clamp=clamp)
    proto = models.tail_model(inputs, scale_map, order, clamp=clamp)
    assert_close(flow_ops.flow_step_tail(**inputs, **step).numpy(), exact, size)
    assert_close(models.run(proto, inputs, None), exact, size)
    assert_close(models.run(proto, inputs, library), exact, size)


def assert_splits_equal(library: Path, bound: float | None, **shapes: Any) -> None:
    inputs = models.split_inputs(**shapes)
    exact = flow_ops.unsqueeze_split(**models.in_double(inputs), bound=bound).numpy()
    logs = np.abs(inputs["head"].double().numpy()[:, inputs["noise"].shape[1] :])
    size = np.abs(exact) + 1
    size[:, -logs.shape[1] :] *= 1 + logs  # an error of logs is an error of their exponential
    proto = models.split_model(inputs, bound=bound)
    assert_close(flow_ops.unsqueeze_split(**inputs, bound=bound).numpy(), exact, size)
    assert_close(models.run(proto, inputs, None), exact, size)
    assert_close(models.run(proto, inputs, library), exact, size)


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("scale_map", SCALE_MAPS)
def test_tails_are_equal_for_both_variants(
    ort_library: Path, scale_map: ScaleMap, order: AffineOrder, dtype: torch.dtype
) -> None:
    assert_tails_equal(ort_library, scale_map, order, dtype=dtype)
    assert_tails_equal(ort_library, scale_map, order, dtype=dtype, conditioning_batch=3)


@pytest.mark.parametrize("scale_map", SCALE_MAPS)
def test_tails_are_equal_at_extreme_scales(ort_library: Path, scale_map: ScaleMap) -> None:
    """Raw outputs up to about 45: their exp is 1e19, and a sigmoid's scale is at its minimum, 1e-4."""
    assert_tails_equal(ort_library, scale_map, "scale_first", spread=12.0)
    assert_tails_equal(ort_library, scale_map, "shift_first", spread=12.0, dtype=HALF)


def test_tails_are_equal_for_random_shapes(ort_library: Path) -> None:
    random = np.random.default_rng(0)
    for _ in range(12):
        batch, channels, height, width = (int(value) for value in random.integers((1, 1, 1, 1), (4, 30, 40, 40)))
        shapes = {"batch": batch, "channels": channels, "size": (height, width)}
        assert_tails_equal(ort_library, "tanh", "scale_first", **shapes, conditioning_batch=random.choice([1, batch]))


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@pytest.mark.parametrize("bound", [None, 2.0])
def test_splits_are_equal_for_both_kinds_of_logs(ort_library: Path, bound: float | None, dtype: torch.dtype) -> None:
    assert_splits_equal(ort_library, bound, dtype=dtype)
    assert_splits_equal(ort_library, bound, dtype=dtype, taus=3)
    assert_splits_equal(ort_library, bound, dtype=dtype, spread=12.0)


def test_splits_are_equal_for_random_shapes(ort_library: Path) -> None:
    random = np.random.default_rng(0)
    for _ in range(12):
        batch, kept, drawn, height, width = (int(value) for value in random.integers(1, (4, 9, 9, 20, 20)))
        size = (2 * height, 2 * width)
        assert_splits_equal(ort_library, 2.0, batch=batch, kept=kept, drawn=drawn, size=size, taus=1)


def test_numbers_of_threads_give_the_same_bits(ort_library: Path) -> None:
    inputs = models.tail_inputs(size=(64, 65))
    proto = models.tail_model(inputs, "exp", "scale_first", clamp=0.0)
    one, two = (models.run(proto, inputs, ort_library, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_a_chain_of_tails_may_work_in_place(ort_library: Path) -> None:
    """ONNX Runtime gives a tail its input's memory if that input is no longer needed."""
    inputs = models.tail_inputs(batch=1, size=(40, 50))
    proto = models.tail_model(inputs, "tanh", "scale_first", clamp=0.5)
    (node,) = proto.graph.node
    chain = []
    for index in range(4):
        chain.append(onnx.NodeProto())
        chain[-1].CopyFrom(node)
        chain[-1].input[0], chain[-1].output[0] = ("h", "out") if index == 0 else (f"out_{index}", "out")
        chain[-1].output[0] = "out" if index == 3 else f"out_{index + 1}"
    del proto.graph.node[:]
    proto.graph.node.extend(chain)
    inlined, native = (models.run(proto, inputs, library) for library in (None, ort_library))
    np.testing.assert_allclose(native, inlined, rtol=1e-4, atol=1e-5 * np.abs(inlined).max())


def test_kernels_tell_their_output_s_shape(ort_library: Path) -> None:
    """Shapes are known before a run, because ONNX Runtime plans memory with them; named axes keep their names."""

    def known(proto: onnx.ModelProto) -> list[str | int]:
        session = ort.InferenceSession(proto.SerializeToString(), models.options(ort_library))
        shape: list[str | int] = session.get_outputs()[0].shape
        return shape

    tail, split = models.tail_inputs(), models.split_inputs()
    attributes = models.tail_attributes("tanh", "scale_first", clamp=1.5, channels=12)
    assert known(models.op_model("FlowStepTail", tail, attributes, static=True)) == [3, 12, 6, 10]
    assert known(models.op_model("FlowStepTail", tail, attributes)) == [
        "h_0",
        12,
        "injector_scale_2",
        "injector_scale_3",
    ]
    assert known(models.op_model("UnsqueezeSplit", split, {"bound": 0.0}, static=True)) == [3, 9, 6, 10]
    assert known(models.op_model("UnsqueezeSplit", split, {"bound": 0.0})) == ["noise_0", 9, "noise_2", "noise_3"]


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("scale_map", "softplus", 'scale_map is "softplus"; it must be exp, sigmoid or tanh'),
        ("order", "both", 'order is "both"; it must be scale_first or shift_first'),
        ("begin", [1, 2], "attribute begin must be one integer"),
        ("begin", [24], "begin and end are 24 and 24; 0 <= begin < end must hold"),
        ("clamp", 0.0, "clamp is 0.000000; for the tanh map it must be positive and finite"),
        ("clamp", -1.0, "clamp is -1.000000; for the tanh map it must be positive and finite"),
        ("clamp", math.inf, "clamp is inf; for the tanh map it must be positive and finite"),
        ("clamp", math.nan, "clamp is nan; for the tanh map it must be positive and finite"),
    ],
)
def test_attributes_without_meaning_are_refused(ort_library: Path, attribute: str, value: Any, message: str) -> None:
    inputs = models.tail_inputs()
    attributes = models.tail_attributes("tanh", "scale_first", clamp=1.5, channels=12) | {attribute: value}
    proto = models.op_model("FlowStepTail", inputs, attributes)
    with pytest.raises(Exception, match=re.escape(message)):
        ort.InferenceSession(proto.SerializeToString(), models.options(ort_library))


@pytest.mark.parametrize("bound", [-2.0, math.inf, math.nan])
def test_a_split_s_bound_without_meaning_is_refused(ort_library: Path, bound: float) -> None:
    proto = models.op_model("UnsqueezeSplit", models.split_inputs(), {"bound": bound}, split_bounded=True)
    with pytest.raises(Exception, match=r"bound is .*; it must be positive and finite, or 0 for none"):
        ort.InferenceSession(proto.SerializeToString(), models.options(ort_library))


@pytest.mark.parametrize("name", ["head", "injector_scale", "injector_shift", "mixing_weight", "mixing_bias"])
def test_tail_names_the_input_that_does_not_fit(ort_library: Path, name: str) -> None:
    inputs = models.tail_inputs(batch=2, conditioning_batch=2)
    proto = models.tail_model(inputs, "tanh", "scale_first", clamp=1.5)
    inputs[name] = inputs[name][:-1]
    if name == "injector_scale":  # a batch of 1 is valid, but injector_shift must have the same
        name = "injector_shift"
    with pytest.raises(Exception, match=f"{name} is .*; it must be"):
        models.run(proto, inputs, ort_library)


def test_tail_refuses_a_step_that_the_level_does_not_have(ort_library: Path) -> None:
    inputs = models.tail_inputs()
    attributes = models.tail_attributes("tanh", "scale_first", clamp=1.5, channels=12) | {"begin": [36], "end": [48]}
    with pytest.raises(Exception, match="attribute end is 48, but injector_scale has 36 channels"):
        models.run(models.op_model("FlowStepTail", inputs, attributes), inputs, ort_library)


@pytest.mark.parametrize("name", ["head", "noise", "tau"])
def test_split_names_the_input_that_does_not_fit(ort_library: Path, name: str) -> None:
    inputs = models.split_inputs(taus=3)
    proto = models.split_model(inputs, bound=None)
    inputs[name] = inputs[name][:-1]
    with pytest.raises(Exception, match=f"{name} is .*; it must be"):
        models.run(proto, inputs, ort_library)
