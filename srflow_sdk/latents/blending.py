"""Latents between two others: by a mask, or along the sphere on which normal latents lie."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.latents.arrays import row_chunks

_STRAIGHT = 1e-6  # sine of an angle below which the arc is a line in float32


def mix(
    outside: NDArray[np.float32],
    inside: NDArray[np.float32],
    target: NDArray[np.float32],
    positions: NDArray[np.bool_],
) -> None:
    """Write C×h×w: the values of `inside` at the positions (upper left part of h×w), those of `outside` elsewhere."""
    columns = positions.shape[1]
    for rows in row_chunks(outside, outside.shape[1]):
        target[:, rows] = outside[:, rows]
    for rows in row_chunks(outside, len(positions)):
        np.copyto(target[:, rows, :columns], inside[:, rows, :columns], where=positions[rows])


def interpolate(
    start: NDArray[np.float32],
    end: NDArray[np.float32],
    target: NDArray[np.float32],
    *,
    t: float,
    positions: tuple[int, int],
) -> None:
    """Write C×h×w at the share t of the arc from start to end (Shoemake, "Animating rotation", SIGGRAPH 1985).

    positions: the rows and columns that decide the angle. Where there is no arc, because a side is zero or both point
    the same or opposite ways, the line.
    """
    angle = _angle(start, end, positions)
    sine = math.sin(angle)
    if sine > _STRAIGHT:
        one, other = math.sin((1 - t) * angle) / sine, math.sin(t * angle) / sine
    else:
        one, other = 1 - t, t
    for rows in row_chunks(start, start.shape[1]):
        values = one * start[:, rows].astype(np.float64)
        values += other * end[:, rows].astype(np.float64)
        target[:, rows] = values


def _angle(start: NDArray[np.float32], end: NDArray[np.float32], positions: tuple[int, int]) -> float:
    """The angle between the latents as vectors, 0 … π; 0 if one of them has no length, or none that is finite."""
    height, width = positions
    products: list[tuple[float, float, float]] = []
    for rows in row_chunks(start, height):
        a, b = (array[:, rows, :width].astype(np.float64) for array in (start, end))
        products.append((float((a * a).sum()), float((b * b).sum()), float((a * b).sum())))
    aa, bb, ab = np.sum(products, axis=0)
    length = math.sqrt(aa * bb)
    if not (length > 0 and math.isfinite(length)):
        return 0.0
    return math.acos(max(-1.0, min(1.0, ab / length)))
