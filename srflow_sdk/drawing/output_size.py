"""How large an output is: any size up to the model's own picture, which is reduced to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from srflow_sdk._checks import is_real, whole
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.pixels.resizing import Kernel

if TYPE_CHECKING:
    from srflow_sdk.model.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class OutputSize:
    """The size of an output in pixels, for the keyword `scale`. The photo's proportions are kept.

    width, height: of the output; if both are given, it fits within them and reaches one of them.
    max_side: the longer side has at most so many pixels; where the model's picture is smaller, it stays as it is.

    Raises: ArgumentError unless it is a width, a height, both, or a max_side, in whole numbers from 1 on.
    """

    width: int | None = None
    height: int | None = None
    max_side: int | None = None

    def __post_init__(self) -> None:
        sides = {"width": self.width, "height": self.height, "max_side": self.max_side}
        for name, side in sides.items():
            if side is not None:
                whole(name, side, least=1, of=" of pixels")
        if (self.max_side is None) == (self.width is None and self.height is None):
            raise ArgumentError("an OutputSize is a width, a height, or both; or a max_side alone")

    def __str__(self) -> str:
        if self.max_side is not None:
            return f"at most {self.max_side} pixels a side"
        if self.width is not None and self.height is not None:
            return f"{self.width}×{self.height} pixels"
        return f"a width of {self.width} pixels" if self.height is None else f"a height of {self.height} pixels"

    def scale_for(self, *, height: int, width: int) -> float:
        """How many times larger the sides of an output of this size are than those of a height×width image."""
        if self.max_side is not None:
            return self.max_side / max(height, width)
        return min(wanted / side for wanted, side in ((self.width, width), (self.height, height)) if wanted is not None)


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """An output that is smaller than the model's picture.

    scale: its sides divided by the image's. height, width: its sides. kernel, linear_light: how it is reduced.
    """

    scale: float
    height: int
    width: int
    kernel: Kernel
    linear_light: bool


def check_scale(scale: object) -> None:
    """Raises: ArgumentError unless it is None, a finite number above 0 or an :class:`OutputSize`."""
    if scale is None or isinstance(scale, OutputSize):
        return
    if not is_real(scale) or not math.isfinite(scale) or scale <= 0:
        raise ArgumentError(f"scale is {scale!r}; it must be a number above 0, at most the model's, or an OutputSize")


def chosen_scale(scale: float | OutputSize | None, manifest: Manifest, *, height: int, width: int) -> float | None:
    """The scale of the output of a height×width image; None if it is the model's own, so that nothing is reduced.

    Raises: ArgumentError for a number above the model's, ImageError if the image is too small for an OutputSize.
    """
    most = manifest.scale
    if scale is None:
        return None
    if not isinstance(scale, OutputSize):
        if scale > most:
            raise ArgumentError(
                f"scale is {scale:g}, but the model {manifest.name} enlarges {most} times; ask for at most {most}, "
                "name a model that enlarges more, or upscale its output again"
            )
        return None if scale == most else float(scale)
    factor = scale.scale_for(height=height, width=width)
    if factor > most and scale.max_side is None:
        raise ImageError(
            f"{scale} would be {factor:.4g} times the image's {width}×{height}, but the model {manifest.name} enlarges "
            f"{most} times, to {width * most}×{height * most}; ask for less, or upscale its output again"
        )
    return None if factor >= most else factor


def named_scale(scale: float | OutputSize | None, manifest: Manifest) -> float | None:
    """The scale for file names, an int if it is whole; None if it depends on the image.

    Raises: ArgumentError for a number above the model's.
    """
    if isinstance(scale, OutputSize):
        return None
    number = chosen_scale(scale, manifest, height=1, width=1) or manifest.scale
    return int(number) if number == int(number) else number
