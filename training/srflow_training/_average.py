"""The moving average of a run's weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def ramped_average(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    """Exponential moving average whose decay rises to `decay`, so that the initial weights are soon forgotten."""

    @torch.no_grad()
    def update(average: Any, current: Any, count: Tensor | int) -> None:
        torch._foreach_lerp_(average, current, 1 - min(decay, (1 + int(count)) / (10 + int(count))))

    return update
