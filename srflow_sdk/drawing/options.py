"""The options of every drawing method and command, and the request that they become.

Commands make an option of each field of :func:`option`. `--help` imports this module, so it imports
no numpy.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from srflow_sdk._checks import flag, is_real, one_of, whole
from srflow_sdk.errors import ArgumentError, BundleError, ImageError
from srflow_sdk.geometry.sizes import OutputSize, check_scale

if TYPE_CHECKING:
    import numpy as np

    from srflow_sdk.drawing.temperature import Tau, Temperature
    from srflow_sdk.files import Provenance
    from srflow_sdk.latents.picture_latents import Latents
    from srflow_sdk.model.manifest import Band, Manifest
    from srflow_sdk.pixels.in_memory import Layout
    from srflow_sdk.pixels.value_range import RangeKeyword

Progress = Callable[[int, int], None]
Reduce = Literal["mean", "std", "interval"]
Kernel = Literal["bicubic", "lanczos"]
Wrap = Literal["x", "y", "xy"]

_MAX_SAMPLES = 1 << 20
_LARGEST = (1 << 64) - 1  # seed, and number of a sample


def option(default: Any, help: str, **more: Any) -> Any:
    """A field that commands make an option of.

    help and more: of the option: metavar, flag, `least` value, largest one (`up_to`), the one that
    it has `alone`, the `heading` of its group, and whether `most` people need it.
    """
    return field(default=default, metadata={"help": help, **more})


class WatchKeywords(TypedDict, total=False):
    """How a call is followed and ended."""

    progress: Progress | None
    cancel: threading.Event | None


class EncodeKeywords(WatchKeywords, total=False):
    """The keywords of :meth:`Upscaler.encode`."""

    layout: Layout
    memory_budget: int | None


class DrawKeywords(WatchKeywords, total=False):
    """The fields of :class:`DrawOptions`, for type checkers; a test keeps the two alike."""

    tau: Tau | None
    seed: int
    sample: int
    consistent: bool
    wrap: Wrap | None
    scale: float | OutputSize | None
    reduction: Kernel
    linear_light: bool
    value_range: RangeKeyword | None


class PictureKeywords(DrawKeywords, total=False):
    """The keywords of :meth:`Upscaler.upscale`."""

    layout: Layout


@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """The keywords of every method that draws, such as :meth:`Upscaler.upscale`.

    Args:
        tau: Temperature, 0 … 2: 0 gives one smooth answer, more gives sharper ones that differ
            more. An array H×W gives each pixel its own; "auto" is less on flat areas. None is the
            model's default.
        seed, sample: 0 … 2^64 - 1; they select the answer. Equal numbers give equal pictures.
        consistent: Let the answer's reduction equal the input to rounding:
            :func:`~srflow_sdk.lr_psnr` tells.
        wrap: The image is a texture that tiles along "x", "y" or both, "xy", and so does the
            answer, without a seam.
        scale: How many times larger the sides are, or an :class:`OutputSize`; None is the model's
            own.
        reduction, linear_light: For a smaller `scale`: antialiased "bicubic" or "lanczos"; of
            values, or of light.
        value_range: (low, high), an array's values that are black and white, or percentiles ("1%",
            "99%").
        progress: Called as progress(done, total) after each tile, in the calling thread; what it
            raises ends the call.
        cancel: Once this event is set, from any thread, the call ends with CancelledError.

    Raises:
        ArgumentError: A value is wrong for any image.
    """

    tau: Tau | None = option(
        None,
        "Temperature: 0 is smooth, larger is sharper; auto: less on flat areas.  [default: the "
        "model's]",
        metavar="auto|T",
        most=True,
    )
    seed: int = option(0, "Same seed, same picture.", least=0)
    sample: int = option(0, "Number of the first picture.", least=0)
    consistent: bool = option(
        False, "Make outputs reduce to their inputs again, as far as possible."
    )
    wrap: Wrap | None = option(
        None,
        "Let a texture tile without a seam; x, y: in one direction.",
        metavar="[x|y]",
        alone="xy",
    )
    scale: float | OutputSize | None = option(
        None,
        "Enlarge F times, such as 2 or 1.5.  [default: the model's; auto: 4]",
        metavar="F",
        most=True,
    )
    reduction: Kernel = option("bicubic", "How a picture is reduced to a smaller size.")
    linear_light: bool = option(False, "Reduce it in linear light.")
    value_range: RangeKeyword | None = option(
        None,
        "Values of a TIFF that are black and white, or 1% 99%.",
        flag="--range",
        metavar="LOW HIGH",
    )
    progress: Progress | None = None
    cancel: threading.Event | None = None

    def __post_init__(self) -> None:
        tau = self.tau
        if tau is not None:
            from srflow_sdk.drawing.temperature import check_tau

            tau = check_tau(tau)
        check_scale(self.scale)
        one_of("reduction", self.reduction, Kernel)
        one_of("wrap", self.wrap or "xy", Wrap)
        if self.value_range is not None:
            from srflow_sdk.pixels.value_range import parsed_range

            parsed_range(self.value_range)
            if self.wrap:
                raise ArgumentError("values in a range cannot be wrapped; omit wrap or value_range")
        vars(self).update(  # frozen for others: Python's own numbers and flags, also of numpy's
            tau=tau,
            seed=whole("seed", self.seed, least=0, most=_LARGEST),
            sample=whole("sample", self.sample, least=0, most=_LARGEST),
            consistent=flag("consistent", self.consistent),
            linear_light=flag("linear_light", self.linear_light),
        )

    def tau_for(self, manifest: Manifest) -> Tau:
        """The temperature to draw with: the model's default if none was chosen."""
        if self.tau is not None:
            return self.tau
        return "auto" if manifest.auto_tau else manifest.default_tau

    def recorded_tau(self, manifest: Manifest) -> tuple[float | None, int | None]:
        """The temperature as pictures record it, None for a map.

        Of "auto", what it scales, and the map's version.
        """
        tau = self.tau_for(manifest)
        if isinstance(tau, str):
            from srflow_sdk.drawing.temperature import AUTO_TAU_SCHEME

            return manifest.default_tau, AUTO_TAU_SCHEME
        return tau if is_real(tau) else None, None

    def output_of(
        self, manifest: Manifest, *, height: int, width: int
    ) -> tuple[float | None, int, int]:
        """The output of a height×width image: scale, height, width. Sides are rounded, halves up.

        The scale is None if it is the model's own.

        Raises:
            ArgumentError: A number is above the model's.
            ImageError: The image is too small for an OutputSize.
        """
        most = manifest.scale
        asked = self.scale
        scale: float | None
        if isinstance(asked, OutputSize):
            scale = asked.scale_for(height=height, width=width)
            if scale > most and asked.max_side is None:
                raise ImageError(
                    f"{asked} would be {scale:.4g} times the image's {width}×{height}, but the "
                    f"model {manifest.name} enlarges {most} times, to "
                    f"{width * most}×{height * most}; ask for less, or upscale its output again"
                )
        elif (scale := asked) is not None and scale > most:
            raise ArgumentError(
                f"scale is {scale:g}, but the model {manifest.name} enlarges {most} times; ask "
                f"for at most {most}, name a model that enlarges more, or upscale its output again"
            )
        if scale is None or scale >= most:
            return None, height * most, width * most
        return (
            float(scale),
            max(math.floor(height * scale + 0.5), 1),
            max(math.floor(width * scale + 0.5), 1),
        )

    def named_scale(self, manifest: Manifest) -> float | None:
        """The scale for file names, an int if it is whole.

        None if it depends on the image. Raises: ArgumentError.
        """
        if isinstance(self.scale, OutputSize):
            return None
        number = self.output_of(manifest, height=1, width=1)[0] or manifest.scale
        return int(number) if number == int(number) else number

    def provenance_fields(
        self, manifest: Manifest, *, sample: int, scale: float | None
    ) -> dict[str, Any]:
        """The fields of one sample's provenance that the options decide.

        scale: from :meth:`output_of`.
        """
        tau, auto_tau = self.recorded_tau(manifest)
        own = {**_chosen(self), "tau": tau, "auto_tau": auto_tau, "sample": sample, "scale": scale}
        if self.value_range is not None:
            own["value_range"] = " ".join(map(str, self.value_range))
        if scale is None:
            own |= {"reduction": None, "linear_light": False}
        return own

    @classmethod
    def from_provenance(cls, made: Provenance) -> DrawOptions:
        """The options that a picture was made with.

        Raises: ArgumentError for values that cannot be.
        """
        own = {one.name: getattr(made, one.name) for one in fields(cls) if hasattr(made, one.name)}
        own["tau"] = made.tau if made.auto_tau is None else "auto"
        own["reduction"] = made.reduction or "bicubic"
        own["value_range"] = None if made.value_range is None else tuple(made.value_range.split())
        return cls(**own)

    def described(self, manifest: Manifest) -> dict[str, Any]:
        """The options as JSON values, for a report."""
        tau, auto_tau = self.recorded_tau(manifest)
        scale = (
            vars(self.scale) if isinstance(self.scale, OutputSize) else self.named_scale(manifest)
        )
        return {**_chosen(self), "tau": tau, "auto_tau": auto_tau, "scale": scale}

    def numbers(self, n: int, *, least: int = 1) -> range:
        """The numbers of `n` samples, from `sample` on.

        Raises: ArgumentError unless `n` samples can be drawn.
        """
        end = self.sample + whole("n", n, least=least, most=_MAX_SAMPLES, of=" of samples")
        whole("the last sample", end - 1, least=0, most=_LARGEST)
        return range(self.sample, end)

    def band(self, manifest: Manifest, *, n: int, coverage: float) -> Band:
        """Half the width of an interval of `n` samples.

        Raises: ArgumentError, BundleError if nothing is calibrated.
        """
        if self.consistent:
            raise ArgumentError(
                "the bounds of an interval cannot be consistent with the input; omit consistent"
            )
        if self.scale is not None:
            raise ArgumentError(
                "intervals are calibrated for pictures of the model's own size; omit scale"
            )
        if manifest.intervals is None:
            raise BundleError(
                f"the intervals of {manifest.name} are not calibrated: measure them on "
                "photographs like yours with srflow-eval calibrate --model BUNDLE --hr PHOTOS"
            )
        return manifest.intervals.band(n, coverage)


