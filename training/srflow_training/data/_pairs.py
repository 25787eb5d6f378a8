"""Draw what a network trains on."""

from __future__ import annotations

import torch
from torch import Tensor

from srflow_training.data._crops import Batch

_MOST = 8


def pairs_picture(batch: Batch) -> Tensor:
    """Draw 3×H×W in [0, 1]: for each of the first eight crops a row, LR (pixels as squares) beside HR."""
    hr = batch.hr[:_MOST]
    scale = hr.shape[3] // batch.lr.shape[3]
    lr = batch.lr[:_MOST].repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    return torch.cat(list(torch.cat([lr, hr], dim=3)), dim=1)
