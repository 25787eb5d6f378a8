from __future__ import annotations

import numpy as np
import pytest

from srflow_sdk.drawing.options import Kernel
from srflow_sdk.pixels.resizing import RowReducer

from .reference import whole

KERNELS: tuple[Kernel, ...] = ("bicubic", "lanczos")


def in_bands(picture: np.ndarray, to: tuple[int, int], kernel: Kernel, band: int) -> np.ndarray:
    reducer = RowReducer((picture.shape[0], picture.shape[1]), to, kernel)
    return np.concatenate([reducer.push(picture[top : top + band]) for top in range(0, len(picture), band)])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("size", "to"),
    [
        ((48, 64), (24, 32)),
        ((48, 64), (37, 50)),
        ((48, 64), (47, 63)),
        ((48, 64), (5, 3)),
        ((48, 64), (1, 1)),
        ((4, 4), (3, 2)),
        ((4, 200), (1, 199)),
        ((1, 1), (1, 1)),
    ],
)
def test_a_reduction_is_what_the_formula_says_of_the_whole_picture(
    kernel: Kernel, size: tuple[int, int], to: tuple[int, int]
) -> None:
    picture = np.random.default_rng(1).random((*size, 3), np.float32)
    got = in_bands(picture, to, kernel, 7)
    assert (got.dtype, got.shape) == (np.float32, (*to, 3))
    np.testing.assert_allclose(got, whole(picture, to, kernel), atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("to", [(24, 32), (37, 50), (2, 3)])
def test_bands_do_not_change_a_bit(kernel: Kernel, to: tuple[int, int]) -> None:
    picture = np.random.default_rng(2).random((48, 64, 2), np.float32)
    expected = in_bands(picture, to, kernel, 48)
    for band in (1, 5, 16):
        np.testing.assert_array_equal(in_bands(picture, to, kernel, band), expected)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_same_size_is_the_same_picture_and_flat_stays_flat(kernel: Kernel) -> None:
    picture = np.random.default_rng(4).random((9, 11, 3), np.float32)
    np.testing.assert_array_equal(in_bands(picture, (9, 11), kernel, 4), picture)
    flat = in_bands(np.full((40, 50, 1), 0.3, np.float32), (13, 17), kernel, 8)
    np.testing.assert_allclose(flat, 0.3, atol=1e-6)


def test_only_the_rows_under_the_kernel_are_held() -> None:
    reducer = RowReducer((4000, 8), (10, 8), "bicubic")
    for _ in range(0, 2000, 100):
        reducer.push(np.ones((100, 8, 3), np.float32))
    assert len(reducer._sums) <= 5  # the kernel is four pixels of the result wide
