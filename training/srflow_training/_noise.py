"""The runtime's noise as torch tensors, so that the network and a bundle can be compared latent by latent."""

from __future__ import annotations

import torch
from torch import Tensor

from srflow_sdk.latents.random_field import LatentLevel, window_noise
from srflow_training.model import SRFlow


def runtime_noise(model: SRFlow, lr: Tensor, *, seed: int) -> dict[int, Tensor]:
    """Standard normal noise of sample 0 for an LR image 1×3×h×w: {level: 1×C×H/2^level×W/2^level}, float32."""
    height, width = lr.shape[2:]
    shapes = model.latent_shapes(height, width)
    levels = [LatentLevel(level=level, channels=channels) for level, (channels, _, _) in shapes.items()]
    noise = window_noise(levels, scale=model.config.scale, seed=seed, sample=0, height=height, width=width)
    return {level: torch.from_numpy(array)[None] for level, array in noise.items()}
