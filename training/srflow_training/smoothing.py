"""Conservative smoothing of samples, as the runtime does it, with gradients."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from srflow_sdk.pixels.conservative_smoothing import NEIGHBOURS, second_least_and_most
from srflow_training.figures import luma


def smooth(image: Tensor) -> Tensor:
    """Limit the luma of each pixel of N×3×H×W to its neighbours'; the colour's hue stays."""
    own = luma(image)
    around = F.pad(own, (1, 1, 1, 1), "replicate")
    height, width = own.shape[2:]
    neighbours = [
        around[..., down : down + height, right : right + width] for down, right in NEIGHBOURS
    ]
    low, high = second_least_and_most(neighbours, torch.minimum, torch.maximum)
    return image + torch.maximum(torch.minimum(own, high), low) - own
