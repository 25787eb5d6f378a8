"""The calibration of a model's intervals, as its manifest holds it: how many deviations wide a pixel's interval is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srflow_sdk._checks import real, whole

Band = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Half the width of each pixel's interval, from the deviation of its samples. Both are of values in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Measured by `srflow-eval calibrate`. A pixel's interval is the samples' mean ± factor × (deviation + floor).

    floor: is added to every deviation, /255.
    classes: deviations, /255, that divide pixels into classes of texture, ascending.
    samples: numbers of samples, ascending: deviations of few are less sure.
    coverage: shares of pixels that intervals hold, 0 … 1, ascending.
    factors: by samples, class (one more than `classes`) and coverage, with which they do not fall.
    photographs: how many were measured.
    """

    floor: float
    classes: tuple[float, ...]
    samples: tuple[int, ...]
    coverage: tuple[float, ...]
    factors: tuple[tuple[tuple[float, ...], ...], ...]
    photographs: int

    def factors_of(self, n: int, coverage: float) -> list[float]:
        """The factor of each class: of the next smaller n, interpolated by coverage. Raises: ArgumentError beyond."""
        whole("n", n, least=self.samples[0], of=" of samples")
        coverage = real("coverage", coverage, least=self.coverage[0], most=self.coverage[-1])
        table = self.factors[int(np.searchsorted(self.samples, n, side="right")) - 1]
        return [float(np.interp(coverage, self.coverage, row)) for row in table]

    def band(self, n: int, coverage: float) -> Band:
        """Make the function that gives half the width of intervals; as :meth:`factors_of`."""
        factors = np.array(self.factors_of(n, coverage), np.float32)
        edges, floor = np.array(self.classes, np.float32) / 255, np.float32(self.floor / 255)
        return lambda deviation: factors[np.digitize(deviation, edges)] * (deviation + floor)
