"""The options of every drawing method, and the checked request that they become for one image."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from srflow_sdk._checks import flag, is_real, one_of, whole
from srflow_sdk.drawing.temperature import AUTO, AUTO_TAU_SCHEME, Tau, Temperature, checked_number, is_auto, is_map
from srflow_sdk.errors import ArgumentError, BundleError, ImageError
from srflow_sdk.model.intervals import Band
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.pixels.in_memory import Layout
from srflow_sdk.pixels.resizing import Kernel
from srflow_sdk.pixels.value_range import RangeKeyword, parsed_range

if TYPE_CHECKING:
    from srflow_sdk.latents.picture_latents import Latents

Progress = Callable[[int, int], None]
Reduce = Literal["mean", "std", "interval"]

_MAX_SAMPLES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class OutputSize:
    """The size of an output in pixels, for the keyword `scale`. The photo's proportions are kept.

    Args:
        width, height: of the output; if both are given, it fits within them and reaches one of them.
        max_side: the longer side has at most so many pixels; where the model's picture is smaller, it stays as it is.

    Raises:
        ArgumentError: unless it is a width, a height, both, or a max_side, in whole numbers from 1 on.
    """

    width: int | None = None
    height: int | None = None
    max_side: int | None = None

    def __post_init__(self) -> None:
        for name, side in vars(self).items():
            if side is not None:
                whole(name, side, least=1, of=" of pixels")
        if (self.max_side is None) == (self.width is None and self.height is None):
            raise ArgumentError("an OutputSize is a width, a height, or both; or a max_side alone")

    def __str__(self) -> str:
        if self.max_side is not None:
            return f"at most {self.max_side} pixels a side"
        if self.width is not None and self.height is not None:
            return f"{self.width}×{self.height} pixels"
        return f"a width of {self.width} pixels" if self.height is None else f"a height of {self.height} pixels"

    def scale_for(self, *, height: int, width: int) -> float:
        """Tell how many times larger an output of this size is than a height×width image."""
        if self.max_side is not None:
            return self.max_side / max(height, width)
        return min(wanted / side for wanted, side in ((self.width, width), (self.height, height)) if wanted is not None)


class WatchKeywords(TypedDict, total=False):
    """How a call is followed and ended."""

    progress: Progress | None
    cancel: threading.Event | None


class EncodeKeywords(WatchKeywords, total=False):
    """The keywords of :meth:`Upscaler.encode`."""

    layout: Layout
    memory_budget: int


class DrawKeywords(WatchKeywords, total=False):
    """The fields of :class:`DrawOptions`, for type checkers; a test keeps the two alike."""

    tau: Tau | None
    seed: int
    sample: int
    consistent: bool
    scale: float | OutputSize | None
    reduction: Kernel
    linear_light: bool
    value_range: RangeKeyword | None


class PictureKeywords(DrawKeywords, total=False):
    """The keywords of :meth:`Upscaler.upscale`."""

    layout: Layout


@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """The keywords of every method that draws: :meth:`Upscaler.upscale`, :meth:`Encoding.sample` and the others.

    Args:
        tau: temperature, 0 … 2: 0 gives one smooth answer, more gives sharper ones that differ more. An array H×W gives
            each pixel its own; "auto" is less on flat areas. None is the model's default.
        seed, sample: 0 … 2^64 - 1; they select the answer. Equal numbers give equal pictures.
        consistent: let the answer's reduction equal the input to rounding: :func:`~srflow_sdk.lr_psnr` tells.
        scale: how many times larger the sides are, or an :class:`OutputSize`; None is the model's own.
        reduction, linear_light: for a smaller `scale`: antialiased "bicubic" or "lanczos"; of values, or of light.
        value_range: (low, high), an array's values that are black and white, or percentiles ("1%", "99%").
        progress: called as progress(done, total) after each tile, in the calling thread; what it raises ends the call.
        cancel: once this event is set, from any thread, the call ends with CancelledError.

    Raises:
        ArgumentError: for values that are wrong for any image.
    """

    tau: Tau | None = None
    seed: int = 0
    sample: int = 0
    consistent: bool = False
    scale: float | OutputSize | None = None
    reduction: Kernel = "bicubic"
    linear_light: bool = False
    value_range: RangeKeyword | None = None
    progress: Progress | None = None
    cancel: threading.Event | None = None

    def __post_init__(self) -> None:
        if self.tau is not None and not is_map(self.tau) and not is_auto(self.tau):
            checked_number(self.tau)
        whole("seed", self.seed, least=0, most=(1 << 64) - 1)
        whole("sample", self.sample, least=0, most=(1 << 64) - 1)
        flag("consistent", self.consistent)
        check_scale(self.scale)
        one_of("reduction", self.reduction, Kernel)
        flag("linear_light", self.linear_light)
        if self.value_range is not None:
            parsed_range(self.value_range)
        if self.progress is not None and not callable(self.progress):
            raise ArgumentError(f"progress is {self.progress!r}; it must be a function of two numbers, or None")
        if self.cancel is not None and not isinstance(self.cancel, threading.Event):
            raise ArgumentError(f"cancel is {self.cancel!r}; it must be a threading.Event, or None")

    def tau_for(self, manifest: Manifest) -> Tau:
        """The temperature to draw with: the model's default if none was chosen."""
        if self.tau is not None:
            return self.tau
        return AUTO if manifest.auto_tau else manifest.default_tau

    def recorded_tau(self, manifest: Manifest) -> tuple[float | None, int | None]:
        """The temperature as pictures record it, None for a map; of "auto", what it scales, and the map's version."""
        tau = self.tau_for(manifest)
        if is_map(tau):
            return None, None
        return (manifest.default_tau, AUTO_TAU_SCHEME) if is_auto(tau) else (checked_number(tau), None)

    def output_of(self, manifest: Manifest, *, height: int, width: int) -> tuple[float | None, int, int]:
        """The output of a height×width image: scale, height, width; the scale is None if it is the model's own.

        Sides are rounded, halves up. Raises: ArgumentError for a number above the model's, ImageError if the image is
        too small for an OutputSize.
        """
        most, wanted = manifest.scale, self.scale
        scale = wanted.scale_for(height=height, width=width) if isinstance(wanted, OutputSize) else wanted
        if scale is None or scale == most:
            return None, height * most, width * most
        if scale > most and isinstance(wanted, OutputSize) and wanted.max_side is None:
            raise ImageError(
                f"{wanted} would be {scale:.4g} times the image's {width}×{height}, but the model {manifest.name} "
                f"enlarges {most} times, to {width * most}×{height * most}; ask for less, or upscale its output again"
            )
        if scale > most and not isinstance(wanted, OutputSize):
            raise ArgumentError(
                f"scale is {scale:g}, but the model {manifest.name} enlarges {most} times; ask for at most {most}, "
                "name a model that enlarges more, or upscale its output again"
            )
        if scale > most:
            return None, height * most, width * most
        return float(scale), max(math.floor(height * scale + 0.5), 1), max(math.floor(width * scale + 0.5), 1)

    def named_scale(self, manifest: Manifest) -> float | None:
        """The scale for file names, an int if it is whole; None if it depends on the image. Raises: ArgumentError."""
        if isinstance(self.scale, OutputSize):
            return None
        number = self.output_of(manifest, height=1, width=1)[0] or manifest.scale
        return int(number) if number == int(number) else number

    def provenance_fields(self, manifest: Manifest, *, sample: int, scale: float | None) -> dict[str, Any]:
        """The fields of one sample's provenance that the options decide. scale: from :meth:`output_of`."""
        tau, auto_tau = self.recorded_tau(manifest)
        return {
            "tau": tau,
            "auto_tau": auto_tau,
            "seed": int(self.seed),
            "sample": sample,
            "consistent": bool(self.consistent),
            "scale": scale,
            "reduction": None if scale is None else self.reduction,
            "linear_light": scale is not None and bool(self.linear_light),
            "value_range": None if self.value_range is None else " ".join(map(str, self.value_range)),
        }

    @property
    def keywords(self) -> DrawKeywords:
        return cast("DrawKeywords", {field.name: getattr(self, field.name) for field in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Request:
    """A drawing of one image, as :func:`make_request` checks it.

    temperature: checked for this image.
    samples: the numbers of the samples.
    height, width: of the outputs. scale: how many times as large as the image that is; None: as the model's picture.
    reduce: draw the "mean" or "std" of the samples instead of the samples, or the first with the bounds of the
        "interval", whose `band` is half its width.
    latents: are decoded, and none are drawn.
    mirrored: after each sample, draw the one whose latents are the negatives of its latents.
    """

    options: DrawOptions
    temperature: Temperature
    samples: range
    height: int = 0
    width: int = 0
    scale: float | None = None
    reduce: Reduce | None = None
    band: Band | None = None
    latents: Latents | None = None
    mirrored: bool = False

    @property
    def pictures(self) -> int:
        if self.reduce == "interval":
            return 3
        return 1 if self.reduce else len(self.samples) * (1 + self.mirrored)


def make_request(
    options: DrawOptions,
    manifest: Manifest,
    *,
    height: int,
    width: int,
    n: int = 1,
    reduce: Reduce | None = None,
    coverage: float | None = None,
) -> Request:
    """Request samples `options.sample` to `options.sample + n - 1` of a height×width image.

    coverage: of an "interval".
    Raises: ArgumentError, ImageError for an output that is larger than the model's picture of it; BundleError.
    """
    check_count(n, first=options.sample, least=2 if reduce else 1)
    if options.value_range is not None:
        raise ArgumentError("value_range is for upscale and upscale_file; give encode values in [0, 1]")
    if reduce == "std" and options.consistent:
        raise ArgumentError("a standard deviation is not a picture, so it cannot be consistent; omit consistent")
    scale, output_height, output_width = options.output_of(manifest, height=height, width=width)
    return Request(
        options=options,
        temperature=Temperature(
            options.tau_for(manifest),
            default=manifest.default_tau,
            height=height,
            width=width,
            multiple=manifest.size_multiple,
        ),
        samples=range(int(options.sample), int(options.sample) + int(n)),
        height=output_height,
        width=output_width,
        scale=scale,
        reduce=reduce,
        band=None if coverage is None else interval_band(options, manifest, n=n, coverage=coverage),
    )


def interval_band(options: DrawOptions, manifest: Manifest, *, n: int, coverage: float) -> Band:
    """Half the width of an interval. Raises: ArgumentError for what is not calibrated, BundleError if nothing is."""
    if options.consistent:
        raise ArgumentError("the bounds of an interval cannot be consistent with the input; omit consistent")
    if options.scale is not None:
        raise ArgumentError("intervals are calibrated for pictures of the model's own size; omit scale")
    if manifest.intervals is None:
        raise BundleError(
            f"the intervals of {manifest.name} are not calibrated: measure them on photographs like yours with "
            "srflow-eval calibrate --model BUNDLE --hr PHOTOS"
        )
    return manifest.intervals.band(n, coverage)


def check_scale(scale: object) -> None:
    """Raises: ArgumentError unless it is None, a finite number above 0 or an :class:`OutputSize`."""
    if scale is None or isinstance(scale, OutputSize):
        return
    if not is_real(scale) or not math.isfinite(scale) or scale <= 0:
        raise ArgumentError(f"scale is {scale!r}; it must be a number above 0, at most the model's, or an OutputSize")


def check_count(n: object, *, first: int, least: int = 1) -> None:
    """Raises: ArgumentError unless `n` samples can be drawn, from number `first` on."""
    number = whole("n", n, least=least, most=_MAX_SAMPLES, of=" of samples")
    if (int(first) + number - 1) >> 64:
        raise ArgumentError("the numbers of all samples must be below 2^64; use a smaller sample or n")