def _chosen(options: DrawOptions) -> dict[str, Any]:
    """The options that decide a picture, and not how a call is followed."""
    return {
        name: value
        for name, value in vars(options).items()
        if name not in WatchKeywords.__annotations__
    }


@dataclass(frozen=True, kw_only=True)
class Request:
    """A drawing of one image, as :func:`make_request` checks it.

    Attributes:
        temperature: checked for this image.
        samples: the numbers of the samples.
        height, width: of the outputs.
        scale: how many times as large as the image that is; None: as the model's picture.
        reduce: draw the "mean" or "std" of the samples instead of the samples, or the first with
            the bounds of the "interval", whose `band` is half its width.
        latents: are decoded, and none are drawn.
        lr_size: the image's height and width.
        margins: LR rows and columns of its repetition around it, which are cut off.
        mirrored: after each sample, draw the one whose latents are the negatives of its latents.
        hued: keep the hues of the image, and gray gray.
        smoothed: smooth the samples, so that they have no specks.
        channels: 1 (gray) or 3 (RGB).
        dtype: all but float32, which None is, are clipped and rounded to the full range.
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
    margins: tuple[int, ...] = (0, 0)
    lr_size: tuple[int, int] = (0, 0)
    mirrored: bool = False
    hued: bool = False
    smoothed: bool = False
    channels: int = 3
    dtype: np.dtype[Any] | None = None

    @property
    def draws(self) -> int:
        """How many times each tile is drawn."""
        return len(self.samples) * (1 + self.mirrored)

    @property
    def pictures(self) -> int:
        """How many pictures become of them."""
        if self.reduce == "interval":
            return 3
        return 1 if self.reduce else self.draws


class RequestKeywords(TypedDict, total=False):
    """The keywords of :func:`make_request` for several samples, or other ones."""

    n: int
    reduce: Reduce | None
    coverage: float | None
    latents: Latents | None
    mirrored: bool


def make_request(
    options: DrawOptions,
    manifest: Manifest,
    *,
    height: int,
    width: int,
    n: int = 1,
    reduce: Reduce | None = None,
    coverage: float | None = None,
    latents: Latents | None = None,
    mirrored: bool = False,
) -> Request:
    """Request samples `options.sample` to `options.sample + n - 1` of a height×width image.

    Args:
        coverage: Of an "interval".

    Raises:
        ArgumentError: The options do not fit the image, or each other.
        ImageError: An output would be larger than the model's picture of it.
        BundleError: Nothing is calibrated.
    """
    from srflow_sdk.drawing.temperature import Temperature

    samples = options.numbers(n, least=2 if reduce else 1)
    if options.value_range is not None:
        raise ArgumentError(
            "value_range is for upscale and upscale_file; give encode values in [0, 1]"
        )
    if reduce == "std" and (options.consistent or options.scale is not None):
        raise ArgumentError(
            "a standard deviation is that of the model's own pictures; omit consistent and scale"
        )
    scale, *size = options.output_of(manifest, height=height, width=width)
    tau = options.tau_for(manifest)
    margins: tuple[int, ...] = (0, 0)
    if options.wrap:
        from srflow_sdk.drawing.wrapping import margins_for

        margins = margins_for(options.wrap, (height, width), size, manifest)
    return Request(
        options=options,
        temperature=Temperature(
            tau,
            default=manifest.default_tau,
            height=height,
            width=width,
            multiple=manifest.size_multiple,
            margins=margins,
        ),
        samples=samples,
        margins=margins,
        lr_size=(height, width),
        height=size[0],
        width=size[1],
        scale=scale,
        reduce=reduce,
        band=None if coverage is None else options.band(manifest, n=n, coverage=coverage),
        latents=latents,
        # latents of a picture make that picture again
        hued=latents is None,
        smoothed=manifest.smoothed and latents is None and options.recorded_tau(manifest)[0] != 0,
        mirrored=mirrored,
    )


def part_progress(number: int, count: int, tell: Progress | None) -> Progress | None:
    """The progress of a pass over all tiles, told as a part of that of `count` such passes.

    Tiles that a pass leaves out are not told, and the count jumps.
    """
    return None if tell is None else lambda done, total: tell(number * total + done, count * total)
