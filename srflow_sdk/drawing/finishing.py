"""Turns the network's colours into finished rows of one output: consistency, profile, size, rounding, alpha."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.drawing.low_resolution import LowResolution
from srflow_sdk.drawing.measuring import LrPsnrMeter
from srflow_sdk.drawing.output_size import Reduced
from srflow_sdk.drawing.rows import RowBuffer
from srflow_sdk.drawing.smaller_output import Shrinking
from srflow_sdk.pixels.consistency import CONTEXT, projected
from srflow_sdk.pixels.in_memory import from_unit, to_unit
from srflow_sdk.pixels.resizing import LrKernel


class Finishing:
    """Takes the rows of one output from the top down and passes them, finished, to `write`.

    kernel: of the reduction that the model was trained on.
    write: called with h×W×channels of the image's dtype. consistent: change the rows so that their reduction is the LR
    image. measure: compare the reduction of the finished rows, of the model's size, with the LR image. reduced: the
    size to reduce them to at the end. plain: write values unchanged but for their size, as float32 without alpha.
    """

    def __init__(
        self,
        lr: LowResolution,
        *,
        scale: int,
        kernel: LrKernel,
        write: Callable[[NDArray[Any]], None],
        consistent: bool = False,
        measure: bool = False,
        reduced: Reduced | None = None,
        plain: bool = False,
    ) -> None:
        self._lr = lr
        self._scale = scale
        self._kernel = kernel
        self._write = write
        self._plain = plain
        self._drawn = RowBuffer() if consistent else None
        self._meter = LrPsnrMeter(lr, scale, kernel) if measure else None
        self._shrinking = None if reduced is None else Shrinking(lr, scale=scale, to=reduced, own_profile=not plain)
        # LR rows that are projected and written.
        self._projected = self._done = 0

    @property
    def band_dtype(self) -> np.dtype[Any]:
        """What :meth:`push` takes: the image's dtype if nothing else is done to the values, otherwise float32."""
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
