"""Reduction of a picture to any smaller size, as MATLAB's imresize makes it, in bands of rows.

A pixel of the result is a weighted mean of the pixels around its place. Along an axis of n pixels that becomes m, with
r = n / m ≥ 1, pixel i of the result lies at c = (i + 1/2)·r − 1/2, and pixel p has the weight k((p − c) / r), divided
by the sum of all weights. k is a kernel below; it is r times as wide as for an enlargement, which is the antialiasing.
Beyond its edges the picture is mirrored, with the edge pixel repeated. The two axes are independent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.pixels import Floats

Kernel = Literal["bicubic", "lanczos"]
"""How pixels are weighted: cubic convolution with a = −1/2 (Keys, 1981), or Lanczos with three lobes."""


def bicubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weight at a distance, in pixels of the smaller picture; 0 from 2 on."""
    x = np.abs(distance)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.asarray(np.where(x <= 1, near, np.where(x < _REACH["bicubic"], far, 0.0)))


def lanczos(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """sinc(x)·sinc(x / 3); 0 from 3 on."""
    lobes = _REACH["lanczos"]
    return np.asarray(np.where(np.abs(distance) < lobes, np.sinc(distance) * np.sinc(distance / lobes), 0.0))


def bilinear(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """A triangle; 0 from 1 on."""
    return np.asarray(np.maximum(1 - np.abs(distance), 0.0))


LrKernel = Literal["bicubic", "bilinear"]
"""How the LR images that a network was trained on were made: :data:`srflow_sdk.model.manifest.Reduction`."""

_Weights = Callable[[NDArray[np.float64]], NDArray[np.float64]]
_REACH = {"bilinear": 1, "bicubic": 2, "lanczos": 3}
KERNELS: dict[str, _Weights] = {"bilinear": bilinear, "bicubic": bicubic, "lanczos": lanczos}


class RowReducer:
    """Reduces a picture that comes in bands from the top down. Its rows do not depend on the bands, not even in a bit.

    size: (height, width) of the picture.
    to: (height, width) of the result, at least 1 and at most `size`.
    kernel: one that outputs are reduced with, or one that networks were trained on.

    Values are neither clipped nor rounded. Memory: a few rows of the picture, however small `to` is.
    """

    def __init__(self, size: tuple[int, int], to: tuple[int, int], kernel: Kernel | LrKernel) -> None:
        self._down, self._across = (_taps(n, m, kernel) for n, m in zip(size, to, strict=True))
        self._sums: deque[Floats] = deque()  # of rows of the result that have begun
        self._taken = self._begun = self._given = 0

    def push(self, band: Floats) -> Floats:
        """Take the next rows, float32 h×W×C, and return the rows that are complete, h'×W'×C; possibly none."""
        (starts, taps), first = self._down, self._taken
        self._taken += len(band)
        while self._begun < len(starts) and starts[self._begun] < self._taken:
            self._sums.append(np.zeros(band.shape[1:], np.float32))
            self._begun += 1
        for total, number in zip(self._sums, range(self._given, self._begun), strict=True):
            start, weights = starts[number], taps[number]
            for row in range(max(start, first), min(start + len(weights), self._taken)):
                total += weights[row - start] * band[row - first]
        complete = []
        while self._sums and starts[self._given] + taps.shape[1] <= self._taken:
            complete.append(self._sums.popleft())
            self._given += 1
        rows = np.stack(complete) if complete else np.empty((0, *band.shape[1:]), np.float32)
        return self._narrowed(rows)

    def _narrowed(self, rows: Floats) -> Floats:
        start, weights = self._across
        result = np.zeros((len(rows), len(start), rows.shape[2]), np.float32)
        for tap in range(weights.shape[1]):
            result += weights[:, tap, None] * rows[:, start + tap]
        return result


def _taps(n: int, m: int, kernel: Kernel | LrKernel) -> tuple[NDArray[np.intp], Floats]:
    """The weights of n pixels in m; those beyond the edges are added to the pixels that they mirror.

    Returns start, which never falls, and weights: `weights[i, j]` is that of pixel `start[i] + j` in pixel i.
    """
    ratio = n / m
    centre = (np.arange(m) + 0.5) * ratio - 0.5
    reach = _REACH[kernel] * ratio
    position = np.floor(centre - reach).astype(np.intp)[:, None] + np.arange(int(np.ceil(2 * reach)) + 2)
    weight = KERNELS[kernel]((position - centre[:, None]) / ratio)
    weight /= weight.sum(axis=1, keepdims=True)
    mirrored = position % (2 * n)
    mirrored = np.minimum(mirrored, 2 * n - 1 - mirrored)
    used: NDArray[Any] = weight != 0
    lowest = np.where(used, mirrored, n).min(axis=1)
    length = int((np.where(used, mirrored, 0).max(axis=1) - lowest).max()) + 1
    start = np.minimum(lowest, n - length)
    weights = np.zeros((m, length))
    pixel = np.nonzero(used)[0]
    np.add.at(weights, (pixel, mirrored[used] - start[pixel]), weight[used])
    return start, weights.astype(np.float32)
