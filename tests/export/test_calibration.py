"""Ranges of activations: from the exporter's crops, and with the least error."""

import numpy as np
import pytest

from srflow_export import onnx_models
from srflow_export._calibration import _least_error, activation_ranges, calibration_crops, quick_crops
from srflow_export.parity import photographs
from tests.networks import random_srflow, tiny_config


@pytest.mark.parametrize("multiple", [2, 5])
def test_crops_are_twelve_lr_images_of_a_multiples_size(multiple):
    crops = calibration_crops(multiple)
    assert len(crops) == 12
    for crop in crops:
        assert crop.shape == (1, 3, 48 // multiple * multiple, 48 // multiple * multiple)
        assert crop.dtype == np.float32
        assert 0 <= crop.min() < crop.max() <= 1
    assert len({crop.tobytes() for crop in crops}) == 12
    assert [crop.shape[2] for crop in quick_crops(multiple)] == [32 // multiple * multiple] * 6


def test_no_crop_is_part_of_the_gates_photographs():
    seen = {row.tobytes() for photo in photographs(1) for row in _windows_of_eight(photo.lr)}
    assert not any(row.tobytes() in seen for crop in calibration_crops(1) for row in _windows_of_eight(crop))


def _windows_of_eight(lr):
    """Every run of eight pixels in a row."""
    rows = np.round(255 * lr[0]).astype(np.uint8).transpose(1, 2, 0)
    return [rows[y, x : x + 8] for y in range(rows.shape[0]) for x in range(rows.shape[1] - 7)]


@pytest.mark.slow
def test_every_convolutions_input_has_a_range_that_holds_zero():
    crops = quick_crops(2)[:2]
    encoder = onnx_models.integer_encoder_model(random_srflow(tiny_config()), crops)
    ranges = activation_ranges(encoder, crops)
    assert set(ranges) == {node.input[0] for node in encoder.graph.node if node.op_type == "Conv"}
    assert all(low <= 0 <= high and low < high for low, high in ranges.values())
    low, high = ranges["lr"]
    assert low == 0
    assert 0.4 < high <= 1


def _fourth_power(values, ends):
    low, high = ends
    step = (high - low) / 255
    zero = np.round(-low / step)
    rounded = (np.clip(np.round(values / step) + zero, 0, 255) - zero) * step
    return float(((rounded - values) ** 4).mean())


@pytest.mark.parametrize("outlier", [4.0, 40.0, 400.0])
def test_a_range_cuts_off_rare_values_only_as_far_as_that_lessens_the_error(outlier):
    values = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    values[0] = outlier
    ends = float(values.min()), float(values.max())
    found = _least_error(values, ends)
    assert ends[0] <= found[0] < 0 < found[1] <= ends[1]
    others = [(share * ends[0], other * ends[1]) for share in (0.7, 1) for other in (0.4, 0.7, 1)]
    best = min(_fourth_power(values, each) for each in others)
    assert _fourth_power(values, found) <= 1.05 * best  # of a histogram's bins, not of the values themselves


def test_a_tensor_that_is_zero_everywhere_has_an_empty_range():
    assert _least_error(np.zeros(10, np.float32), (0.0, 0.0)) == (0.0, 0.0)
