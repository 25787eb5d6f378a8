"""Reduces finished colours of the model's size to those of a smaller output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.drawing.low_resolution import LowResolution
from srflow_sdk.drawing.output_size import Reduced
from srflow_sdk.pixels.matrix_profiles import SRGB_CURVE, Curve
from srflow_sdk.pixels.resizing import RowReducer

_ROWS = 64  # at a time, so that copies of a band stay small
_INVISIBLE = np.float32(0.5 / 255)  # colours of pixels below it do not show


class Shrinking:
    """Takes rows of the model's size from the top down and gives rows of a smaller output.

    Colours are clipped to [0, 1] first, as in the model's picture, but not rounded. With alpha, a pixel's weight is
    multiplied by it, so that colours of transparent pixels do not bleed. own_profile: whether colours are in the
    image's profile; otherwise they are sRGB.
    """

    def __init__(self, lr: LowResolution, *, scale: int, to: Reduced, own_profile: bool) -> None:
        size = lr.height * scale, lr.width * scale
        self._reducer = RowReducer(size, (to.height, to.width), to.kernel)
        curves: Sequence[Curve] = (SRGB_CURVE,) * lr.kind.colours
        if own_profile and lr.conversion is not None:
            curves = lr.conversion.curves
        self._curves = curves if to.linear_light else ()

    def push(self, colours: NDArray[np.float32], alpha: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """Take the next rows, h×W×1 or 3 and h×W in [0, 1], and return the finished ones, h'×W'×C with alpha if any."""
        parts = [slice(top, top + _ROWS) for top in range(0, len(colours), _ROWS)]
        return np.concatenate([self._pushed(colours[part], None if alpha is None else alpha[part]) for part in parts])

    def _pushed(self, colours: NDArray[np.float32], alpha: NDArray[np.float32] | None) -> NDArray[np.float32]:
        light = np.clip(colours, 0, 1)
        for channel, curve in enumerate(self._curves):
            light[..., channel] = curve.linear(light[..., channel])
        if alpha is None:
            return self._values(self._reducer.push(light))
        weight = alpha[..., None]
        # Reduced alike: weighted colours, the weight itself, and colours for where nothing is visible.
        rows = self._reducer.push(np.concatenate([light * weight, weight, light], axis=2))
        count = light.shape[2]
        weighted, weight, plain = rows[..., :count], rows[..., count : count + 1], rows[..., count + 1 :]
        visible = weight > _INVISIBLE
        result = np.where(visible, weighted / np.where(visible, weight, 1), plain)
        return np.concatenate([self._values(result), np.clip(weight, 0, 1)], axis=2)

    def _values(self, light: NDArray[np.float32]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = np.clip(light, 0, 1)
        for channel, curve in enumerate(self._curves):
            values[..., channel] = curve.values(values[..., channel])
        return values
