"""An encoded image, from which samples are drawn tile by tile."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk._checks import keywords_of
from srflow_sdk.drawing.inverting import check_latents, high_resolution, invert, inverting_tiles
from srflow_sdk.drawing.low_resolution import LowResolution
from srflow_sdk.drawing.options import DrawOptions, Progress, make_request
from srflow_sdk.drawing.painter import KeptTiles, Painter, clean_pixels, draw_tiles
from srflow_sdk.drawing.wrapping import add_margins
from srflow_sdk.errors import OutOfMemoryError
from srflow_sdk.files.passed_images import AnyImage, load_image
from srflow_sdk.latents.picture_latents import Latents
from srflow_sdk.pixels.in_memory import FLOAT32, ImageKind
from srflow_sdk.system.interrupts import cancelled_by, memory_errors_typed, stop_if_set

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from srflow_sdk.drawing.options import DrawKeywords, RequestKeywords, WatchKeywords

_log = logging.getLogger(__name__)
ImageT = TypeVar(
    "ImageT",
    Image.Image,
    NDArray[np.uint8],
    NDArray[np.uint16],
    NDArray[np.float32],
    NDArray[np.float64],
)


class Encoding(Generic[ImageT]):
    """An encoded image: more samples, temperatures and seeds at a fraction of the cost.

    See :meth:`Upscaler.encode`.

    The samples of one call are drawn together, tile by tile, so tiles that are not kept are encoded
    once per call. Usable while its Upscaler is open; thread-safe. Device memory is released with
    the object. `options` are those of :class:`~srflow_sdk.drawing.options.DrawOptions`, and errors
    those of :meth:`Upscaler.upscale`.

    Example:
        >>> encoding = upscaler.encode(photo)
        >>> pictures, deviation = encoding.samples(8, tau=0.8), encoding.std(8, tau=0.8)
    """

    def __init__(
        self,
        pixels: NDArray[Any],
        kind: ImageKind,
        painter: Painter,
        *,
        memory_budget: int | None,
        cleaner: Painter | None = None,
        halo: int | None = None,
        inverting: Painter | None = None,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> None:
        self._kind = kind
        self._painter = painter
        self._given = pixels
        self._cleaner = cleaner
        if cleaner is not None:
            pixels = clean_pixels(pixels, kind, painter, cleaner, cancel)
        self._inverting: Encoding[ImageT] | None = None
        """The encoding that inverts if it is another model's, where each picture has the one that
        suits it."""
        if inverting is not None and inverting is not painter:
            self._inverting = Encoding(pixels, kind, inverting, memory_budget=0)
        manifest = painter.manifest
        self._lr = LowResolution.of(
            pixels, kind, multiple=manifest.size_multiple, reach=manifest.halo
        )
        self._halo = manifest.halo if halo is None else halo
        size = self._lr.padded_height, self._lr.padded_width
        self._tiles = painter.plan(
            *size, painter.choose_core(*size, halo=self._halo), halo=self._halo
        )
        self._kept = KeptTiles()
        budget = painter.conditioning_budget() if memory_budget is None else memory_budget
        nbytes = 0
        kept = self._kept.tiles
        for tile in self._tiles:
            stop_if_set(cancel)
            (rows, columns), window = tile.window.slices, tile.window
            if (
                nbytes + window.height * window.width * manifest.conditioning_bytes_per_pixel
                > budget
            ):
                break
            seen = self._lr.network_rows(rows.start, rows.stop)
            try:
                with cancelled_by(cancel):
                    kept[tile] = painter.backend.encode(seen[None, :, :, columns])
            except (OutOfMemoryError, MemoryError):
                # Drawing needs room too: half of what fits is kept, the rest is encoded again for
                # every draw.
                for last in list(kept)[(len(kept) + 1) // 2 :]:
                    del kept[last]
                break
            nbytes += kept[tile].nbytes
            if progress is not None:
                progress(len(kept), len(self._tiles))

    @property
    def nbytes(self) -> int:
        """Bytes of conditioning kept on the device."""
        return self._kept.nbytes

    @property
    def tiles(self) -> int:
        """Number of tiles of the image; :attr:`kept_tiles` of them are kept encoded."""
        return len(self._tiles)

    @property
    def kept_tiles(self) -> int:
        """Number of tiles that do not have to be encoded again.

        When memory runs out later, they are dropped.
        """
        return len(self._kept.tiles)

    def sample(self, **options: Unpack[DrawKeywords]) -> ImageT:
        """Draw one picture of the image's kind, bit for bit as :meth:`Upscaler.upscale` does."""
        return self._draw_pictures(keywords_of(DrawOptions, options))[0]

    def samples(self, n: int, **options: Unpack[DrawKeywords]) -> list[ImageT]:
        """Draw `n` pictures, 1 to 2^20: item i is that of `sample=sample + i`, bit for bit."""
        return self._draw_pictures(keywords_of(DrawOptions, options), n=n)

    def mean(self, n: int, **options: Unpack[DrawKeywords]) -> ImageT:
        """Average `n` samples, at least 2, into one picture of the image's kind.

        Memory holds two pictures, not `n`.
        """
        return self._draw_pictures(keywords_of(DrawOptions, options), n=n, reduce="mean")[0]

    def std(self, n: int, **options: Unpack[DrawKeywords]) -> NDArray[np.float32]:
        """Compute the standard deviation (with n - 1) of `n` samples, at least 2.

        It is large where the model is unsure.

        It is of the model's own pictures: `consistent` and `scale` are refused. Memory holds two
        pictures, not `n`.

        Returns:
            Float32 H×W×3, or H×W×1 for a gray image, in [0, 1], in the image's layout, without
            alpha.
        """
        return self._kind.arranged(
            self._draw(keywords_of(DrawOptions, options), n=n, reduce="std")[0]
        )

    def interval(
        self, n: int, coverage: float = 0.9, **options: Unpack[DrawKeywords]
    ) -> tuple[ImageT, ImageT]:
        """Compute a lower and an upper picture that hold the true values of a share of pixels.

        The share is the `coverage`.

        Both are the mean ± a calibrated factor times the deviation. `consistent` and a smaller
        `scale` are refused. Promised is: of 8-bit photographs like those of the calibration
        (`srflow-eval calibrate`), at the default temperature, the share held is `coverage` or more
        on average over photographs and calibrations, on the conditions of docs/concepts.md. Not
        promised is any single pixel, region or picture; other content; other tau.

        Args:
            n: Samples, one of the numbers that were calibrated, 4, 8 and 16 as a rule.
            coverage: 0.5 to 0.95 as a rule, likewise.
            options: As of :meth:`sample`.

        Returns:
            Two pictures of the image's kind. Memory holds a few pictures, not `n`.

        Raises:
            BundleError: The model's intervals are not calibrated.
        """
        low, high = self._draw_pictures(
            keywords_of(DrawOptions, options), n=n, reduce="interval", coverage=coverage
        )[1:]
        return low, high

    def invert(
        self,
        hr: AnyImage,
        *,
        dequantise: bool = False,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Latents:
        """Find the latents that make an HR image of this one, and how likely it is.

        It is the inverse of :meth:`decode`.

        Any size works: tiles are those of drawing. The latents are as large as the picture in
        float32. For colours that the network maps to themselves, `decode(invert(hr))` is hr to
        rounding.

        Args:
            hr: As :meth:`Upscaler.upscale` takes images, in this one's layout, `scale` times as
                large; up to scale - 1 pixels less at the right and the bottom are padded, and count
                nothing. Its colours are converted to sRGB as this image's are, gray becomes RGB,
                and colours under full transparency come from their neighbours.
            dequantise: Spread 8-bit levels evenly within them, as likelihoods of discrete data
                demand, the same in every call. Without it the values go in as they are.
            progress, cancel: As for :meth:`Upscaler.upscale`.

        Raises:
            BundleError: The bundle has no inverter.
        """
        DrawOptions(progress=progress, cancel=cancel)  # checks them
        with memory_errors_typed("for the HR image and its latents; use a smaller image"):
            pixels, kind = load_image(hr, layout=self._kind.layout)
            inverting = self._inverting or self
            return inverting._invert(
                pixels, kind, dequantise=dequantise, progress=progress, cancel=cancel
            )

    def _invert(
        self,
        pixels: NDArray[Any],
        kind: ImageKind,
        *,
        dequantise: bool = False,
        **watched: Unpack[WatchKeywords],
    ) -> Latents:
        """The latents of :meth:`invert` for an HR image as pixels and kind."""
        painter = self._painter
        lr = self._lr
        large = high_resolution(pixels, kind, lr, scale=painter.manifest.scale)
        tiles = inverting_tiles(painter, lr, self._tiles, halo=self._halo)
        return invert(lr, large, painter, tiles, dequantise=dequantise, kept=self._kept, **watched)

    def decode(
        self,
        latents: Latents,
        *,
        consistent: bool = False,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> ImageT:
        """Decode latents into a picture of the image's kind, in the size that they were made from.

        Args:
            latents: Of this model and a picture of this image's size, from :meth:`invert` or
                changed by their methods.
            consistent, progress, cancel: As for :meth:`Upscaler.upscale`.

        Raises:
            ArgumentError: The latents are of another model or size.
        """
        own = getattr(latents, "model_sha256", None) == self._painter.manifest.digest
        encoding = self if own else self._inverting or self
        options = DrawOptions(tau=1.0, consistent=consistent, progress=progress, cancel=cancel)
        return cast("ImageT", self._kind.wrapped(encoding._decode(latents, options)))

    def _decode(self, latents: Latents, options: DrawOptions) -> NDArray[Any]:
        """The pixels of :meth:`decode`, H×W×C, in the image's dtype."""
        check_latents(latents, self._painter.manifest, self._lr)
        precision = self._painter.backend.precision
        if latents.precision != precision:
            _log.warning(
                "these latents were made with precision %s and are decoded with %s: the picture "
                "differs a little from "
                "the one that they are of; open the Upscaler with precision=%r for the same",
                latents.precision,
                precision,
                latents.precision,
            )
        return self._draw(options, latents=latents)[0][: latents.height, : latents.width]

    def _draw_pictures(self, options: DrawOptions, **how: Unpack[RequestKeywords]) -> list[ImageT]:
        return [cast("ImageT", self._kind.wrapped(drawn)) for drawn in self._draw(options, **how)]

    def _draw(self, options: DrawOptions, **how: Unpack[RequestKeywords]) -> list[NDArray[Any]]:
        """The pixels of every picture, H×W×C, in the image's dtype, or float32 for a deviation.

        how: a request's.
        """
        lr = self._lr
        drawn = self
        request = make_request(
            options, self._painter.manifest, height=lr.height, width=lr.width, **how
        )
        if options.wrap is not None:
            pixels = add_margins(self._given, request.margins)
            drawn = Encoding(
                pixels, self._kind, self._painter, cleaner=self._cleaner, memory_budget=0
            )
        plain, (height, width) = request.reduce == "std", (request.height, request.width)
        shape = (height, width, self._kind.colours if plain else self._kind.channels)
        what = f"for {request.pictures} pictures of {width}×{height}"
        fix = "ask for fewer samples at a time, or write them to files with upscale_file"
        with memory_errors_typed(f"{what}; {fix}"):
            dtype = FLOAT32 if plain else self._kind.dtype
            canvases = self._kept.allocate(
                lambda: [_Canvas(shape, dtype) for _ in range(request.pictures)]
            )
            draw_tiles(
                drawn._lr,
                self._painter,
                drawn._tiles,
                request,
                [canvas.write for canvas in canvases],
                drawn._kept,
            )
        return [canvas.pixels for canvas in canvases]


class _Canvas:
    """A picture in memory, filled from the top down."""

    def __init__(self, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        self.pixels = np.empty(shape, dtype)
        self._row = 0

    def write(self, rows: NDArray[Any]) -> None:
        self.pixels[self._row : self._row + rows.shape[0]] = rows
        self._row += rows.shape[0]
