"""Reduction of a picture to any smaller size, as MATLAB's imresize makes it, in bands of rows.

A pixel of the result is a weighted mean of the pixels around its place. Along an axis of n pixels
that becomes m, with r = n / m ≥ 1, pixel i of the result lies at c = (i + 1/2)·r − 1/2, and pixel p
has the weight k((p − c) / r), divided by the sum of all weights. k is a kernel below; it is r times
as wide as for an enlargement, which is the antialiasing. Beyond its edges the picture is mirrored,
with the edge pixel repeated. The two axes are independent.

Consistency with the LR image: D, the reduction that a network was trained on, is a convolution
followed by sampling on pictures extended infinitely in this way, and its pseudo-inverse U =
Dᵀ(DDᵀ)⁻¹ is a filter too; U makes the smallest change to HR that changes its reduction by a given
LR picture. Both are separable. (DDᵀ)⁻¹ decays by about a factor of ten in two LR pixels, so U is
short.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.pixels.in_memory import Floats

AnyKernel = Literal["bicubic", "lanczos", "bilinear"]
"""How pixels are weighted: cubic convolution with a = −1/2 (Keys, 1981), or Lanczos with three
lobes."""

LrKernel = Literal["bicubic", "bilinear"]
"""How the LR images that a network was trained on were made:
:data:`srflow_sdk.model.manifest.Reduction`."""

CONTEXT = 20
"""LR rows next to a cut for which :func:`project` cannot give what the whole picture would."""

# in pixels of the smaller picture; weights are 0 from there on
_REACH = {"bilinear": 1, "bicubic": 2, "lanczos": 3}

_ITERATIONS = 24
_SETTLED = 1e-6  # about what rounding of float32 leaves
# z gets there only where no picture in [0, 1] near hr reduces to lr: more would cost precision
_FARTHEST = 2.0
_U_REACH = 14  # of U in LR pixels: what lies beyond is below 1e-7 of its largest coefficient
_BLOCK = 16  # LR rows that one matrix product yields, or takes


def _weigh(distance: NDArray[np.float64], kernel: AnyKernel) -> NDArray[np.float64]:
    """The weights at distances in pixels of the smaller picture."""
    x = np.abs(distance)
    reach = _REACH[kernel]
    if kernel == "bilinear":
        return np.asarray(np.maximum(1 - x, 0.0))
    if kernel == "lanczos":
        return np.asarray(np.where(x < reach, np.sinc(distance) * np.sinc(distance / reach), 0.0))
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.asarray(np.where(x <= 1, near, np.where(x < reach, far, 0.0)))


class RowReducer:
    """Reduces a picture that comes in bands from the top down, whatever the bands, to the bit.

    Nothing is clipped.
    """

    def __init__(self, size: Sequence[int], to: Sequence[int], kernel: AnyKernel) -> None:
        self._down, self._across = (_make_taps(n, m, kernel) for n, m in zip(size, to, strict=True))
        self._sums: deque[Floats] = deque()  # of rows of the result that have begun
        self._taken = self._begun = self._given = 0

    def push(self, band: Floats) -> Floats:
        """Take the next rows, float32 h×W×C, and return the rows that are complete, h'×W'×C.

        Possibly none.
        """
        (starts, taps), first = self._down, self._taken
        self._taken += len(band)
        while self._begun < len(starts) and starts[self._begun] < self._taken:
            self._sums.append(np.zeros(band.shape[1:], np.float32))
            self._begun += 1
        for total, number in zip(self._sums, range(self._given, self._begun), strict=True):
            start = starts[number]
            weights = taps[number]
            for row in range(max(start, first), min(start + len(weights), self._taken)):
                total += weights[row - start] * band[row - first]
        complete = []
        while self._sums and starts[self._given] + taps.shape[1] <= self._taken:
            complete.append(self._sums.popleft())
            self._given += 1
        rows = np.stack(complete) if complete else np.empty((0, *band.shape[1:]), np.float32)
        start, weights = self._across
        result = np.zeros((len(rows), len(start), rows.shape[2]), np.float32)
        for tap in range(weights.shape[1]):
            result += weights[:, tap, None] * rows[:, start + tap]
        return result


def _make_taps(n: int, m: int, kernel: AnyKernel) -> tuple[NDArray[np.intp], Floats]:
    """The weights of n pixels in m: start, and weights[i, j] of pixel start[i] + j in i.

    start never falls.
    """
    ratio = n / m
    centre = (np.arange(m) + 0.5) * ratio - 0.5
    reach = _REACH[kernel] * ratio
    position = np.floor(centre - reach).astype(np.intp)[:, None] + np.arange(
        int(np.ceil(2 * reach)) + 2
    )
    weight = _weigh((position - centre[:, None]) / ratio, kernel)
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


def project(
    hr: Floats,
    lr: Floats,
    scale: int,
    *,
    kernel: LrKernel = "bicubic",
    top: bool = True,
    bottom: bool = True,
) -> Floats:
    """The picture near hr, sH×sW×C, clipped to [0, 1], whose reduction is lr, H×W×C.

    On photos with an 8-bit lr, the reduction is within
    0.5/255 of lr everywhere, even after rounding; next to single black pixels on white, or in
    noise, it is as close as the iterations get.

    Args:
        top, bottom: Whether the first and last rows are the picture's own; next to a cut, CONTEXT
            LR rows' worth of HR rows come back as NaN.
    """
    hr = np.clip(hr, 0, 1, dtype=np.float32)  # from far outside, z would not bring it back
    # In the LR picture z, x = clip(hr + Uz) is sought with Dx = lr: Nesterov's method on the
    # projection's dual problem.
    reduction = _make_reduction(scale, kernel)
    pseudo_inverse = _make_pseudo_inverse(scale, kernel)
    previous = z = np.zeros_like(lr)
    result = hr
    for iteration in range(_ITERATIONS):
        # rows first: little is left to transpose
        residual = lr - reduction.across(reduction.down(result))
        if iteration == 1 and np.abs(residual).max() < _SETTLED:
            # nothing that mattered was clipped; rows elsewhere in the picture cannot change that
            # here
            break
        current = z + residual
        z = current + np.float32(iteration / (iteration + 3)) * (current - previous)
        np.clip(z, -_FARTHEST, _FARTHEST, out=z)
        previous = current
        result = pseudo_inverse.down(pseudo_inverse.across(z))
        result += hr
        np.clip(result, 0, 1, out=result)
    if not top:  # rows that depend on rows beyond the cut
        result[: CONTEXT * scale] = np.nan
    if not bottom:
        result[max(len(result) - CONTEXT * scale, 0) :] = np.nan
    return result


class _Filter:
    """A linear map of columns that commutes with shifts.

    These are by `takes` pixels in and so many out as `taps` has rows.
    """

    def __init__(self, taps: NDArray[np.float64], *, takes: int, start: int) -> None:
        self.takes = takes
        self.start = start
        self.yields, length = taps.shape
        self.matrix = np.zeros((_BLOCK * self.yields, (_BLOCK - 1) * takes + length), np.float32)
        for n in range(_BLOCK):
            self.matrix[n * self.yields : (n + 1) * self.yields, n * takes : n * takes + length] = (
                taps
            )

    def down(self, picture: Floats) -> Floats:
        """Apply it to every column of H×W×C, mirrored beyond its ends."""
        height, width, channels = picture.shape
        rows = picture.reshape(height, width * channels)
        steps = height // self.takes
        result = np.empty((steps * self.yields, width * channels), np.float32)
        for first in range(0, steps, _BLOCK):
            count = min(_BLOCK, steps - first)
            length = self.matrix.shape[1] - (_BLOCK - count) * self.takes
            window = _take_mirrored_rows(rows, first * self.takes + self.start, length)
            out = result[first * self.yields : (first + count) * self.yields]
            np.matmul(self.matrix[: len(out), :length], window, out=out)
        return result.reshape(len(result), width, channels)

    def across(self, picture: Floats) -> Floats:
        """Apply it to every row of H×W×C."""
        turned = self.down(np.ascontiguousarray(picture.swapaxes(0, 1)))
        return np.ascontiguousarray(turned.swapaxes(0, 1))


def _take_mirrored_rows(rows: Floats, start: int, count: int) -> Floats:
    """Rows start … start + count − 1.

    Beyond its ends the picture is mirrored, as often as needed.
    """
    height = len(rows)
    if start >= 0 and start + count <= height:
        return rows[start : start + count]
    positions = np.arange(start, start + count) % (2 * height)
    return rows[np.minimum(positions, 2 * height - 1 - positions)]


def _sample_kernel(scale: int, kernel: LrKernel) -> NDArray[np.float64]:
    """Weights of the HR pixels −2·scale … 3·scale − 1 in LR pixel 0; the sum is 1."""
    weights = _weigh((np.arange(-2 * scale, 3 * scale) - (scale - 1) / 2) / scale, kernel)
    return np.asarray(weights / weights.sum())


@cache
def _make_reduction(scale: int, kernel: LrKernel) -> _Filter:
    return _Filter(_sample_kernel(scale, kernel)[None], takes=scale, start=-2 * scale)


@cache
def _make_pseudo_inverse(scale: int, kernel: LrKernel) -> _Filter:
    """U in one dimension.

    DDᵀ is a convolution of LR signals; on a long circle its inverse is a division.
    """
    weights = _sample_kernel(scale, kernel)
    circle = 8 * _U_REACH
    shifted = np.zeros((circle, circle * scale))  # D on the circle
    for n in range(circle):
        np.add.at(
            shifted[n], (np.arange(-2 * scale, 3 * scale) + n * scale) % (circle * scale), weights
        )
    autocorrelation = shifted @ shifted[0]
    inverse = np.fft.ifft(1 / np.fft.fft(autocorrelation)).real
    response = (shifted.T @ inverse).reshape(circle, scale)  # of U to an impulse at LR pixel 0
    # HR pixel p of step 0 takes from LR pixel n what an impulse at 0 gives to HR pixel p of step
    # −n.
    taps = response[np.arange(_U_REACH, -_U_REACH - 1, -1) % circle].T
    return _Filter(taps, takes=1, start=-_U_REACH)
