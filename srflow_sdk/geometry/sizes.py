"""Sizes: of outputs, of the LR images that an engine takes, and of latents.

`--help` imports this module, so it imports no numpy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from srflow_sdk._checks import is_real, whole
from srflow_sdk.errors import ArgumentError

LATENT_SCHEME = 1
"""Version of the latent field; a bundle names the one it was made for."""


@dataclass(frozen=True, kw_only=True)
class OutputSize:
    """The size of an output in pixels, for the keyword `scale`. The photo's proportions are kept.

    Args:
        width, height: Of the output; if both are given, it fits within them and reaches one of
            them.
        max_side: The longer side has at most so many pixels; where the model's picture is smaller,
            it stays as it is.

    Raises:
        ArgumentError: It is not a width, a height, both, or a max_side, in whole numbers from 1 on.
    """

    width: int | None = None
    height: int | None = None
    max_side: int | None = None

    def __post_init__(self) -> None:
        for name, side in vars(self).items():
            if side is not None:
                whole(name, side, least=1, of=" of pixels")
        if (self.max_side is None) == (self.width is None and self.height is None):
            raise ArgumentError("an OutputSize is a width, a height, or both; or a max_side alone")

    def __str__(self) -> str:
        if self.max_side is not None:
            return f"at most {self.max_side} pixels a side"
        if self.width is not None and self.height is not None:
            return f"{self.width}×{self.height} pixels"
        return (
            f"a width of {self.width} pixels"
            if self.height is None
            else f"a height of {self.height} pixels"
        )

    def scale_for(self, *, height: int, width: int) -> float:
        """Tell how many times larger an output of this size is than a height×width image."""
        if self.max_side is not None:
            return self.max_side / max(height, width)
        return min(
            asked / side
            for asked, side in ((self.width, width), (self.height, height))
            if asked is not None
        )


def check_scale(scale: object) -> None:
    """Raises: ArgumentError unless it is a number above 0, an :class:`OutputSize` or None."""
    if scale is None or isinstance(scale, OutputSize):
        return
    if not (is_real(scale) and math.isfinite(scale) and scale > 0):
        raise ArgumentError(
            f"scale is {scale!r}; it must be a number above 0, at most the model's, or an "
            "OutputSize"
        )


@dataclass(frozen=True, kw_only=True)
class LrProfile:
    """LR sizes that an engine takes, as (height, width) in LR pixels, each 1 … 65536.

    All other shapes follow: an engine's encoder takes `lr` 1×3×h×w, its sampler one image's
    conditioning and latents.

    Attributes:
        min: the smallest size.
        opt: the size that its kernels were chosen for.
        max: the largest size.
    """

    min: tuple[int, int]
    opt: tuple[int, int]
    max: tuple[int, int]

    def holds(self, height: int, width: int) -> bool:
        """True if an LR image of this size fits."""
        return self.min[0] <= height <= self.max[0] and self.min[1] <= width <= self.max[1]

    def __str__(self) -> str:
        """The profile as `srflow-export --shapes` takes it, such as "16x16,88x120,256x256"."""
        return ",".join("x".join(map(str, size)) for size in (self.min, self.opt, self.max))


@dataclass(frozen=True, kw_only=True)
class LatentLevel:
    """Latents of one flow level, standard normal float32.

    N×channels×(HR height / 2^level)×(HR width / 2^level).
    """

    level: int
    """Level of the flow, 1 (the finest) … 16; 2^level divides scale × size_multiple, so the shape
    above is whole."""

    channels: int
    """Number of channels, 1 … 65536."""
