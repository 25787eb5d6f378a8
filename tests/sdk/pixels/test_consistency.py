"""The bicubic reduction agrees with MATLAB's convention; projections reduce to the LR picture,
however they are cut."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image

from srflow_sdk.pixels.resizing import CONTEXT, RowReducer, project
from srflow_training.resampling import REDUCTIONS, reduce_bicubic

from .reference import reduced, whole

QUICK = settings(max_examples=25, deadline=None)
SCALES = st.integers(2, 16)
SIDES = st.integers(1, 12)


def smooth_picture(height, width, channels, *, seed=0, low=0.2, high=0.8):
    """Random blobs with some grain, within [low, high]."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((channels, max(height // 6, 1), max(width // 6, 1)), np.float32)
    blobs = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
        for plane in coarse
    ]
    picture = np.stack(blobs, axis=2) * 0.9 + 0.1 * rng.random((height, width, channels))
    return (low + (high - low) * picture).astype(np.float32)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


@pytest.mark.parametrize(("scale", "height", "width"), [(2, 20, 23), (3, 1, 5), (8, 1, 1)])
def test_reduction_agrees_with_the_trainers(scale, height, width):
    hr = noise(height * scale, width * scale, 3)
    trained_on = reduce_bicubic(torch.from_numpy(hr.transpose(2, 0, 1)[None].copy()), scale)[
        0
    ].permute(1, 2, 0)
    np.testing.assert_allclose(reduced(hr, scale), trained_on.numpy(), atol=2e-6)


@QUICK
@given(
    height=SIDES,
    width=SIDES,
    scale=SCALES,
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_projection_reduces_to_the_lr_picture(height, width, scale, channels, seed):
    hr = smooth_picture(height * scale, width * scale, channels, seed=seed, low=0.3, high=0.7)
    lr = reduced(hr, scale) + 0.05 * (noise(height, width, channels, seed=seed) - 0.5)
    result = project(hr, lr, scale)
    assert result.dtype == np.float32
    np.testing.assert_allclose(reduced(result, scale), lr, atol=2e-6)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_bilinear_reduction_is_the_trainers_and_pictures_are_projected_onto_it(scale):
    hr = smooth_picture(12 * scale, 9 * scale, 3)
    lr = smooth_picture(12, 9, 3, seed=1, low=0.35, high=0.65)
    trained = REDUCTIONS["bilinear"](torch.from_numpy(hr).permute(2, 0, 1)[None].double(), scale)[
        0
    ].permute(1, 2, 0)
    np.testing.assert_allclose(reduced(hr, scale, kernel="bilinear"), trained.numpy(), atol=1e-6)
    assert np.abs(reduced(hr, scale) - trained.numpy()).max() > 1e-3
    again = reduced(project(hr, lr, scale, kernel="bilinear"), scale, kernel="bilinear")
    np.testing.assert_allclose(again, lr, atol=1e-4)


def test_projection_is_the_smallest_change_that_reduces_to_the_lr_picture():
    scale = 3
    hr = smooth_picture(18, 15, 1)
    lr = np.clip(reduced(hr, scale) + 0.02, 0, 1)
    columns = [
        reduced(np.eye(270, dtype=np.float32)[i].reshape(18, 15, 1), scale).ravel()
        for i in range(270)
    ]
    matrix = np.stack(columns, axis=1).astype(np.float64)
    change = np.linalg.pinv(matrix) @ (lr - reduced(hr, scale)).ravel()
    before = hr.copy(), lr.copy()
    np.testing.assert_allclose(project(hr, lr, scale), hr + change.reshape(hr.shape), atol=2e-6)
    np.testing.assert_array_equal(hr, before[0])
    np.testing.assert_array_equal(lr, before[1])
    np.testing.assert_allclose(project(hr, reduced(hr, scale), scale), hr, atol=1e-6)
    far = project(hr + np.float32(3), lr, scale)  # outside 0 … 1
    assert np.abs(reduced(far, scale) - lr).max() < 0.5 / 255


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_projection_reaches_the_lr_picture_within_rounding_although_much_is_clipped(scale):
    truth = np.clip(smooth_picture(40 * scale, 48 * scale, 3, low=-0.5, high=1.5), 0, 1)
    lr = (np.rint(np.clip(reduced(truth, scale), 0, 1) * 255) / 255).astype(np.float32)
    hr = np.clip(truth + 0.1 * (noise(*truth.shape) - 0.5), 0, 1)
    assert np.mean((hr == 0) | (hr == 1)) > 0.05
    result = project(hr, lr, scale)
    assert result.min() >= 0
    assert result.max() <= 1
    rounded = (np.rint(result * 255) / 255).astype(np.float32)
    assert np.abs(reduced(rounded, scale) - lr).max() <= 0.5 / 255


@QUICK
@given(
    scale=st.integers(2, 6),
    top=st.integers(0, 30),
    bottom=st.integers(0, 30),
    width=st.integers(1, 8),
    saturated=st.booleans(),
    seed=st.integers(0, 99),
)
def test_projection_of_a_cut_equals_the_whole_beyond_its_context(
    scale, top, bottom, width, saturated, seed
):
    height = top + bottom + 2 * CONTEXT + 3
    hr = noise(height * scale, width * scale, 1, seed=seed)
    lr = noise(height, width, 1, seed=seed)
    if saturated:
        hr, lr = np.rint(hr), np.rint(lr)  # not even a picture that reduces to this lr need exist
    whole = project(hr, lr, scale)
    end = height - bottom
    cut = project(
        hr[top * scale : end * scale],
        lr[top:end],
        scale,
        top=top == 0,
        bottom=bottom == 0,
    )
    first = CONTEXT if top else 0
    last = len(cut) // scale - (CONTEXT if bottom else 0)
    known = slice(first * scale, last * scale)
    np.testing.assert_allclose(cut[known], whole[top * scale : end * scale][known], atol=1e-5)
    assert np.isnan(cut[: first * scale]).all()
    assert np.isnan(cut[last * scale :]).all()


# Reduction by any factor, row by row.


def in_bands(picture, to, kernel, band):
    reducer = RowReducer((picture.shape[0], picture.shape[1]), to, kernel)
    return np.concatenate(
        [reducer.push(picture[top : top + band]) for top in range(0, len(picture), band)]
    )


@pytest.mark.parametrize("kernel", ["bicubic", "lanczos"])
@pytest.mark.parametrize(
    ("size", "to"),
    [((48, 64), (37, 50)), ((48, 64), (5, 3)), ((4, 200), (1, 199))],
)
def test_a_reduction_in_bands_is_what_the_formula_says_of_the_whole_picture(kernel, size, to):
    picture = np.random.default_rng(1).random((*size, 3), np.float32)
    got = in_bands(picture, to, kernel, 7)
    assert (got.dtype, got.shape) == (np.float32, (*to, 3))
    np.testing.assert_allclose(got, whole(picture, to, kernel), atol=1e-6)
    for band in (1, 5, size[0]):
        np.testing.assert_array_equal(in_bands(picture, to, kernel, band), got)
    np.testing.assert_array_equal(in_bands(picture, size, kernel, 4), picture)
