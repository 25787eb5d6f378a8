"""The values that a network gives for a tile: those that can be a picture, and the mean and spread of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.drawing.requests import Reduce, Request
from srflow_sdk.drawing.tiles import Tile
from srflow_sdk.errors import NonFiniteError
from srflow_sdk.model.intervals import Band
from srflow_sdk.pixels.in_memory import from_unit, luma

_LARGEST = 65504  # of float16; a picture's values are in [0, 1], or little beyond


def is_usable(values: NDArray[np.float32]) -> bool:
    """Tell if a network's values can be a picture: finite, and no larger than half precision could hold."""
    return bool(values.min() >= -_LARGEST and values.max() <= _LARGEST)  # not so if one is NaN


def not_finite(who: str, tile: Tile, request: Request, sample: int, *, also: str = "") -> NonFiniteError:
    """Make the error for values that are not usable, with their place in the picture. who: gave them."""
    place, made = tile.core, f"at tau {request.temperature}, seed {request.seed}, sample {sample}"
    of, fix = "input", "use a lower tau, another seed, or another model"
    if request.latents is not None:
        made, of, fix = "from latents", "LR image", "normalise them to a lower tau, or use another model"
    return NonFiniteError(
        f"{who} gave NaN or infinite values, or some beyond ±{_LARGEST:,}, {made}, in rows {place.top} to "
        f"{place.top + place.height - 1} and columns {place.left} to {place.left + place.width - 1} of the "
        f"{of}{also}; {fix}"
    )


class Gathered:
    """The samples of a tile, or their mean or standard deviation, for which only two pictures are held.

    For an "interval", it is the first sample, and the lower and upper bounds.

    channels: 1 (gray) or 3. dtype: of the pictures; all but float32 are rounded to its full range. band: an interval's.
    """

    def __init__(self, reduce: Reduce | None, channels: int, dtype: np.dtype[Any], band: Band | None = None) -> None:
        self._band = band
        self._reduce = reduce
        self._channels = channels
        self._dtype = dtype
        self._all: list[NDArray[Any]] = []
        self._count = 0
        self._mean = self._squares = np.zeros(0, np.float32)

    @property
    def takes_levels(self) -> bool:
        """True if :meth:`add` also takes pictures that are rounded to uint8."""
        return self._reduce is None and self._channels == 3 and self._dtype == np.uint8

    def add(self, picture: NDArray[Any]) -> None:
        """Take the next sample, RGB h×w×3."""
        if self._channels == 1:
            picture = luma(picture)
        if self._reduce is None:
            self._all.append(self._rounded(picture))
            return
        # Welford's update: the sum of squared deviations without a difference of large numbers.
        if self._reduce == "interval" and not self._count:
            self._all.append(self._rounded(picture))
        picture = np.clip(picture, 0, 1)
        self._count += 1
        if self._count == 1:
            self._mean, self._squares = picture, np.zeros_like(picture)
            return
        change = picture - self._mean
        self._mean = self._mean + change / np.float32(self._count)
        self._squares += change * (picture - self._mean)

    def pictures(self) -> list[NDArray[Any]]:
        if self._reduce is None:
            return self._all
        if self._reduce == "mean":
            return [self._rounded(self._mean)]
        deviation = np.sqrt(self._squares / np.float32(self._count - 1))
        if self._band is None:
            return [self._rounded(deviation)]
        half = self._band(deviation)
        return [*self._all, *(self._rounded(np.clip(self._mean + side, 0, 1)) for side in (-half, half))]

    def _rounded(self, picture: NDArray[Any]) -> NDArray[Any]:
        return picture if self._dtype in (np.float32, picture.dtype) else from_unit(picture, self._dtype)
