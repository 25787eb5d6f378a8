"""The temperature τ of a picture: one number, a map of them, or one made from the picture.

The map of ``tau="auto"``: detail that is sampled helps where the picture has texture, and is grain
on flat areas. So each pixel gets a part of the temperature: the standard deviation of the luma, in
8-bit levels, of the 7×7 LR pixels around it, divided by 2, and at most 1.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from srflow_sdk._checks import MAX_TAU, is_real, real
from srflow_sdk.drawing.wrapping import add_margins
from srflow_sdk.errors import ArgumentError
from srflow_sdk.geometry.tiles import Window, padded_size
from srflow_sdk.pixels.in_memory import Floats

if TYPE_CHECKING:
    from srflow_sdk.drawing.low_resolution import LowResolution

AUTO_TAU_SCHEME = 2
"""Version of the map, which pictures record: another formula gets another number."""

REACH = 3
"""How far from a pixel its window reaches, in LR pixels."""

_LUMA = (0.299, 0.587, 0.114)
_TEXTURE = 2.0  # the standard deviation from which a window has all of the temperature

Tau = float | NDArray[Any] | Literal["auto"]
"""A temperature: a number 0 … 2; an array H×W of them, one for every pixel of the input; or
"auto"."""


class Temperature:
    """A checked temperature for one image.

    The latents of a level are multiplied by the map on that level's grid: repeated where the grid
    is finer than the LR image's, averaged where it is coarser. A constant map gives what the number
    gives, bit for bit.

    Args:
        default: The number that "auto" scales.
        margins: Of its repetition, with which the image is drawn.

    Raises:
        ArgumentError: A map does not fit the image.
    """

    def __init__(
        self,
        tau: Tau,
        *,
        default: float,
        height: int,
        width: int,
        multiple: int,
        margins: Sequence[int] = (0, 0),
    ) -> None:
        number = default if isinstance(tau, str) else tau
        self.number = None if isinstance(number, np.ndarray) else number
        """None for an array; of "auto", the default."""
        self.reach = REACH if isinstance(tau, str) else 0
        """How many LR rows beyond a window's decide its temperature."""
        self._map: Floats | None = None
        self._top = self._left = 0
        if isinstance(tau, np.ndarray):
            whole = add_margins(_check_map(tau, height=height, width=width), margins)
            self._map = np.pad(
                whole,
                [(0, padded_size(side, multiple) - side) for side in whole.shape],
                mode="edge",
            )

    def for_rows(self, lr: LowResolution, top: int, bottom: int) -> Temperature:
        """The temperature for windows within rows of the padded image, where "auto" is a map."""
        if not self.reach or self.number is None:
            return self
        above = max(top - REACH, 0)
        margins = ((0, 0), (REACH - (top - above), 0), (REACH, REACH))
        part = copy.copy(self)
        seen = np.pad(lr.network_rows(above, bottom + REACH), margins, mode="edge")
        part._map = np.float32(self.number) * texture(seen)
        part._top = top
        return part

    def negate(self) -> Temperature:
        """The negative of it: samples drawn with it have the latents of the others, negated."""
        part = copy.copy(self)
        part.number = None if self.number is None else -self.number
        part._map = None if self._map is None else -self._map
        return part

    def move_to(self, top: int, left: int) -> Temperature:
        """Place it for an image that begins here in a larger one, as its windows do."""
        part = copy.copy(self)
        part._top, part._left = top, left
        return part

    def on_levels(
        self, levels: Iterable[int], window: Window, scale: int
    ) -> tuple[dict[int, Floats], float]:
        """The window's part of the map on each level's grid, and the factor that is left."""
        part = self.within(window)
        if not isinstance(part, np.ndarray):
            return {}, part
        maps = {}
        for level in levels:  # its grid has scale / 2^level points for every LR pixel
            common = math.gcd(scale, 1 << level)
            finer = scale // common
            coarser = (1 << level) // common
            points = part.repeat(finer, axis=0).repeat(finer, axis=1)
            if coarser > 1:
                height, width = (side // coarser for side in points.shape)
                points = points.reshape(height, coarser, width, coarser).mean(axis=(1, 3))
            maps[level] = points
        return maps, 1.0

    def within(self, window: Window) -> float | Floats:
        """The number, or the window's part of the map, h×w."""
        if self._map is None:
            assert self.number is not None
            return self.number
        top, left = window.top - self._top, window.left - self._left
        return self._map[top : top + window.height, left : left + window.width]

    def __str__(self) -> str:
        if self.reach:
            return f"auto (at most {self.number:g})"
        if self._map is None:
            return f"{self.number:g}"
        return f"{self._map.min():g} … {self._map.max():g}"


def texture(rgb: Floats) -> Floats:
    """How much texture surrounds each pixel of sRGB in [0, 1], 3×(h + 6)×(w + 6): h×w in [0, 1].

    The window's sums are whole numbers, so a pixel's value depends on its window alone, to the bit.
    """
    red, green, blue = (
        factor * channel.astype(np.float64) for factor, channel in zip(_LUMA, rgb, strict=True)
    )
    level = np.clip(np.rint(255 * (red + green + blue)), 0, 255).astype(np.int64)
    side = 2 * REACH + 1
    moments = []
    for power in (1, 2):
        sums = np.pad(level**power, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
        rows = sums[side:] - sums[:-side]
        moments.append((rows[:, side:] - rows[:, :-side]) / side**2)
    deviation = np.sqrt(np.maximum(moments[1] - moments[0] ** 2, 0))
    part: Floats = np.minimum(deviation / _TEXTURE, 1).astype(np.float32)
    return part


def check_tau(tau: object) -> Tau:
    """A temperature as it is, a number as Python's own. Raises: ArgumentError for what is none."""
    if isinstance(tau, np.ndarray):
        return tau  # what it holds is checked once the image's size is known
    if isinstance(tau, str) and tau == "auto":
        return "auto"
    if not is_real(tau):
        raise ArgumentError(
            f'tau is {tau!r}; it must be a number from 0 to {MAX_TAU:g}, "auto", or an array of '
            "the image's H×W"
        )
    return real("tau", tau, least=0, most=MAX_TAU)


def _check_map(tau: NDArray[Any], *, height: int, width: int) -> Floats:
    if tau.dtype.kind not in "fiu" or tau.shape != (height, width):
        raise ArgumentError(
            f"the tau map is {tau.dtype} of shape {tau.shape}; it must be an array of numbers "
            f"with the image's height and width, {height}×{width}"
        )
    low, high = float(tau.min()), float(tau.max())
    if not (math.isfinite(low) and math.isfinite(high) and low >= 0 and high <= MAX_TAU):
        raise ArgumentError(
            f"the tau map's values run from {low:g} to {high:g}; they must be finite numbers from "
            f"0 to {MAX_TAU:g}"
        )
    return tau.astype(np.float32)
