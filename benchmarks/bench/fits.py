"""Does something grow along a straight line? A least-squares line with a non-negative start, and how far points are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Line:
    """y ≈ start + slope · x. residual: the largest |y - line| / y. r2: the share of the variance that it explains."""

    start: float
    slope: float
    r2: float
    residual: float

    def at(self, x: float) -> float:
        """The line's value."""
        return self.start + self.slope * x


def fit(x: Sequence[float], y: Sequence[float]) -> Line:
    """The line that fits positive values y best in relative terms, so that small sizes count as much as large ones.

    Raises: ValueError for fewer than three points, or if all x are equal, or a y is not positive.
    """
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    if len(xs) != len(ys) or len(xs) < 3 or np.ptp(xs) == 0 or np.any(ys <= 0):
        raise ValueError("a line needs at least three points at different x with positive y")
    weights = 1 / ys
    design = np.stack([np.ones_like(xs), xs], axis=1)
    start, slope = np.linalg.lstsq(design * weights[:, None], ys * weights, rcond=None)[0]
    if start < 0:
        start, slope = 0.0, np.sum(xs / ys) / np.sum((xs / ys) ** 2)
    line = start + slope * xs
    variance = np.sum((ys - ys.mean()) ** 2)
    r2 = 1 - np.sum((ys - line) ** 2) / variance if variance else 1.0
    return Line(float(start), float(slope), float(r2), float(np.max(np.abs(ys - line) / ys)))
