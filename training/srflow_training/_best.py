"""Decide whether a validation is the best so far, by a metric that the settings name."""

from __future__ import annotations

import math
from collections.abc import Mapping

from srflow_sdk.errors import ArgumentError

_FLOW = {  # 1: higher is better
    "nll": -1,
    "psnr_tau0": 1,
    "y_psnr_tau0": 1,
    "ssim_tau0": 1,
    "gmsd_tau0.8": -1,
    "haarpsi_tau0.8": 1,
    "lr_psnr_tau0.8": 1,
}
_ENCODER = {"psnr": 1, "y_psnr": 1, "ssim": 1}


class Best:
    """The best value so far of a validation metric, by its name without `validation/`.

    Raises: ArgumentError if networks of this kind have no such metric, or nothing is validated.
    """

    def __init__(self, metric: str, *, kind: str, validates: bool) -> None:
        signs = _FLOW if kind == "srflow" else _ENCODER
        if metric and metric not in signs:
            raise ArgumentError(f"schedule.best is {metric!r}; for this network it can be {', '.join(signs)}")
        if metric and not validates:
            raise ArgumentError(f"schedule.best={metric} needs photographs to validate on: add --val")
        self.metric, self.value = metric, -math.inf
        self._sign = signs.get(metric, 1)

    def improves(self, figures: Mapping[str, float]) -> bool:
        """True if these figures are better than all before."""
        value = self._sign * figures.get(f"validation/{self.metric}", math.nan)
        if not value > self.value:  # NaN is never better
            return False
        self.value = value
        return True
