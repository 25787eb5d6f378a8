import math

import numpy as np
import pytest

from srflow_sdk import ArgumentError, Latents
from srflow_sdk.latents import arrays

from .pictures import MODEL, normal_arrays, normal_latents


def test_they_cannot_be_changed_from_outside():
    given = normal_arrays(padded_height=96, padded_width=72)
    latents = Latents(given, height=90, width=70, model_sha256=MODEL)
    before = latents.levels[1].copy()
    frozen = arrays.read_only(normal_arrays(padded_height=96, padded_width=72))
    kept = Latents(frozen, height=90, width=70, model_sha256=MODEL)
    # which need no copy
    assert all(np.shares_memory(kept.levels[level], array) for level, array in frozen.items())
    given[1][:] = 5
    np.testing.assert_array_equal(latents.levels[1], before)
    for array in (latents.levels[1], latents.scaled(0.5).levels[1]):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0, 0] = 1
    with pytest.raises(TypeError):
        latents.levels[1] = before
    with pytest.raises(AttributeError):
        latents.height = 3


def test_bits_per_dimension_is_for_8_bit_levels():
    latents = normal_latents(log_likelihood=-1000.0)
    assert latents.log_likelihood == -1000
    assert latents.bits_per_dimension == pytest.approx(8 + 1000 / (3 * 90 * 70 * math.log(2)))


def test_log_likelihood_is_forgotten_once_they_change():
    latents = normal_latents(log_likelihood=5.0)
    assert [one.log_likelihood for one in (latents.scaled(0.5), latents.normalised(1))] == [
        None
    ] * 2
    assert [one.log_likelihood for one in (latents.scaled(1), latents.scaled({2: 1}))] == [5, 5]
    assert latents == latents.scaled(1)  # the same object: nothing changed
    assert latents != normal_latents(log_likelihood=5.0)


def test_scaled_multiplies_the_levels_that_have_a_tau():
    latents = normal_latents()
    for level, array in latents.scaled(0.3).levels.items():
        np.testing.assert_array_equal(array, latents.levels[level] * np.float32(0.3))
    result = latents.scaled({1: 0, 3: 2})
    assert not result.levels[1].any()
    np.testing.assert_array_equal(result.levels[2], latents.levels[2])
    np.testing.assert_array_equal(result.levels[3], latents.levels[3] * 2)


def test_odd_arrays_are_refused_in_one_line():
    good = normal_arrays(padded_height=96, padded_width=72)
    usual = {"height": 90, "width": 70, "model_sha256": MODEL}
    cases = [
        ({}, {}, "^levels is empty"),
        (
            {1: good[1].astype(np.float64)},
            {},
            r"^level 1 is float64 \(6, 48, 36\); it must be a float32 array C×h×w$",
        ),
        (
            {1: good[1], 2: good[1]},
            {},
            r"^the levels are of pictures of 96×72, 192×144, not of one",
        ),
        (good, {"height": 97}, r"^the levels are of pictures of 96×72, not of one of 97×70$"),
        (
            good,
            {"log_likelihood": math.nan},
            r"^log_likelihood is nan; it must be a finite number$",
        ),
        (good, {"precision": "fp8"}, "^precision is 'fp8'; it must be one of bundle, bf16, int8"),
    ]
    for levels, changed, message in cases:
        with pytest.raises(ArgumentError, match=message):
            Latents(levels, **{**usual, **changed})
