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

__all__ = ["Encoding", "ImageT"]

_log = logging.getLogger(__name__)
ImageT = TypeVar(
    "ImageT",
    Image.Image,
    NDArray[np.uint8],
    NDArray[np.uint16],
    NDArray[np.float32],
    NDArray[np.float64],
)


class EncodedPicture:
    """A picture, and the conditioning of as many of its tiles as memory allows. Thread-safe.

    Attributes:
        pixels: As they are enlarged, H×W×C: those of a damaged picture are cleaned.
        kind: The kind of image that the pixels are of, and that is drawn.
        painter: The painter of the model that draws.
        core: The side of its tiles' cores in LR pixels; None: it is one tile.
        tiles: All of the picture's.
        kept: Those whose conditioning is on the device.
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
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> None:
        self.kind = kind
        self.painter = painter
        self._given = pixels
        self._cleaner = cleaner
        if cleaner is not None:
            pixels = clean_pixels(pixels, kind, painter, cleaner, cancel)
        self.pixels = pixels
        manifest = painter.manifest
        self._lr = LowResolution.of(
            pixels, kind, multiple=manifest.size_multiple, reach=manifest.halo
        )
        self._halo = manifest.halo if halo is None else halo
        self.core = painter.choose_core(*self._lr.network_size, halo=self._halo)
        self.tiles = painter.plan(*self._lr.network_size, self.core, halo=self._halo)
        self.kept = KeptTiles()
        self._encode(painter.conditioning_budget(memory_budget), progress, cancel)

    def _encode(
        self, budget: int, progress: Progress | None, cancel: threading.Event | None
    ) -> None:
        """Encode tiles, as many as so many bytes of conditioning hold."""
        kept = self.kept.tiles
        bytes_per_pixel = self.painter.manifest.conditioning_bytes_per_pixel
        nbytes = 0
        for tile in self.tiles:
            stop_if_set(cancel)
            window = tile.window
            if nbytes + window.height * window.width * bytes_per_pixel > budget:
                break
            rows, columns = window.slices
            seen = self._lr.network_rows(rows.start, rows.stop)
            try:
                with cancelled_by(cancel):
                    kept[tile] = self.painter.backend.encode(seen[None, :, :, columns])
            except (OutOfMemoryError, MemoryError):
                # Drawing needs room too: half of what fits is kept, the rest is encoded again for
                # every draw.
                for last in list(kept)[(len(kept) + 1) // 2 :]:
                    del kept[last]
                break
            nbytes += kept[tile].nbytes
            if progress is not None:
                progress(len(kept), len(self.tiles))

    def draw_images(self, options: DrawOptions, **how: Unpack[RequestKeywords]) -> list[Any]:
        """Draw the pictures of a request, as images of the picture's kind."""
        return [self.kind.wrapped(pixels) for pixels in self.draw(options, **how)]

    def draw(self, options: DrawOptions, **how: Unpack[RequestKeywords]) -> list[NDArray[Any]]:
        """Draw the pictures of a request.

        Returns:
            Their pixels, H×W×C, in the picture's dtype, or float32 for a deviation.
        """
        lr = self._lr
        drawn = self
        request = make_request(
            options, self.painter.manifest, height=lr.height, width=lr.width, **how
        )
        if options.wrap is not None:
            pixels = add_margins(self._given, request.margins)
            drawn = EncodedPicture(
                pixels, self.kind, self.painter, cleaner=self._cleaner, memory_budget=0
            )
        plain = request.reduce == "std"
        height, width = request.height, request.width
        shape = (height, width, self.kind.colours if plain else self.kind.channels)
        with memory_errors_typed(
            f"for {request.pictures} pictures of {width}×{height}; ask for fewer samples at a "
            "time, or write them to files with upscale_file"
        ):
            dtype = FLOAT32 if plain else self.kind.dtype
            canvases = self.kept.allocate(
                lambda: [_Canvas(shape, dtype) for _ in range(request.pictures)]
            )
            draw_tiles(
                drawn._lr,
                self.painter,
                drawn.tiles,
                request,
                [canvas.write for canvas in canvases],
                drawn.kept,
            )
        return [canvas.pixels for canvas in canvases]

    def invert(
        self,
        pixels: NDArray[Any],
        kind: ImageKind,
        *,
        dequantise: bool = False,
        **watched: Unpack[WatchKeywords],
    ) -> Latents:
        """Find the latents that make an HR image of this kind."""
        painter = self.painter
        lr = self._lr
        large = high_resolution(pixels, kind, lr, scale=painter.manifest.scale)
        tiles = inverting_tiles(painter, lr, self.tiles, halo=self._halo)
        return invert(lr, large, painter, tiles, dequantise=dequantise, kept=self.kept, **watched)

    def decode(self, latents: Latents, options: DrawOptions) -> NDArray[Any]:
        """Decode latents into pixels, H×W×C, in the picture's dtype."""
        check_latents(latents, self.painter.manifest, self._lr)
        precision = self.painter.backend.precision
        if latents.precision != precision:
            _log.warning(
                "these latents were made with precision %s and are decoded with %s: the picture "
                "differs a little from "
                "the one that they are of; open the Upscaler with precision=%r for the same",
                latents.precision,
                precision,
                latents.precision,
            )
        return self.draw(options, latents=latents)[0][: latents.height, : latents.width]


