"""Which positions of a level belong to a picture, or to a part of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import ArgumentError


def picture_positions(level: int, *, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a level that hold pixels of the picture, not only padding."""
    return -(-height >> level), -(-width >> level)


def checked_mask(name: str, mask: object, *, height: int, width: int) -> NDArray[np.bool_]:
    """A boolean H×W array. Raises: ArgumentError."""
    array = np.asarray(mask)
    if array.dtype != np.bool_:
        raise ArgumentError(
            f"{name} has values of type {array.dtype}; a mask is boolean: compare first, as in {name} > 127"
        )
    if array.shape != (height, width):
        size = "×".join(map(str, array.shape)) or "a single value"
        raise ArgumentError(f"{name} is {size}; it must have the rows and columns of the HR picture, {height}×{width}")
    return array


def mask_positions(mask: NDArray[np.bool_], level: int) -> NDArray[np.bool_]:
    """The positions of a level, without those of the padding, of which any pixel is inside an H×W mask."""
    step = 1 << level
    rows = np.logical_or.reduceat(mask, np.arange(0, mask.shape[0], step), axis=0)
    return np.asarray(np.logical_or.reduceat(rows, np.arange(0, mask.shape[1], step), axis=1))
