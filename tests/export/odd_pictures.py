"""A picture whose sides are no multiples of anything, as the SDK and as the network draw it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from srflow_export.plain import network_picture
from srflow_sdk import Bundle
from srflow_training import SRFlow
from srflow_training.validation import runtime_noise


@torch.no_grad()
def drawn_twice(bundle: Bundle | Path, model: SRFlow) -> tuple[NDArray[Any], NDArray[Any]]:
    """Enlarge 11×7 pixels, padded to 12×8: by the SDK, and by the torch network, cut to the same size."""
    image = np.random.default_rng(0).random((11, 7, 3), dtype=np.float32)
    padded = np.pad(image, ((0, 1), (0, 1), (0, 0)), mode="edge")
    lr = torch.from_numpy(padded.transpose(2, 0, 1)[None].copy())
    expected = model.decode(lr, {level: 0.7 * z for level, z in runtime_noise(model, lr, seed=5).items()})[0]
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    actual = network_picture(opened, image, tau=0.7, seed=5)
    height, width = (model.config.scale * side for side in (11, 7))
    return actual, expected.numpy().transpose(1, 2, 0).clip(0, 1)[:height, :width]
