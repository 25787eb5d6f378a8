"""The temperature τ of a picture: one number, a map of them, or one made from the picture."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from srflow_sdk._checks import is_real, real
from srflow_sdk.drawing.auto_tau import REACH, texture
from srflow_sdk.drawing.tiles import Window, padded_size
from srflow_sdk.errors import ArgumentError
from srflow_sdk.model.manifest import MAX_TAU

if TYPE_CHECKING:
    from srflow_sdk.drawing.low_resolution import LowResolution

AUTO: Literal["auto"] = "auto"

Tau = float | NDArray[Any] | Literal["auto"]
"""A temperature: a number 0 … 2; an array H×W of them, one for every pixel of the input; or "auto", the model's
default, less on flat areas (:mod:`~srflow_sdk.drawing.auto_tau`)."""


class Temperature:
    """A checked temperature for one image.

    tau: a number; an array of real numbers of the image's height×width; 0 … 2 each; or "auto". default: the number that
    "auto" scales.
    The latents of a level are multiplied by the map on that level's grid: repeated where the grid is finer than the
    LR image's, averaged where it is coarser. A constant map gives what the number gives, bit for bit.

    Raises: ArgumentError for other types, shapes and values.
    """

    def __init__(self, tau: Tau, *, default: float, height: int, width: int, multiple: int) -> None:
        self.number: float | None = None
        """None for an array; of "auto", the default."""
        self.auto = is_auto(tau)
        self._map: NDArray[np.float32] | None = None
        self._top = self._left = 0
        if is_map(tau):
            checked = _checked_map(tau, height=height, width=width)
            margins = ((0, padded_size(height, multiple) - height), (0, padded_size(width, multiple) - width))
            self._map = np.pad(checked, margins, mode="edge")
        else:
            self.number = default if self.auto else checked_number(tau)

    @property
    def reach(self) -> int:
        """How many LR rows beyond a window's decide its temperature."""
        return REACH if self.auto else 0

    def for_rows(self, lr: LowResolution, top: int, bottom: int) -> Temperature:
        """The temperature for windows within these rows of the padded image: "auto" becomes a map of them."""
        if not self.auto or self.number is None:
            return self
        above = max(top - REACH, 0)
        seen = lr.network_rows(above, bottom + REACH)
        margins = ((0, 0), (REACH - (top - above), 0), (REACH, REACH))
        part = copy.copy(self)
        part._map = np.float32(self.number) * texture(np.pad(seen, margins, mode="edge"))
        part._top = top
        return part

    def mirrored(self) -> Temperature:
        """The negative of it: samples drawn with it have the latents of the others, negated."""
        part = copy.copy(self)
        part.number = None if self.number is None else -self.number
        part._map = None if self._map is None else -self._map
        return part

    def placed(self, top: int, left: int) -> Temperature:
        """Place it for an image that begins here in a larger one, as its windows do."""
        part = copy.copy(self)
        part._top, part._left = top, left
        return part

    def on_levels(
        self, levels: Iterable[int], window: Window, scale: int
    ) -> tuple[dict[int, NDArray[np.float32]], float]:
        """The window's part of the map on each level's grid, h×w, if there is one, and the factor that is left."""
        part = self.within(window)
        if not isinstance(part, np.ndarray):
            return {}, part
        return {level: _on_level(part, level, scale) for level in levels}, 1.0

    def within(self, window: Window) -> float | NDArray[np.float32]:
        """The number, or the window's part of the map, h×w."""
        if self._map is None:
            assert self.number is not None
            return self.number
        rows, columns = window.slices
        part = self._map[rows.start - self._top : rows.stop - self._top, columns.start - self._left :]
        return part[:, : columns.stop - columns.start]

    def __str__(self) -> str:
        if self.auto:
            return f"auto (at most {self.number:g})"
        if self._map is None:
            return f"{self.number:g}"
        return f"{self._map.min():g} … {self._map.max():g}"


def is_auto(tau: object) -> TypeGuard[Literal["auto"]]:
    return isinstance(tau, str) and tau == AUTO


def is_map(tau: object) -> TypeGuard[NDArray[Any]]:
    """Tell if it is an array with a number for every pixel, rather than one number."""
    return isinstance(tau, np.ndarray) and tau.ndim > 0


def checked_number(tau: object) -> float:
    """Raises: ArgumentError unless it is a finite number 0 … 2."""
    if isinstance(tau, np.ndarray) and tau.ndim == 0:
        tau = tau.item()
    if not is_real(tau):
        raise ArgumentError(
            f'tau is {tau!r}; it must be a number from 0 to {MAX_TAU:g}, "auto", or an array of the image\'s H×W'
        )
    return real("tau", tau, least=0, most=MAX_TAU)


def _checked_map(tau: NDArray[Any], *, height: int, width: int) -> NDArray[np.float32]:
    if tau.dtype.kind not in "fiu" or tau.shape != (height, width):
        raise ArgumentError(
            f"the tau map is {tau.dtype} of shape {tau.shape}; it must be an array of numbers with the image's height "
            f"and width, {height}×{width}"
        )
    low, high = float(tau.min()), float(tau.max())
    if not (math.isfinite(low) and math.isfinite(high) and low >= 0 and high <= MAX_TAU):
        raise ArgumentError(
            f"the tau map's values run from {low:g} to {high:g}; they must be finite numbers from 0 to {MAX_TAU:g}"
        )
    return tau.astype(np.float32)


def _on_level(part: NDArray[np.float32], level: int, scale: int) -> NDArray[np.float32]:
    """The map on a level's grid, which has scale / 2^level points for every LR pixel."""
    common = math.gcd(scale, 1 << level)
    finer, coarser = scale // common, (1 << level) // common
    repeated = part.repeat(finer, axis=0).repeat(finer, axis=1)
    if coarser == 1:
        return repeated
    height, width = repeated.shape
    blocks = repeated.reshape(height // coarser, coarser, width // coarser, coarser)
    averaged: NDArray[np.float32] = blocks.mean(axis=(1, 3))
    return averaged
