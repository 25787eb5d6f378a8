"""A gradient-domain blend: content keeps its gradients and meets its place without a step.

Poisson image editing (Pérez, Gangnet and Blake, SIGGRAPH 2003, section 2 with the source's
gradients), in the form that solves for the correction: blend = source + m inside the mask, where
the membrane m is harmonic and equals target - source on the pixels around it. Ours instead of
OpenCV's seamlessClone, which takes 8-bit values only, wants a mask away from the picture's border,
and changes pixels outside of it.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.pixels.in_memory import Floats
from srflow_sdk.system.interrupts import stop_if_set

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

_TOLERANCE = 1e-5  # of the four neighbours' sum less four times the value, with values in [0, 1]
_MOST_STEPS = 200
_DAMPING = 0.8  # of Jacobi's steps


def blended(
    target: Floats, source: Floats, mask: Mask, cancel: threading.Event | None = None
) -> Floats:
    """The target, H×W×C, with the source inside the mask, shifted smoothly to fit.

    Values may leave [0, 1].
    """
    result: Floats = target.copy()
    if not mask.any():
        return result
    rows, columns = bounds(mask)
    inside = mask[rows, columns]
    content = source[rows, columns]
    grid = Grid(inside)
    part = result[rows, columns]
    for channel in range(target.shape[2]):
        difference = part[..., channel].astype(np.float64) - content[..., channel]
        part[inside, channel] = (content[..., channel] + grid.solve(difference, cancel))[inside]
    return result


class Grid:
    """The pixels whose values are unknown, at full size, at half of it, and so on.

    Conjugate gradients with a multigrid cycle as the preconditioner (McAdams, Sifakis and Teran,
    SCA 2010), from a start that is the solution at half the size: about twenty steps at each size,
    for any mask.
    """

    def __init__(self, unknown: Mask) -> None:
        self._unknown = unknown
        self._degree = neighbour_sums(np.ones(unknown.shape))
        known = _pad((~unknown).astype(np.float64))
        self._known = _sum_of_blocks(known) if unknown.any() and not unknown.all() else None
        self._half = None if self._known is None else Grid(self._known == 0)

    def solve(self, values: Doubles, cancel: threading.Event | None = None) -> Doubles:
        """Replace the unknown values by harmonic ones, the means of their neighbours.

        If all are unknown, by 0.
        """
        if self._known is None or self._half is None:
            return np.zeros_like(values) if self._unknown.all() else values.copy()
        mean = _sum_of_blocks(_pad(np.where(self._unknown, 0.0, values))) / np.maximum(
            self._known, 1
        )
        start = self._cut(_enlarge(self._half.solve(mean, cancel)))
        field: Doubles = np.where(self._unknown, start, values)
        residual = np.where(self._unknown, -self._apply(field), 0.0)
        direction = np.zeros_like(field)
        energy = 1.0
        for _ in range(_MOST_STEPS):
            stop_if_set(cancel)
            if float(np.abs(residual).max()) <= _TOLERANCE:
                break
            corrected = self._cycle(residual)
            new = float(np.vdot(residual, corrected))
            direction = corrected + (new / energy) * direction
            energy = new
            image = self._apply(direction)
            step = energy / float(np.vdot(direction, image))
            field += step * direction
            residual -= step * image
        return field

    def _cycle(self, residual: Doubles) -> Doubles:
        """Roughly the field whose image is the residual: a symmetric V-cycle."""
        change = self._smooth(residual)
        if self._half is not None:
            left = residual - self._apply(change)
            below = np.where(self._half._unknown, _restrict(_pad(left)), 0.0)
            change += np.where(self._unknown, self._cut(_enlarge(self._half._cycle(below))), 0.0)
        return change + self._smooth(residual - self._apply(change))

    def _smooth(self, residual: Doubles) -> Doubles:
        return np.where(self._unknown, _DAMPING * residual / np.maximum(self._degree, 1), 0.0)

    def _apply(self, field: Doubles) -> Doubles:
        return np.where(self._unknown, self._degree * field - neighbour_sums(field), 0.0)

    def _cut(self, field: Doubles) -> Doubles:
        return field[: self._unknown.shape[0], : self._unknown.shape[1]]


def _pad(field: Doubles) -> Doubles:
    """With even sides; what is added is 0."""
    height, width = field.shape
    return np.pad(field, ((0, height % 2), (0, width % 2)))


def _sum_of_blocks(field: Doubles) -> Doubles:
    total: Doubles = field[::2, ::2] + field[1::2, ::2] + field[::2, 1::2] + field[1::2, 1::2]
    return total


def _enlarge(field: Doubles) -> Doubles:
    """Twice as large, bilinear."""
    for _ in range(2):  # rows, then columns, transposed in between
        before = np.concatenate([field[:1], field[:-1]])
        after = np.concatenate([field[1:], field[-1:]])
        large = np.empty((2 * field.shape[0], field.shape[1]))
        large[::2], large[1::2] = 0.75 * field + 0.25 * before, 0.75 * field + 0.25 * after
        field = large.T
    return field


def _restrict(field: Doubles) -> Doubles:
    """The transpose of :func:`_enlarge`."""
    for _ in range(2):
        even = field[::2]
        odd = field[1::2]
        small = 0.75 * (even + odd)
        small[:-1] += 0.25 * even[1:]
        small[1:] += 0.25 * odd[:-1]
        small[0] += 0.25 * even[0]
        small[-1] += 0.25 * odd[-1]
        field = small.T
    return field


def neighbour_sums(field: Doubles) -> Doubles:
    """The sum of the four neighbours that exist."""
    total = np.zeros_like(field)
    total[1:] += field[:-1]
    total[:-1] += field[1:]
    total[:, 1:] += field[:, :-1]
    total[:, :-1] += field[:, 1:]
    return total


def bounds(mask: Mask, *, margin: int = 1, unit: int = 1) -> tuple[slice, slice]:
    """The rows and columns of a mask and `margin` more, up to multiples of `unit`."""
    sides = []
    for axis in (1, 0):
        lines = np.flatnonzero(mask.any(axis=axis))
        first, last = int(lines[0]) - margin, int(lines[-1]) + 1 + margin
        sides.append(
            slice(max(first // unit * unit, 0), min(-(-last // unit) * unit, mask.shape[1 - axis]))
        )
    return sides[0], sides[1]
