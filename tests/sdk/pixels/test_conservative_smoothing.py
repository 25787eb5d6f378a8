"""Conservative smoothing: what its definition says, in a whole picture and in parts of it."""

import numpy as np
import pytest

from srflow_sdk.pixels.conservative_smoothing import smooth
from srflow_sdk.pixels.in_memory import LUMA


def smooth_whole(picture):
    height, width = picture.shape[:2]
    return smooth(picture, slice(0, height), slice(0, width))


def by_sorting(picture):
    height, width = picture.shape[:2]
    luma = picture.astype(np.float64) @ LUMA.astype(np.float64)
    around = np.pad(luma, 1, mode="edge")
    shifted = [
        around[down : down + height, right : right + width]
        for down in range(3)
        for right in range(3)
        if (down, right) != (1, 1)
    ]
    ranked = np.sort(shifted, axis=0)
    return picture + (np.clip(luma, ranked[1], ranked[6]) - luma)[..., None]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2), (37, 41), (400, 90)])
def test_the_luma_lies_between_the_second_least_and_the_second_most_around(size):
    picture = np.random.default_rng(size[0]).normal(0.5, 0.3, (*size, 3)).astype(np.float32)
    np.testing.assert_allclose(smooth_whole(picture), by_sorting(picture), atol=1e-6)


def test_a_part_is_that_of_the_whole():
    picture = np.random.default_rng(1).random((90, 70, 3), np.float32)
    whole = smooth_whole(picture)
    for top, bottom, left, right in ((0, 90, 0, 70), (0, 20, 30, 70), (13, 14, 5, 6)):
        part = smooth(picture, slice(top, bottom), slice(left, right))
        np.testing.assert_array_equal(part, whole[top:bottom, left:right])


def test_a_speck_goes_and_what_has_two_pixels_beside_it_stays():
    picture = np.full((9, 9, 3), 0.5, np.float32)
    picture[4, 4] = (0.9, 0.8, 0.7)
    assert np.ptp(smooth_whole(picture) @ LUMA) < 1e-6
    line = np.full((9, 9, 3), 0.5, np.float32)
    line[4] = 0.9
    np.testing.assert_array_equal(smooth_whole(line), line)


def test_a_value_that_is_not_finite_stays_one():
    picture = np.full((5, 5, 3), 0.5, np.float32)
    picture[2, 2, 1] = np.nan
    assert not np.isfinite(smooth_whole(picture)[2, 2]).any()
