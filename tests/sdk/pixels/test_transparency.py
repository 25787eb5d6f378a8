"""Colour under transparency reaches nothing that is seen, however the picture is cut; alpha grows
smoothly."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from srflow_sdk.pixels.transparency import enlarge, enlarge_alpha, fill_hidden

QUICK = settings(max_examples=50, deadline=None)
SIDES = st.integers(1, 24)
SEEDS = st.integers(0, 999)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def alpha_with_holes(height, width, *, seed):
    """A few visible specks, sparse or dense, some of them half transparent."""
    rng = np.random.default_rng(seed)
    visible = rng.random((height, width)) < rng.choice([0.01, 0.1, 0.6])
    return np.asarray(visible * rng.integers(1, 256, (height, width)), np.uint8)


def within_reach(alpha, reach):
    """Pixels at most `reach` away from a visible one, by looking at every square."""
    padded = np.pad(alpha > 0, reach)
    return np.asarray(
        np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1)).any(
            axis=(2, 3),
        )
    )


def times(plane, scale):
    return enlarge(plane, plane.shape[0] * scale, plane.shape[1] * scale)


@QUICK
@given(
    height=SIDES,
    width=SIDES,
    channels=st.sampled_from([1, 3]),
    reach=st.integers(1, 8),
    seed=SEEDS,
)
def test_hidden_colours_change_nothing_within_reach_of_what_is_seen(
    height, width, channels, reach, seed
):
    alpha = alpha_with_holes(height, width, seed=seed)
    colour = noise(height, width, channels, seed=seed)
    other = np.where(alpha[..., None] > 0, colour, noise(height, width, channels, seed=seed + 1))
    near = within_reach(alpha, reach)
    first = fill_hidden(colour, alpha, reach)
    second = fill_hidden(other, alpha, reach)
    np.testing.assert_array_equal(first[near], second[near])
    np.testing.assert_array_equal(first[~near], colour[~near])
    np.testing.assert_array_equal(first[alpha > 0], colour[alpha > 0])
    assert first.dtype == np.float32


@QUICK
@given(
    above=st.integers(0, 12),
    below=st.integers(0, 12),
    rows=st.integers(1, 8),
    reach=st.integers(1, 6),
    seed=SEEDS,
)
def test_cut_with_reach_rows_of_context_gives_the_same_bits(above, below, rows, reach, seed):
    top = min(above, reach)
    bottom = min(below, reach)
    alpha = alpha_with_holes(above + rows + below, 13, seed=seed)
    colour = noise(*alpha.shape, 3, seed=seed)
    window = slice(above - top, above + rows + bottom)
    cut = fill_hidden(colour[window], alpha[window], reach)[top : top + rows]
    np.testing.assert_array_equal(cut, fill_hidden(colour, alpha, reach)[above : above + rows])


def test_hidden_pixels_take_the_mean_of_their_neighbours_growing_outwards():
    colour = np.array(
        [[[0.2], [0.9], [0.9], [0.9], [0.9]], [[0.6], [0.9], [0.9], [0.9], [0.9]]], np.float32
    )
    alpha = np.array([[255, 0, 0, 0, 0], [1, 0, 0, 0, 0]], np.uint8)
    expected = np.array([[0.2, 0.4, 0.4, 0.9, 0.9], [0.6, 0.4, 0.4, 0.9, 0.9]], np.float32)
    np.testing.assert_allclose(fill_hidden(colour, alpha, 2)[..., 0], expected, atol=1e-7)
    for whole in (np.ones((2, 5), np.uint8), np.zeros((2, 5), np.uint8)):
        assert fill_hidden(colour, whole, 8) is colour, "there is nothing to fill"


@QUICK
@given(height=SIDES, width=SIDES, channels=st.integers(1, 4), scale=st.integers(2, 8))
def test_enlarging_is_pillows_bicubic_of_each_channel(height, width, channels, scale):
    plane = noise(height, width, channels) * 3 - 1
    result = times(plane, scale)
    for c in range(channels):
        image = Image.fromarray(plane[..., c].copy()).resize(
            (width * scale, height * scale), Image.Resampling.BICUBIC
        )
        np.testing.assert_array_equal(result[..., c], np.asarray(image))


@pytest.mark.parametrize("value", [np.uint8(77), np.uint16(40_001), np.float32(0.3)])
def test_constant_alpha_stays_exactly_that_constant_and_other_alpha_in_its_range(value):
    result = enlarge_alpha(np.full((8, 5), value), 4)
    assert (result.dtype, result.shape) == (value.dtype, (32, 20))
    assert (result == value).all()
    white = 1.0 if value.dtype == np.float32 else float(np.iinfo(value.dtype).max)
    unit = np.zeros((8, 12), np.float32)
    unit[:, 6:] = 1.0
    result = enlarge_alpha((unit * white).astype(value.dtype), 4)
    expected = np.clip(times(unit[..., None], 4)[..., 0], 0, 1)
    np.testing.assert_allclose(result / white, expected, atol=0.51 / white if white > 1 else 1e-7)
