"""The flow op in three implementations: torch, the function that ONNX Runtime inlines, and the
native kernel."""

from typing import get_args

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from srflow_export import flow_ops
from srflow_training.model.config import AffineOrder, ScaleMap
from tests.native import models

SCALE_MAPS = get_args(ScaleMap)
ORDERS = get_args(AffineOrder)
TOLERANCE = 4e-6  # relative to the numbers' size: some 30 roundings
HALF = torch.float16


def assert_tails_equal(library, scale_map, order, **shapes):
    inputs = models.tail_inputs(**shapes)
    clamp = 1.5 if scale_map == "tanh" else 0.0
    step = {"step": models.STEP, "scale_map": scale_map, "order": order, "clamp": clamp}
    results = [
        flow_ops.flow_step_tail(**given, **step) for given in (inputs, models.to_double(inputs))
    ]
    size = models.tail_size(inputs, scale_map, order, clamp=clamp)
    proto = models.tail_model(inputs, scale_map, order, clamp=clamp)
    plain, exact = (result.numpy() for result in results)
    for actual in (plain, models.run(proto, inputs, None), models.run(proto, inputs, library)):
        assert actual.shape == exact.shape
        assert np.isfinite(actual).all()
        assert np.max(np.abs(actual - exact) / size) <= TOLERANCE


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("scale_map", SCALE_MAPS)
def test_tails_are_equal_for_both_variants(ort_library, scale_map, order, dtype):
    assert_tails_equal(ort_library, scale_map, order, dtype=dtype)
    assert_tails_equal(ort_library, scale_map, order, dtype=dtype, conditioning_batch=3)


@pytest.mark.parametrize("scale_map", SCALE_MAPS)
def test_tails_are_equal_at_extreme_scales(ort_library, scale_map):
    """Raw outputs up to about 45: their exp is 1e19, and a sigmoid's scale is at its minimum,
    1e-4."""
    assert_tails_equal(ort_library, scale_map, "scale_first", spread=12.0)
    assert_tails_equal(ort_library, scale_map, "shift_first", spread=12.0, dtype=HALF)


def test_tails_are_equal_for_random_shapes(ort_library):
    random = np.random.default_rng(0)
    for _ in range(8):
        batch, channels, height, width = (
            int(value) for value in random.integers((1, 1, 1, 1), (4, 30, 40, 40))
        )
        shapes = {"batch": batch, "channels": channels, "size": (height, width)}
        assert_tails_equal(
            ort_library,
            "tanh",
            "scale_first",
            **shapes,
            conditioning_batch=random.choice([1, batch]),
        )


def test_a_chain_of_tails_may_work_in_place(ort_library):
    """ONNX Runtime gives a tail its input's memory if that input is no longer needed."""
    inputs = models.tail_inputs(batch=1, size=(40, 50))
    proto = models.tail_model(inputs, "tanh", "scale_first", clamp=0.5)
    (node,) = proto.graph.node
    chain = [onnx.NodeProto() for _ in range(4)]
    names = ["h", "between_1", "between_2", "between_3", "out"]
    for index, copy in enumerate(chain):
        copy.CopyFrom(node)
        copy.input[0], copy.output[0] = names[index : index + 2]
    del proto.graph.node[:]
    proto.graph.node.extend(chain)
    inlined, native, one = (
        models.run(proto, inputs, library, threads=threads)
        for library, threads in ((None, 2), (ort_library, 2), (ort_library, 1))
    )
    np.testing.assert_array_equal(native, one, "for any number of threads")
    np.testing.assert_allclose(native, inlined, rtol=1e-4, atol=1e-5 * np.abs(inlined).max())


def test_kernels_tell_their_output_s_shape(ort_library):
    """Shapes are known before a run, because ONNX Runtime plans memory with them; named axes keep
    their names."""

    def known(proto):
        session = ort.InferenceSession(proto.SerializeToString(), models.options(ort_library))
        return session.get_outputs()[0].shape

    tail = models.tail_inputs()
    attributes = models.tail_attributes("tanh", "scale_first", clamp=1.5, channels=12)
    named = ["h_0", 12, "injector_scale_2", "injector_scale_3"]
    assert known(models.op_model(tail, attributes)) == named
    assert known(models.op_model(tail, attributes, static=True)) == [3, 12, 6, 10]


def test_the_input_that_does_not_fit_is_named(ort_library):
    inputs = models.tail_inputs(batch=2, conditioning_batch=2)
    proto = models.tail_model(inputs, "tanh", "scale_first", clamp=1.5)
    for name in {*inputs} - {"h"}:
        wrong = {**inputs, name: inputs[name][:-1]}
        # A batch of 1 is valid for injector_scale, but injector_shift must have the same.
        said = {"injector_scale": "injector_shift"}.get(name, name)
        with pytest.raises(Exception, match=f"{said} is .*; it must be"):
            models.run(proto, wrong, ort_library)
    attributes = models.tail_attributes("tanh", "scale_first", clamp=1.5, channels=12) | {
        "begin": [36],
        "end": [48],
    }
    with pytest.raises(Exception, match="attribute end is 48, but injector_scale has 36 channels"):
        models.run(models.op_model(inputs, attributes), inputs, ort_library)
