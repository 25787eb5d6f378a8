"""Which skip an RRDB of the published layout has around its trunk: ESRGAN's and SRFlow's files have the same keys."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from srflow_training.model import RRDB
from srflow_training.model.config import TrunkSkip

_SIDE = 24
_GOOD, _BETTER = 25.0, 6.0  # dB; trained networks reach 35 and more, and fall below 20 with the other skip


@torch.no_grad()
def fit_trunk_skip(model: RRDB) -> None:
    """Give the network the skip with which it enlarges: its picture of a smooth image reduces to that image.

    `last_block`, as SRFlow's encoders have it, unless `first_conv`, as ESRGAN's networks have it, clearly fits better.
    """
    last, first = _consistency(model, "last_block"), _consistency(model, "first_conv")
    model.trunk_skip = "first_conv" if first >= _GOOD and not first < last + _BETTER else "last_block"


def _consistency(model: RRDB, skip: TrunkSkip) -> float:
    """PSNR in dB of the reduced picture."""
    lr = _smooth_image()
    model.trunk_skip = skip
    error = F.avg_pool2d(model(lr), model.scale) - lr
    return -10 * math.log10(float(error.double().square().mean()) + 1e-10)


def _smooth_image() -> Tensor:
    """Waves of different directions in the channels, 1×3×24×24, from 0.25 to 0.75."""
    place = torch.arange(_SIDE) / _SIDE * 2 * math.pi
    rows, columns = place[:, None], place[None, :]
    return (
        torch.stack([torch.sin(rows + columns), torch.cos(rows - columns), torch.sin(rows).expand(_SIDE, _SIDE)])[None]
        .mul(0.25)
        .add(0.5)
    )
