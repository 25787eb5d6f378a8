"""The runtime's noise as torch tensors, so that the network and a bundle can be compared latent by latent."""

from __future__ import annotations

import torch
from torch import Tensor

from srflow_sdk.latents import standard_normal
from srflow_training.model import SRFlow


def runtime_noise(model: SRFlow, lr: Tensor, *, seed: int) -> dict[int, Tensor]:
    """Standard normal noise of sample 0 for an LR image 1×3×h×w: {level: 1×C×H/2^level×W/2^level}, float32."""
    return {
        level: torch.from_numpy(
            standard_normal(seed, 0, level, channels=channels, top=0, left=0, height=height, width=width)
        )[None]
        for level, (channels, height, width) in model.latent_shapes(lr.shape[2], lr.shape[3]).items()
    }
