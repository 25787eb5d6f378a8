"""The map of ``tau="auto"``: which part of the temperature each place of a picture gets.

Detail that is sampled helps where the picture has texture, and harms flat areas (grain), text and line art (frayed
edges). A window of 17×17 LR pixels around each pixel tells them apart by two numbers of its luma, in 8-bit levels:

- its standard deviation, small in flat areas;
- Sarle's bimodality coefficient b = (skewness² + 1) / kurtosis, which is 1 if the window has only two levels, such as
  ink and paper, 5/9 for evenly distributed levels and 1/3 for a normal distribution. It does not depend on contrast.

texture = s((deviation - 2) / 6) · (1 - s((b - 0.55) / 0.25)), where s is the step 3x² - 2x³ of x kept within 0 … 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

AUTO_TAU_SCHEME = 1
"""Version of the map, which pictures record: another formula gets another number."""

REACH = 8
"""How far from a pixel its window reaches, in LR pixels."""

_LUMA = (0.299, 0.587, 0.114)
_DEVIATION = (2.0, 8.0)
_BIMODALITY = (0.55, 0.8)


def texture(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much texture surrounds each pixel: h×w in [0, 1], for an image 3×(h + 16)×(w + 16) of sRGB in [0, 1].

    The window's sums are whole numbers, so a pixel's value depends on its window alone, to the bit.
    """
    red, green, blue = (factor * channel.astype(np.float64) for factor, channel in zip(_LUMA, rgb, strict=True))
    level = np.clip(np.rint(255 * (red + green + blue)), 0, 255).astype(np.int64)
    count = (2 * REACH + 1) ** 2
    first, second, third, fourth = (_window_sums(level**power) / count for power in (1, 2, 3, 4))
    variance = second - first**2
    skew = third - 3 * first * second + 2 * first**3
    spread = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    bimodality = (skew**2 + variance**3) / np.maximum(spread * variance, 1e-9)
    contrast = _step(np.sqrt(np.maximum(variance, 0)), *_DEVIATION)
    return (contrast * (1 - _step(bimodality, *_BIMODALITY))).astype(np.float32)


def _window_sums(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums over all windows that lie within the array."""
    side = 2 * REACH + 1
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    rows: NDArray[np.int64] = sums[side:] - sums[:-side]
    return rows[:, side:] - rows[:, :-side]


def _step(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """0 below `low`, 1 above `high`, and smooth between."""
    x = np.clip((values - low) / (high - low), 0, 1)
    return x * x * (3 - 2 * x)
