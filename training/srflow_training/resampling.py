"""Reduction and enlargement like MATLAB's imresize, whose bicubic SR benchmarks agree on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def reduce_bicubic(image: Tensor, scale: int) -> Tensor:
    """Reduce N×C×sh×sw to N×C×h×w: antialiased bicubic (a = −0.5), mirrored borders.

    Values are not rounded and not clipped.
    """
    padded = mirror_pad(image, 4 * scale)
    return reduce_window(padded, scale, margin=4, reduction="bicubic")


def reduce_bilinear(image: Tensor, scale: int) -> Tensor:
    """Reduce N×C×sh×sw to N×C×h×w: antialiased bilinear (2·scale pixels wide), mirrored borders.

    Values are not rounded.
    """
    padded = mirror_pad(image, 4 * scale)
    return reduce_window(padded, scale, margin=4, reduction="bilinear")


def enlarge_bicubic(image: Tensor, scale: int) -> Tensor:
    """Enlarge N×C×h×w to N×C×sh×sw: bicubic (a = −0.5), mirrored borders.

    Values are not rounded and not clipped.
    """
    large = F.interpolate(
        mirror_pad(image, 4),
        scale_factor=scale,
        mode="bicubic",
        antialias=True,
        align_corners=False,
    )
    margin = 4 * scale
    return large[..., margin:-margin, margin:-margin]


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
            levels,
            scale_factor=factors,
            mode=reduction,
            antialias=True,
            align_corners=False,
        )
        levels = small.clamp(0, 255).round()
    return levels[..., 4:-4, 4:-4].float() / 255


def reduce_window(
    image: Tensor,
    scale: int,
    *,
    margin: int,
    reduction: str,
) -> Tensor:
    """Reduce an inner part, around which the image has `margin` LR pixels, at least 2."""
    resized = F.interpolate(
        image,
        scale_factor=1 / scale,
        mode=reduction,
        antialias=True,
        align_corners=False,
    )
    return resized[..., margin:-margin, margin:-margin]


def mirror_pad(image: Tensor, pad: int) -> Tensor:
    """Pad N×C×H×W on all four sides, by any width: mirrored, with the edge pixel repeated."""
    for axis in (2, 3):
        size = image.shape[axis]
        positions = torch.arange(-pad, size + pad, device=image.device) % (2 * size)
        mirrored = torch.where(positions < size, positions, 2 * size - 1 - positions)
        image = image.index_select(axis, mirrored)
    return image


def round_to_8_bit(image: Tensor) -> Tensor:
    """Round values as an 8-bit file holds them: clipped to [0, 1], multiples of 1/255."""
    return _levels(image) / 255


def to_8_bit(image: Tensor) -> Tensor:
    """Values as an 8-bit file holds them, uint8."""
    return _levels(image).to(torch.uint8)


def _levels(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round()
