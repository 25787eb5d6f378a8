"""Images as tensors 1×3×H×W, in [0, 1], and as arrays H×W×3."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def to_array(image: Tensor) -> npt.NDArray[np.float32]:
    """1×3×H×W as float32 H×W×3."""
    array: npt.NDArray[np.float32] = image[0].permute(1, 2, 0).contiguous().numpy()
    return array


def to_tensor(array: npt.NDArray[np.float32]) -> Tensor:
    """Float32 H×W×3 as 1×3×H×W."""
    return torch.from_numpy(array).permute(2, 0, 1)[None]


def to_pixels(image: Tensor) -> npt.NDArray[np.uint8]:
    """1×3×H×W as 8-bit H×W×3."""
    pixels: npt.NDArray[np.uint8] = (image[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(pixels)
