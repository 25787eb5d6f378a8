"""Where a picture has most detail."""

from __future__ import annotations

import numpy as np
import pytest

from srflow_apps.demo import page_pictures
from srflow_apps.demo.page_pictures import busiest, most_detailed


def test_the_busiest_rectangle_has_the_largest_sum() -> None:
    values = np.random.default_rng(0).random((40, 30))
    sums = np.lib.stride_tricks.sliding_window_view(values, (7, 12)).sum((2, 3))
    assert busiest(values, 7, 12) == np.unravel_index(sums.argmax(), sums.shape)
    assert busiest(values, 99, 12)[0] == 0
    assert busiest(values, 99, 99) == (0, 0)


def with_noise_at(top: int, left: int, *, shape: tuple[int, int, int], dtype: type = np.uint8) -> np.ndarray:
    picture = np.full(shape, 100, dtype)
    picture[top : top + 20, left : left + 20] = np.random.default_rng(1).integers(0, 255, (20, 20, 1))
    return picture


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("searched", [10**6, 1000])
def test_the_most_detailed_square_is_found_in_a_gray_or_coloured_picture(monkeypatch, channels, searched) -> None:
    monkeypatch.setattr(page_pictures, "_SEARCHED_PIXELS", searched)
    picture = with_noise_at(61, 33, shape=(100, 80, channels))
    if channels in (2, 4):
        picture[..., -1] = 255
    top, left = most_detailed(picture, 22)
    every = -(-8000 // searched)
    assert 61 - 2 - every <= top <= 61 + every
    assert 31 <= left <= 33


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_deep_picture_has_its_detail_where_it_is(dtype) -> None:
    assert most_detailed(with_noise_at(10, 50, shape=(60, 90, 3), dtype=dtype), 20) == (10, 50)


def test_what_is_transparent_has_no_detail() -> None:
    picture = with_noise_at(10, 50, shape=(60, 90, 4))
    picture[30:50, 5:25, 1] = with_noise_at(0, 0, shape=(20, 20, 1))[..., 0] // 4
    picture[..., 3] = 255
    picture[10:30, 50:70, 3] = 0
    top, left = most_detailed(picture, 20)
    assert (top, left) == (30, 5)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 3), (50, 1, 1), (5, 7, 3)])
def test_a_small_or_flat_picture_has_a_place_too(shape) -> None:
    assert most_detailed(np.zeros(shape, np.uint8), 64) == (0, 0)
