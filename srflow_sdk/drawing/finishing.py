"""Turns the network's colours into finished rows of one output: consistency, profile, size, rounding, alpha."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.drawing.low_resolution import LowResolution
from srflow_sdk.drawing.measuring import LrPsnrMeter
from srflow_sdk.drawing.output_size import Reduced
from srflow_sdk.drawing.requests import Request
from srflow_sdk.drawing.rows import RowBuffer
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.pixels.consistency import CONTEXT, projected
from srflow_sdk.pixels.in_memory import from_unit, to_unit
from srflow_sdk.pixels.matrix_profiles import SRGB_CURVE, Curve
from srflow_sdk.pixels.resizing import LrKernel, RowReducer

_ROWS = 64  # at a time, so that copies of a band stay small
_INVISIBLE = np.float32(0.5 / 255)  # colours of pixels below it do not show


class Finishing:
    """Takes the rows of one output from the top down and passes them, finished, to `write`.

    request: if it wants a consistent output, rows are changed so that their reduction is the LR image; at the end,
        they are reduced to its size.
    write: called with h×W×channels of the image's dtype.
    measure: compare the reduction of the finished rows, of the model's size, with the LR image.
    plain: write values unchanged but for their size, as float32 without alpha.
    """

    def __init__(
        self,
        lr: LowResolution,
        manifest: Manifest,
        request: Request,
        *,
        write: Callable[[NDArray[Any]], None],
        measure: bool = False,
        plain: bool = False,
    ) -> None:
        self._lr = lr
        self._scale = scale = manifest.scale
        self._kernel: LrKernel = manifest.reduction
        self._write = write
        self._plain = plain
        self._drawn = RowBuffer() if request.options.consistent else None
        self._meter = LrPsnrMeter(lr, scale, self._kernel) if measure else None
        to = request.reduced
        self._shrinking = None if to is None else _Shrinking(lr, scale=scale, to=to, own_profile=not plain)
        # LR rows that are projected and written.
        self._projected = self._done = 0

    @property
    def band_dtype(self) -> np.dtype[Any]:
        """The dtype that :meth:`push` takes: the image's if nothing else is done to the values, otherwise float32."""
        lr = self._lr
        floats = self._plain or self._drawn is not None or lr.conversion is not None or self._shrinking is not None
        return np.dtype(np.float32) if floats else lr.kind.dtype

    @property
    def needed_from(self) -> int:
        """The first LR row that this output still needs."""
        needed = self._done
        if self._drawn is not None:  # the rows above it wait for their context
            needed = min(needed, self._projected - CONTEXT)
        if self._meter is not None:
            needed = min(needed, self._meter.needed_from)
        return max(needed, 0)

    @property
    def lr_psnr(self) -> float | None:
        """LR-PSNR in dB of all rows so far, None if it is not measured."""
        return None if self._meter is None else self._meter.db

    def push(self, band: NDArray[Any]) -> None:
        """Take the next rows, sh×sW×1 or 3 of :attr:`band_dtype`."""
        scale, height = self._scale, self._lr.height
        if self._drawn is None:
            self._finish(self._in_own_profile(band, self._done))
            return
        # Projected in the image's own values, so that the conversion to its profile cannot undo it.
        self._drawn.append(self._in_own_profile(band, self._drawn.bottom // scale))
        available = self._drawn.bottom // scale
        ready = available if available == height else available - CONTEXT
        if ready <= self._projected:
            return
        top = max(self._projected - CONTEXT, 0)
        rows = projected(
            self._drawn.rows(top * scale, available * scale),
            self._lr.own_colours(top, available),
            scale,
            kernel=self._kernel,
            top=top == 0,
            bottom=available == height,
        )
        first, self._projected = self._projected, ready
        self._finish(rows[(first - top) * scale : (ready - top) * scale])
        self._drawn.forget((ready - CONTEXT) * scale)

    def _finish(self, band: NDArray[Any]) -> None:
        top, bottom = self._done, self._done + band.shape[0] // self._scale
        kind, alpha = self._lr.kind, None
        if kind.has_alpha and not self._plain:
            alpha = self._lr.enlarged_alpha(top, bottom, self._scale)
        if self._meter is not None:
            self._meter.push(_rounded(band, kind.dtype))
        if self._shrinking is not None:
            band = self._shrinking.push(band, None if alpha is None else to_unit(alpha))
            alpha = None  # it is in the band
        if not self._plain:
            band = _rounded(band, kind.dtype)
        if alpha is not None:
            band = np.concatenate([band, alpha[..., None]], axis=2)
        if len(band):
            self._write(band)
        self._done = bottom

    def _in_own_profile(self, band: NDArray[Any], top: int) -> NDArray[Any]:
        if self._plain or self._lr.conversion is None:
            return band
        return self._lr.in_own_profile(band, top, top + band.shape[0] // self._scale, self._scale)


def _rounded(band: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    return from_unit(band, dtype) if band.dtype == np.float32 else band


class _Shrinking:
    """Takes rows of the model's size from the top down and reduces them to rows of a smaller output.

    Colours are clipped to [0, 1] first, as in the model's picture, but not rounded. With alpha, a pixel's weight is
    multiplied by it, so that colours of transparent pixels do not bleed. own_profile: colours
    are in the image's profile; otherwise they are sRGB.
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
