"""Finishes drawn bands as rows of outputs, and measures how closely they reduce to the input."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import numpy as np

from srflow_sdk._checks import one_of
from srflow_sdk.drawing.low_resolution import LowResolution, RowBuffer
from srflow_sdk.drawing.options import DrawOptions, Request
from srflow_sdk.errors import ImageError
from srflow_sdk.files.passed_images import AnyImage, load_image
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.pixels.colour import SRGB_CURVE
from srflow_sdk.pixels.in_memory import FLOAT32, Floats, Layout, Pixels, from_unit, to_unit
from srflow_sdk.pixels.resizing import CONTEXT, LrKernel, RowReducer, project

LOW_LR_PSNR_DB = 40.0
"""Below this an output no longer reduces to its input, and a warning says so."""

_ROWS = 64  # at a time, so that copies of a band stay small
_ROUNDING = 1e-6
_INVISIBLE = np.float32(0.5 / 255)  # colours of pixels below it do not show
Write = Callable[[Pixels], None]
_log = logging.getLogger(__name__)


class Finishing:
    """Makes the drawn rows of one output consistent, reduced and rounded, from the top down.

    Args:
        measure: Compare the finished rows, of the model's size, with the LR image.
    """

    def __init__(
        self,
        lr: LowResolution,
        manifest: Manifest,
        request: Request,
        *,
        measure: bool = False,
    ) -> None:
        self._lr = lr
        self._plain = request.reduce == "std"  # as float32, without alpha
        self._scale = manifest.scale
        self._kernel = manifest.reduction
        self._drawn = RowBuffer() if request.options.consistent else None
        self.meter = LrPsnrMeter(lr, manifest.scale, manifest.reduction) if measure else None
        self._shrinking = None if request.scale is None else _Shrinking(lr, manifest.scale, request)
        floats = (
            self._plain
            or request.options.consistent
            or request.scale is not None
            or lr.conversion is not None
        )
        self.band_dtype = FLOAT32 if floats else lr.kind.dtype
        """The dtype that :meth:`push` takes: the image's if nothing else is done to the values,
        otherwise float32."""
        self._done = 0  # LR rows that are written
        self.needed_from = 0
        """The first LR row that this output still needs."""

    def push(self, band: Pixels, write: Write) -> None:
        """Take the next rows, sh×sW×1 or 3 of :attr:`band_dtype`, and write what is finished."""
        scale = self._scale
        lr = self._lr
        drawn = self._drawn
        kind = self._lr.kind
        alpha = None
        if lr.conversion is not None and not self._plain:
            top = self._done if drawn is None else drawn.bottom // scale
            band = lr.convert_to_own_profile(band, top, top + len(band) // scale, scale)
        # projected in the image's own values, so that no conversion can undo it
        if drawn is not None:
            drawn.append(band)
            available = drawn.bottom // scale
            ready = available if available == lr.height else available - CONTEXT
            if ready <= self._done:
                return
            top = max(self._done - CONTEXT, 0)
            rows = project(
                drawn.rows(top * scale, available * scale),
                lr.colours(top, available, own=True),
                scale,
                kernel=self._kernel,
                top=top == 0,
                bottom=available == lr.height,
            )
            band = rows[(self._done - top) * scale : (ready - top) * scale]
            drawn.forget((ready - CONTEXT) * scale)
        done = self._done + len(band) // scale
        if kind.has_alpha and not self._plain:
            alpha = lr.enlarge_alpha(self._done, done, scale)[..., None]
        if self.meter is not None:
            self.meter.push(from_unit(band, kind.dtype) if band.dtype == np.float32 else band)
        if self._shrinking is not None:
            band = self._shrinking.push(band, None if alpha is None else to_unit(alpha))
            alpha = None
        if (drawn is not None or self._shrinking is not None) and kind.colours == 3:
            gray = np.ptp(band[..., :3], axis=2) < _ROUNDING  # each channel was computed by itself
            band[gray, :3] = band[gray, 1:2]
        if band.dtype == np.float32 and not self._plain:
            band = from_unit(band, kind.dtype)
        if alpha is not None:
            band = np.concatenate([band, alpha], axis=2)
        if len(band):
            write(band)
        self._done = done
        # rows that wait for their context
        above = done if drawn is None else max(done - CONTEXT, 0)
        # Last, because another thread drops LR rows by it.
        self.needed_from = above if self.meter is None else min(above, self.meter.needed_from)


class _Shrinking:
    """Reduces rows of the model's size to rows of a smaller output.

    With alpha, a pixel's weight is multiplied by it, so that colours of transparent pixels do not
    bleed.
    """

    def __init__(self, lr: LowResolution, scale: int, request: Request) -> None:
        size = lr.height * scale, lr.width * scale
        sides = zip(
            (lr.height, lr.width), (request.height, request.width), request.lr_size, strict=True
        )
        to = [whole * output // side for whole, output, side in sides]  # which are whole numbers
        self._reducer = RowReducer(size, to, request.options.reduction)
        curves = (SRGB_CURVE,) * lr.kind.colours if lr.conversion is None else lr.conversion.curves
        self._curves = curves if request.options.linear_light else ()

    def push(self, colours: Floats, alpha: Floats | None) -> Floats:
        """Take the next rows, h×W×1 or 3 and h×W×1 in [0, 1].

        Return the finished ones, h'×W'×C with alpha if any.
        """
        parts = [slice(top, top + _ROWS) for top in range(0, len(colours), _ROWS)]
        return np.concatenate(
            [self._reduce(colours[part], None if alpha is None else alpha[part]) for part in parts]
        )

    def _reduce(self, colours: Floats, weight: Floats | None) -> Floats:
        light = np.clip(colours, 0, 1)
        for channel, curve in enumerate(self._curves):
            light[..., channel] = curve.linear(light[..., channel])
        if weight is None:
            return self._values(self._reducer.push(light))
        # Reduced alike: weighted colours, the weight itself, and colours for where nothing is
        # visible.
        rows = self._reducer.push(np.concatenate([light * weight, weight, light], axis=2))
        count = light.shape[2]
        weighted = rows[..., :count]
        weight = rows[..., count : count + 1]
        plain = rows[..., count + 1 :]
        visible = weight > _INVISIBLE
        result = np.where(visible, weighted / np.where(visible, weight, 1), plain)
        return np.concatenate([self._values(result), np.clip(weight, 0, 1)], axis=2)

    def _values(self, light: Floats) -> Floats:
        values: Floats = np.clip(light, 0, 1)
        for channel, curve in enumerate(self._curves):
            values[..., channel] = curve.values(values[..., channel])
        return values


def lr_psnr(
    answer: AnyImage, image: AnyImage, *, reduction: LrKernel = "bicubic", layout: Layout = "hwc"
) -> float:
    """Measure the PSNR in dB between an image and the reduction (MATLAB's) of an answer to it.

    Both are compared in [0, 1] and in the image's own profile; fully transparent pixels of the
    image do not count. Below 40 dB an answer no longer reduces to its image: lower tau, or use
    `consistent=True`.

    Args:
        answer, image: As :meth:`Upscaler.upscale` returns and takes them, the answer a whole number
            of times as large.
        reduction: "bicubic" or "bilinear", as the model was trained for
            (`bundle.manifest.reduction`).
        layout: Of both, as there.

    Returns:
        The decibels: infinite if the two agree, NaN if nothing is visible.

    Raises:
        ImageError: One is not an image, or their sizes or colours do not match.
        ArgumentError: The reduction or layout is another.
    """
    one_of("reduction", reduction, LrKernel)
    large, its_kind = load_image(answer, layout=layout)
    pixels, kind = load_image(image, layout=layout)
    height, width = pixels.shape[:2]
    scale = large.shape[0] // height
    if large.shape[:2] != (height * scale, width * scale):
        raise ImageError(
            f"an answer of {large.shape[1]}×{large.shape[0]} pixels does not match an image of "
            f"{width}×{height}: its sides are not the same multiple of the image's"
        )
    if its_kind.colours != kind.colours:
        raise ImageError(
            f"an answer with {its_kind.colours} colour channels does not match an image with "
            f"{kind.colours}; convert one of them first"
        )
    meter = LrPsnrMeter(LowResolution.of(pixels, kind, multiple=1, reach=0), scale, reduction)
    for top in range(0, height, _ROWS):
        meter.push(large[top * scale : (top + _ROWS) * scale, :, : kind.colours])
    return meter.db


class LrPsnrMeter:
    """Compares the reduction of an answer's rows, from the top down, with the LR image."""

    def __init__(self, lr: LowResolution, scale: int, kernel: LrKernel) -> None:
        self._lr = lr
        self._reducer = RowReducer(
            (lr.height * scale, lr.width * scale), (lr.height, lr.width), kernel
        )
        self._squared_error = self._weights = 0.0
        self.needed_from = 0
        """The first LR row that is still needed."""

    @property
    def db(self) -> float:
        """−10·log10 of the mean squared error of all rows so far.

        Infinite without error, NaN without pixels.
        """
        if self._weights == 0:
            return math.nan
        return (
            -10 * math.log10(self._squared_error / self._weights)
            if self._squared_error
            else math.inf
        )

    def push(self, band: Pixels) -> None:
        """Take the next rows, sh×sW×1 or 3 of any of the dtypes, without alpha."""
        reduced = self._reducer.push(to_unit(band))
        if not len(reduced):
            return
        top, bottom = self.needed_from, self.needed_from + len(reduced)
        squares = np.square(
            reduced.astype(np.float64) - self._lr.colours(top, bottom, own=True)
        ).mean(axis=2)
        visible = self._lr.visible(top, bottom)
        self.needed_from = bottom  # once they are read: another thread drops rows by it
        self._squared_error += float((squares if visible is None else squares * visible).sum())
        self._weights += squares.size if visible is None else float(visible.sum(dtype=np.float64))


def warn_if_inconsistent(
    what: str, lr_psnr: Sequence[float | None], *, options: DrawOptions, manifest: Manifest
) -> None:
    """Log one warning for the outputs of a model whose LR-PSNR is below 40 dB.

    Not if it should remove damage.
    """
    low = [f"{value:.1f}" for value in lr_psnr if value is not None and value < LOW_LR_PSNR_DB]
    if not low or (manifest.removes_damage and not options.consistent):
        return
    if options.consistent:
        advice = (
            "a consistent output came no nearer, as pixels cannot be darker than black or brighter "
            "than white"
        )
    elif options.recorded_tau(manifest)[0] == 0:
        advice = "ask for a consistent output"
    else:
        advice = "lower tau, or ask for a consistent output"
    _log.warning(
        "%s: reduced again, the output does not match the input (%s dB, below %.0f); %s",
        what,
        ", ".join(low),
        LOW_LR_PSNR_DB,
        advice,
    )
