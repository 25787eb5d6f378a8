"""The checked request that options become for one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from srflow_sdk.drawing.options import DrawOptions
from srflow_sdk.drawing.temperature import Temperature
from srflow_sdk.errors import ArgumentError
from srflow_sdk.model.intervals import Band
from srflow_sdk.model.manifest import Manifest

if TYPE_CHECKING:
    from srflow_sdk.latents.picture_latents import Latents

Reduce = Literal["mean", "std", "interval"]


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
    latents: Latents | None = None,
    mirrored: bool = False,
) -> Request:
    """Request samples `options.sample` to `options.sample + n - 1` of a height×width image. coverage: of an "interval".

    Raises: ArgumentError, ImageError for an output that is larger than the model's picture of it; BundleError.
    """
    samples = options.numbers(n, least=2 if reduce else 1)
    if options.value_range is not None:
        raise ArgumentError("value_range is for upscale and upscale_file; give encode values in [0, 1]")
    if reduce == "std" and options.consistent:
        raise ArgumentError("a standard deviation is not a picture, so it cannot be consistent; omit consistent")
    scale, output_height, output_width = options.output_of(manifest, height=height, width=width)
    tau, unit = options.tau_for(manifest), manifest.size_multiple
    return Request(
        options=options,
        temperature=Temperature(tau, default=manifest.default_tau, height=height, width=width, multiple=unit),
        samples=samples,
        height=output_height,
        width=output_width,
        scale=scale,
        reduce=reduce,
        band=None if coverage is None else options.band(manifest, n=n, coverage=coverage),
        latents=latents,
        mirrored=mirrored,
    )