class _Canvas:
    """A picture in memory, filled from the top down."""

    def __init__(self, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        self.pixels = np.empty(shape, dtype)
        self._row = 0

    def write(self, rows: NDArray[Any]) -> None:
        self.pixels[self._row : self._row + rows.shape[0]] = rows
        self._row += rows.shape[0]


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

    def __init__(self, picture: EncodedPicture, inverting: Painter) -> None:
        self._picture = picture
        self._inverting = picture
        """The picture that inverts: another one where another model does than draws."""
        if inverting is not picture.painter:
            self._inverting = EncodedPicture(
                picture.pixels, picture.kind, inverting, memory_budget=0
            )

    @property
    def nbytes(self) -> int:
        """Bytes of conditioning kept on the device."""
        return self._picture.kept.nbytes

    @property
    def tiles(self) -> int:
        """Number of tiles of the image; :attr:`kept_tiles` of them are kept encoded."""
        return len(self._picture.tiles)

    @property
    def kept_tiles(self) -> int:
        """Number of tiles that do not have to be encoded again.

        When memory runs out later, they are dropped.
        """
        return len(self._picture.kept.tiles)

    def sample(self, **options: Unpack[DrawKeywords]) -> ImageT:
        """Draw one picture of the image's kind, bit for bit as :meth:`Upscaler.upscale` does."""
        return self._draw(options)[0]

    def samples(self, n: int, **options: Unpack[DrawKeywords]) -> list[ImageT]:
        """Draw `n` pictures, 1 to 2^20: item i is that of `sample=sample + i`, bit for bit."""
        return self._draw(options, n=n)

    def mean(self, n: int, **options: Unpack[DrawKeywords]) -> ImageT:
        """Average `n` samples, at least 2, into one picture of the image's kind.

        Memory holds two pictures, not `n`.
        """
        return self._draw(options, n=n, reduce="mean")[0]

    def std(self, n: int, **options: Unpack[DrawKeywords]) -> NDArray[np.float32]:
        """Compute the standard deviation (with n - 1) of `n` samples, at least 2.

        It is large where the model is unsure.

        It is of the model's own pictures: `consistent` and `scale` are refused. Memory holds two
        pictures, not `n`.

        Returns:
            Float32 H×W×3, or H×W×1 for a gray image, in [0, 1], in the image's layout, without
            alpha.
        """
        (deviation,) = self._picture.draw(keywords_of(DrawOptions, options), n=n, reduce="std")
        return self._picture.kind.arranged(deviation)

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
        _, low, high = self._draw(options, n=n, reduce="interval", coverage=coverage)
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
        with memory_errors_typed("for the HR image and its latents; use a smaller image"):
            pixels, kind = load_image(hr, layout=self._picture.kind.layout)
            return self._inverting.invert(
                pixels, kind, dequantise=dequantise, progress=progress, cancel=cancel
            )

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
        picture = self._inverting
        if getattr(latents, "model_sha256", None) == self._picture.painter.manifest.digest:
            picture = self._picture
        options = DrawOptions(tau=1.0, consistent=consistent, progress=progress, cancel=cancel)
        return cast("ImageT", picture.kind.wrapped(picture.decode(latents, options)))

    def _draw(self, options: DrawKeywords, **how: Unpack[RequestKeywords]) -> list[ImageT]:
        return self._picture.draw_images(keywords_of(DrawOptions, options), **how)
