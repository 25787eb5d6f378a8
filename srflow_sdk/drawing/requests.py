"""The keywords of every drawing method, and the checked request that they become for one image."""

from __future__ import annotations

import functools
import inspect
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, cast

from srflow_sdk._checks import flag, one_of, whole
from srflow_sdk.drawing.auto_tau import AUTO_TAU_SCHEME
from srflow_sdk.drawing.output_size import OutputSize, Reduced, check_scale, chosen_scale
from srflow_sdk.drawing.temperature import AUTO, Tau, Temperature, checked_number, is_auto, is_map
from srflow_sdk.errors import ArgumentError, BundleError
from srflow_sdk.model.intervals import Band
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.pixels.in_memory import Layout
from srflow_sdk.pixels.resizing import Kernel
from srflow_sdk.pixels.value_range import RangeKeyword, parsed_range

if TYPE_CHECKING:
    from srflow_sdk.drawing.low_resolution import LowResolution
    from srflow_sdk.latents.picture_latents import Latents

Progress = Callable[[int, int], None]
Reduce = Literal["mean", "std", "interval"]

_MAX_SAMPLES = 1 << 20
_MethodT = TypeVar("_MethodT", bound=Callable[..., Any])


class WatchKeywords(TypedDict, total=False):
    """How a call is followed and ended."""

    progress: Progress | None
    cancel: threading.Event | None


class EncodeKeywords(WatchKeywords, total=False):
    """The keywords of :meth:`Upscaler.encode`."""

    layout: Layout
    memory_budget: int


class DrawKeywords(WatchKeywords, total=False):
    """The fields of :class:`DrawOptions` as keywords: the only way to write them once that type checkers understand."""

    tau: Tau | None
    seed: int
    sample: int
    consistent: bool
    scale: float | OutputSize | None
    reduction: Kernel
    linear_light: bool
    value_range: RangeKeyword | None


@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """The options of every drawing method; :meth:`Upscaler.upscale` says what each field means.

    Raises: ArgumentError for values that are wrong for any image. :func:`make_request` checks a map of temperatures
    against the image.
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

    def tau_number(self, manifest: Manifest) -> float:
        """The number that pictures record: of "auto", the one that it scales. Raises: ArgumentError for an array."""
        tau = self.tau_for(manifest)
        return manifest.default_tau if is_auto(tau) else checked_number(tau)

    def auto_tau(self, manifest: Manifest) -> int | None:
        """The version of the map if the temperature is "auto"."""
        return AUTO_TAU_SCHEME if is_auto(self.tau_for(manifest)) else None

    def reduced(self, manifest: Manifest, *, height: int, width: int) -> Reduced | None:
        """The output of a height×width image, its sides rounded, halves up; None if it has the model's own scale.

        Raises: ArgumentError, ImageError if the model does not enlarge so much.
        """
        scale = chosen_scale(self.scale, manifest, height=height, width=width)
        if scale is None:
            return None
        height, width = (max(math.floor(side * scale + 0.5), 1) for side in (height, width))
        light = bool(self.linear_light)
        return Reduced(scale=scale, height=height, width=width, kernel=self.reduction, linear_light=light)

    def provenance_fields(self, manifest: Manifest, *, sample: int, reduced: Reduced | None) -> dict[str, Any]:
        """The fields of a sample's provenance that the options decide.

        sample: this output's own; the options only have the first of several.
        reduced: from :meth:`reduced`.
        """
        return {
            "tau": None if is_map(self.tau) else self.tau_number(manifest),
            "auto_tau": self.auto_tau(manifest),
            "seed": int(self.seed),
            "sample": sample,
            "consistent": bool(self.consistent),
            "scale": None if reduced is None else reduced.scale,
            "reduction": None if reduced is None else reduced.kernel,
            "linear_light": reduced is not None and reduced.linear_light,
            "value_range": None if self.value_range is None else " ".join(map(str, self.value_range)),
        }

    @property
    def keywords(self) -> DrawKeywords:
        return cast("DrawKeywords", {field.name: getattr(self, field.name) for field in fields(self)})


def takes_keywords_of(options: type[Any]) -> Callable[[_MethodT], _MethodT]:
    """Let help() and inspect.signature show the keywords themselves where the code says ``**options``.

    options: the dataclass that they are fields of. The method raises TypeError for others, as Python does, with its
    name and the keywords that there are.
    """

    def decorated(method: _MethodT) -> _MethodT:
        signature = inspect.signature(method)
        own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
        added = [
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
            for field in fields(options)
        ]
        names = {parameter.name for parameter in [*own, *added]}

        @functools.wraps(method)
        def checked(*arguments: Any, **keywords: Any) -> Any:
            for name in keywords:
                if name not in names:
                    known = [parameter.name for parameter in [*own, *added] if parameter.kind is parameter.KEYWORD_ONLY]
                    owner = f"{type(arguments[0]).__name__}." if arguments and own[0].name == "self" else ""
                    raise TypeError(
                        f"{owner}{method.__name__}() got an unexpected keyword argument {name!r}; the keywords are "
                        f"{', '.join(known)}"
                    )
            return method(*arguments, **keywords)

        checked.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
        return cast("_MethodT", checked)

    return decorated


takes_draw_keywords = takes_keywords_of(DrawOptions)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A drawing of one image, as :func:`make_request` checks it.

    temperature: checked for this image.
    samples: the numbers of the samples.
    reduce: draw the "mean" or "std" of the samples instead of the samples, or the first with the bounds of the
        "interval", whose `band` is half its width.
    reduced: the outputs' size if it is smaller than the model's picture.
    latents: are decoded, and none are drawn.
    mirrored: after each sample, draw the one whose latents are the negatives of its latents.
    """

    options: DrawOptions
    temperature: Temperature
    samples: range
    reduce: Reduce | None = None
    band: Band | None = None
    reduced: Reduced | None = None
    latents: Latents | None = None
    mirrored: bool = False

    @property
    def seed(self) -> int:
        return int(self.options.seed)

    @property
    def pictures(self) -> int:
        if self.reduce == "interval":
            return 3
        return 1 if self.reduce else len(self.draws)

    @property
    def draws(self) -> list[tuple[int, Request]]:
        """Every draw of a tile, in order: the sample's number, and a request with its temperature."""
        both = (self, replace(self, temperature=self.temperature.mirrored())) if self.mirrored else (self,)
        return [(sample, request) for sample in self.samples for request in both]

    def for_rows(self, lr: LowResolution, top: int, bottom: int) -> Request:
        """The request for tiles whose windows lie within these rows."""
        return replace(self, temperature=self.temperature.for_rows(lr, top, bottom)) if self.temperature.auto else self


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
        reduce=reduce,
        band=None if coverage is None else interval_band(options, manifest, n=n, coverage=coverage),
        reduced=options.reduced(manifest, height=height, width=width),
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


def check_count(n: object, *, first: int, least: int = 1) -> None:
    """Raises: ArgumentError unless `n` samples can be drawn, from number `first` on."""
    number = whole("n", n, least=least, most=_MAX_SAMPLES, of=" of samples")
    if (int(first) + number - 1) >> 64:
        raise ArgumentError("the numbers of all samples must be below 2^64; use a smaller sample or n")
