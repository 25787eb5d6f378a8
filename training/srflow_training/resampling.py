"""Reduction and enlargement like MATLAB's imresize, whose bicubic is the convention of SR
benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def reduce_bicubic(image: Tensor, scale: int) -> Tensor:
    """Reduce N×C×sh×sw to N×C×h×w: antialiased bicubic (a = −0.5), mirrored borders.

    Not rounded, not clipped.
    """
    return _resize(image, 1 / scale, border=1, scale=scale)


def reduce_bilinear(image: Tensor, scale: int) -> Tensor:
    """Reduce N×C×sh×sw to N×C×h×w: antialiased bilinear (2·scale pixels wide), mirrored borders.

    Not rounded.
    """
    return _resize(image, 1 / scale, border=1, scale=scale, mode="bilinear")


def enlarge_bicubic(image: Tensor, scale: int) -> Tensor:
    """Enlarge N×C×h×w to N×C×sh×sw: bicubic (a = −0.5), mirrored borders.

    Not rounded, not clipped.
    """
    return _resize(image, scale, border=scale, scale=scale)


REDUCTIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "bicubic": reduce_bicubic,
    "bilinear": reduce_bilinear,
}
"""Reductions by the name that settings, checkpoints and manifests give them."""


def reduce_in_passes(image: Tensor, scale: int, reduction: str) -> Tensor:
    """Reduce an image of 8 bits as MATLAB's imresize does one of uint8.

    Columns come first, then rows, and each pass is rounded to 8 bits.

    Args:
        image: N×C×sh×sw in [0, 1].
    """
    levels = (mirror_pad(image, 4 * scale).double() * 255).round()
    for factors in ((1 / scale, 1.0), (1.0, 1 / scale)):
        small = F.interpolate(
            levels, scale_factor=factors, mode=reduction, antialias=True, align_corners=False
        )
        levels = small.clamp(0, 255).round()
    return levels[..., 4:-4, 4:-4].float() / 255


def reduce_window(image: Tensor, scale: int, *, margin: int, reduction: str) -> Tensor:
    """Reduce an inner part, around which the image has `margin` LR pixels, at least 2: the same
    values, unpadded.
    """
    resized = F.interpolate(
        image, scale_factor=1 / scale, mode=reduction, antialias=True, align_corners=False
    )
    return resized[..., margin:-margin, margin:-margin]


def _resize(
    image: Tensor,
    factor: float,
    *,
    border: int,
    scale: int,
    mode: Literal["bicubic", "bilinear"] = "bicubic",
) -> Tensor:
    """Pad by four kernel supports, resize, and crop the resized padding."""
    pad = 4 * scale if factor < 1 else 4
    padded = mirror_pad(image, pad)
    resized = F.interpolate(
        padded, scale_factor=factor, mode=mode, antialias=True, align_corners=False
    )
    margin = 4 * border
    return resized[..., margin:-margin, margin:-margin]


def mirror_pad(image: Tensor, pad: int) -> Tensor:
    """Symmetric padding (the edge pixel is repeated), of any width, on all four sides of
    N×C×H×W.
    """
    for axis in (2, 3):
        size = image.shape[axis]
        positions = torch.arange(-pad, size + pad, device=image.device) % (2 * size)
        image = image.index_select(
            axis, torch.where(positions < size, positions, 2 * size - 1 - positions)
        )
    return image


def round_to_8_bit(image: Tensor) -> Tensor:
    """Round values as an 8-bit file holds them: clipped to [0, 1], multiples of 1/255."""
    return _levels(image) / 255


def to_8_bit(image: Tensor) -> Tensor:
    """Values as an 8-bit file holds them, uint8."""
    return _levels(image).to(torch.uint8)


def _levels(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round()
