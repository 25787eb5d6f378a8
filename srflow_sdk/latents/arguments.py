"""Checks of what users pass to :class:`srflow_sdk.Latents`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from srflow_sdk._checks import real, whole
from srflow_sdk.errors import ArgumentError
from srflow_sdk.model.manifest import MAX_TAU
from srflow_sdk.system.plain_text import short

_MAX_LEVEL = 16
MAX_SIDE = (1 << 32) - 1
"""Longest side of a picture in pixels."""


def level_taus(tau: object, levels: Iterable[int]) -> dict[int, float]:
    """The temperature of each level that has one. tau: a number, or numbers by level. Raises: ArgumentError."""
    known = list(levels)
    if not isinstance(tau, Mapping):
        return dict.fromkeys(known, real("tau", tau, least=0, most=MAX_TAU))
    if unknown := [level for level in tau if level not in known]:
        raise ArgumentError(f"tau names level {short(unknown[0])}; these latents have {', '.join(map(str, known))}")
    return {int(level): real(f"tau of level {level}", value, least=0, most=MAX_TAU) for level, value in tau.items()}


def check_taus(tau: object) -> None:
    """Raises: ArgumentError unless it could be :func:`level_taus` of some model."""
    level_taus(tau, tau if isinstance(tau, Mapping) else (1,))


def checked_levels(
    levels: Mapping[int, NDArray[np.float32]], *, height: int, width: int
) -> dict[int, NDArray[np.float32]]:
    """The arrays, finest level first, if all are of one padded picture. Raises: ArgumentError."""
    if not isinstance(levels, Mapping) or not levels:
        raise ArgumentError("levels is empty or no mapping; it must hold a float32 array for each level")
    padded: dict[int, tuple[int, int]] = {}
    for level, array in levels.items():
        whole("a level", level, least=1, most=_MAX_LEVEL)
        if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != 3 or not array.size:
            shown = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise ArgumentError(f"level {level} is {shown}; it must be a float32 array C×h×w")
        padded[level] = array.shape[1] << level, array.shape[2] << level
    least = min(padded.values())
    if len(set(padded.values())) > 1:
        sizes = ", ".join(f"level {level} {size[0]}×{size[1]}" for level, size in sorted(padded.items()))
        raise ArgumentError(f"the levels are of pictures of different sizes in pixels: {sizes}")
    if height > least[0] or width > least[1]:
        raise ArgumentError(f"the levels are of {least[0]}×{least[1]} pixels, less than the picture's {height}×{width}")
    return {int(level): levels[level] for level in sorted(levels)}


def checked_mask(name: str, mask: object, *, height: int, width: int) -> NDArray[np.bool_]:
    """A boolean H×W array. Raises: ArgumentError."""
    array = np.asarray(mask)
    if array.dtype != np.bool_:
        raise ArgumentError(
            f"{name} has values of type {array.dtype}; a mask is boolean: compare first, as in {name} > 127"
        )
    if array.shape != (height, width):
        size = "×".join(map(str, array.shape)) or "a single value"
        raise ArgumentError(f"{name} is {size}; it must have the rows and columns of the HR picture, {height}×{width}")
    return array
