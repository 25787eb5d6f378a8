"""Consistency with the LR image: the reduction that networks are trained on, and pictures that reduce to the LR.

D reduces HR to LR as MATLAB's imresize does: bicubic (a = −0.5), as SR benchmarks do, or bilinear; antialiased, with
borders mirrored and the edge pixel repeated. On pictures extended infinitely in this way, D is a convolution followed
by sampling, and its pseudo-inverse U = Dᵀ(DDᵀ)⁻¹ is a filter too; U makes the smallest change to HR that changes its
reduction by a given LR picture. Both are separable. (DDᵀ)⁻¹ decays by about a factor of ten in two LR pixels, so U is
short.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import ArgumentError
from srflow_sdk.pixels import Floats
from srflow_sdk.pixels.resizing import KERNELS, LrKernel

CONTEXT = 20
"""LR rows next to a cut for which :func:`projected` cannot give what the whole picture would."""

_ITERATIONS = 24
_SETTLED = 1e-6  # about what rounding of float32 leaves
_FARTHEST = 2.0  # z gets there only where no picture in [0, 1] near hr reduces to lr: more would cost precision
_REACH = 14  # of U in LR pixels: what lies beyond is below 1e-7 of its largest coefficient
_BLOCK = 16  # LR rows that one matrix product yields, or takes


def projected(
    hr: Floats, lr: Floats, scale: int, *, kernel: LrKernel = "bicubic", top: bool = True, bottom: bool = True
) -> Floats:
    """The picture near hr, clipped to [0, 1], whose reduction is lr.

    hr: float32 sH×sW×C. lr: float32 H×W×C in [0, 1]. top, bottom: whether the first and last rows are the picture's
    own; next to a cut, CONTEXT LR rows' worth of HR rows come back as NaN, and what lies between equals what the whole
    picture gives to 1e-5.

    Where hr + U(lr − D hr) stays within [0, 1] it is the answer, exact to float32. Elsewhere clipping undoes part of
    the correction, and a fixed number of iterations makes up for it: on photos with an 8-bit lr, the reduction is
    within 0.5/255 of lr everywhere, even after rounding to 8 bits. Where that takes much clipping, as next to single
    black pixels on white or in noise, the result is as close as the iterations get; others may be closer.

    Raises: ArgumentError for a scale outside 2 … 16.
    """
    if not 2 <= scale <= 16:
        raise ArgumentError(f"the scale is {scale}; it must be from 2 to 16")
    hr = np.clip(hr, 0, 1, dtype=np.float32)  # from far outside, z would not bring it back
    # In the LR picture z, x = clip(hr + Uz) is sought with Dx = lr: Nesterov's method on the projection's dual problem.
    reduction, pseudo_inverse = _reduction(scale, kernel), _pseudo_inverse(scale, kernel)
    previous = z = np.zeros_like(lr)
    result = hr
    for iteration in range(_ITERATIONS):
        residual = lr - reduction.across(reduction.down(result))  # rows first: little is left to transpose
        if iteration == 1 and np.abs(residual).max() < _SETTLED:
            break  # nothing that mattered was clipped; rows elsewhere in the picture cannot change that here
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
    """A linear map of columns that commutes with shifts by `takes` pixels in and so many out as `taps` has rows.

    taps: yields×length, the weights in one step of the pixels from `start` on. The matrix is _BLOCK steps at once.
    """

    def __init__(self, taps: NDArray[np.float64], *, takes: int, start: int) -> None:
        self.takes, self.start = takes, start
        self.yields, length = taps.shape
        self.matrix = np.zeros((_BLOCK * self.yields, (_BLOCK - 1) * takes + length), np.float32)
        for n in range(_BLOCK):
            self.matrix[n * self.yields : (n + 1) * self.yields, n * takes : n * takes + length] = taps

    def down(self, picture: Floats) -> Floats:
        """Apply it to every column of H×W×C, mirrored beyond its ends."""
        height, width, channels = picture.shape
        rows = picture.reshape(height, width * channels)
        steps = height // self.takes
        result = np.empty((steps * self.yields, width * channels), np.float32)
        for first in range(0, steps, _BLOCK):
            count = min(_BLOCK, steps - first)
            length = self.matrix.shape[1] - (_BLOCK - count) * self.takes
            window = _mirrored_rows(rows, first * self.takes + self.start, length)
            out = result[first * self.yields : (first + count) * self.yields]
            np.matmul(self.matrix[: len(out), :length], window, out=out)
        return result.reshape(len(result), width, channels)

    def across(self, picture: Floats) -> Floats:
        """Apply it to every row of H×W×C."""
        turned = self.down(np.ascontiguousarray(picture.swapaxes(0, 1)))
        return np.ascontiguousarray(turned.swapaxes(0, 1))


def _mirrored_rows(rows: Floats, start: int, count: int) -> Floats:
    """Rows start … start + count − 1; beyond its ends the picture is mirrored, as often as needed."""
    height = len(rows)
    if start >= 0 and start + count <= height:
        return rows[start : start + count]
    positions = np.arange(start, start + count) % (2 * height)
    return rows[np.minimum(positions, 2 * height - 1 - positions)]


def _kernel(scale: int, kernel: LrKernel) -> NDArray[np.float64]:
    """Weights of the HR pixels −2·scale … 3·scale − 1 in LR pixel 0; the sum is 1."""
    weights = KERNELS[kernel]((np.arange(-2 * scale, 3 * scale) - (scale - 1) / 2) / scale)
    return np.asarray(weights / weights.sum())


@cache
def _reduction(scale: int, kernel: LrKernel) -> _Filter:
    return _Filter(_kernel(scale, kernel)[None], takes=scale, start=-2 * scale)


@cache
def _pseudo_inverse(scale: int, kernel: LrKernel) -> _Filter:
    """U in one dimension. DDᵀ is a convolution of LR signals; on a long circle its inverse is a division."""
    weights = _kernel(scale, kernel)
    circle = 8 * _REACH
    shifted = np.zeros((circle, circle * scale))  # D on the circle
    for n in range(circle):
        np.add.at(shifted[n], (np.arange(-2 * scale, 3 * scale) + n * scale) % (circle * scale), weights)
    autocorrelation = shifted @ shifted[0]
    inverse = np.fft.ifft(1 / np.fft.fft(autocorrelation)).real
    response = (shifted.T @ inverse).reshape(circle, scale)  # of U to an impulse at LR pixel 0
    # HR pixel p of step 0 takes from LR pixel n what an impulse at 0 gives to HR pixel p of step −n.
    taps = response[np.arange(_REACH, -_REACH - 1, -1) % circle].T
    return _Filter(taps, takes=1, start=-_REACH)
