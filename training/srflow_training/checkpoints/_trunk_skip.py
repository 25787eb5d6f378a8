"""Which skip an RRDB of the published layout has around its trunk: ESRGAN's and SRFlow's files have the same keys."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from srflow_training.model import RRDB
from srflow_training.model.config import TrunkSkip

_SIDE = 24
_SMALL = 0.05  # of values in [0, 1]; the other skip misses by more, because every block adds a fifth of its input


@torch.no_grad()
def fit_trunk_skip(model: RRDB) -> None:
    """Give the network the skip with which it enlarges: its picture of a smooth image reduces to that image.

    `last_block`, as SRFlow's encoders have it, unless `first_conv`, as ESRGAN's networks have it, clearly fits better.
    """
    last, first = _error(model, "last_block"), _error(model, "first_conv")
    model.trunk_skip = "first_conv" if first <= _SMALL and not last < 2 * first else "last_block"


def _error(model: RRDB, skip: TrunkSkip) -> float:
    """Root mean square error of the reduced picture, for values in [0, 1]."""
    lr = _smooth_image()
    model.trunk_skip = skip
    inner = (F.avg_pool2d(model(lr), model.scale) - lr)[..., 4:-4, 4:-4]  # networks do not enlarge well at borders
    return float(inner.square().mean().sqrt())


def _smooth_image() -> Tensor:
    """Waves of different directions in the channels, 1×3×24×24, from 0.25 to 0.75."""
    place = torch.arange(_SIDE) / _SIDE * 2 * math.pi
    rows, columns = place[:, None], place[None, :]
    return (
        torch.stack([torch.sin(rows + columns), torch.cos(rows - columns), torch.sin(rows).expand(_SIDE, _SIDE)])[None]
        .mul(0.25)
        .add(0.5)
    )
