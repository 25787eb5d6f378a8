"""The map of ``tau="auto"``: which part of the temperature each place of a picture gets.

Detail that is sampled helps where the picture has texture, and is grain on flat areas. So each pixel's part is the
standard deviation of the luma, in 8-bit levels, of the 7×7 LR pixels around it, divided by 2, and at most 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

AUTO_TAU_SCHEME = 2
"""Version of the map, which pictures record: another formula gets another number."""

REACH = 3
"""How far from a pixel its window reaches, in LR pixels."""

_LUMA = (0.299, 0.587, 0.114)
_TEXTURE = 2.0  # the standard deviation from which a window has all of the temperature


def texture(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much texture surrounds each pixel: h×w in [0, 1], for an image 3×(h + 6)×(w + 6) of sRGB in [0, 1].

    The window's sums are whole numbers, so a pixel's value depends on its window alone, to the bit.
    """
    red, green, blue = (factor * channel.astype(np.float64) for factor, channel in zip(_LUMA, rgb, strict=True))
    level = np.clip(np.rint(255 * (red + green + blue)), 0, 255).astype(np.int64)
    mean, square = (_window_sums(level**power) / (2 * REACH + 1) ** 2 for power in (1, 2))
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    return np.minimum(deviation / _TEXTURE, 1).astype(np.float32)


def _window_sums(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums over all windows that lie within the array."""
    side = 2 * REACH + 1
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    rows: NDArray[np.int64] = sums[side:] - sums[:-side]
    return rows[:, side:] - rows[:, :-side]
