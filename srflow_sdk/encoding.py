"""An encoded image, from which samples are drawn tile by tile."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk._drawing.finishing import Finishing
from srflow_sdk._drawing.low_resolution import LowResolution
from srflow_sdk._drawing.painter import Painter
from srflow_sdk._drawing.passes import Progress, draw, warn_if_inconsistent
from srflow_sdk._drawing.requests import Reduce, Request, check_choices, make_request
from srflow_sdk._drawing.rows import ArrayRows
from srflow_sdk._drawing.temperature import Tau
from srflow_sdk.backends import Conditioning
from srflow_sdk.errors import ArgumentError, OutOfMemoryError, memory_errors_typed
from srflow_sdk.images import ImageKind
from srflow_sdk.tiles import Tile

if TYPE_CHECKING:
    from typing_extensions import Unpack

ImageT = TypeVar("ImageT", Image.Image, NDArray[np.uint8], NDArray[np.uint16], NDArray[np.float32])


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was measured of a call's outputs.

    lr_psnr: for every output, PSNR in dB between the LR image and the output's bicubic reduction, both in [0, 1] and in
    the image's own profile; wholly transparent pixels do not count. Infinite if they agree, NaN if nothing is visible.
    """

    lr_psnr: tuple[float, ...]


class DrawOptions(TypedDict, total=False):
    """The keywords that every way of drawing takes; see :meth:`Upscaler.upscale`."""

    tau: Tau | None
    seed: int
    sample: int
    consistent: bool
    progress: Progress | None
    cancel: threading.Event | None


class Encoding(Generic[ImageT]):
    """An image, encoded: samples, temperatures and seeds at a fraction of the price. Made by :meth:`Upscaler.encode`.

    Usable as long as its Upscaler is open; thread-safe. Device memory is released with the object.
    """

    def __init__(self, pixels: NDArray[Any], kind: ImageKind, painter: Painter, *, memory_budget: int) -> None:
        self._kind = kind
        self._painter = painter
        height, width = pixels.shape[:2]
        manifest = painter.manifest
        self._lr = LowResolution.of(
            ArrayRows(pixels),
            kind,
            height=height,
            width=width,
            multiple=manifest.size_multiple,
            reach=manifest.halo,
        )
        core = painter.core(self._lr.padded_height, self._lr.padded_width)
        self._tiles = painter.plan(self._lr.padded_height, self._lr.padded_width, core)
        self._kept: dict[Tile, Conditioning] = {}
        self._nbytes = 0
        for tile in self._tiles:
            window = tile.window
            if self._nbytes + window.height * window.width * manifest.conditioning_bytes_per_pixel > memory_budget:
                break
            seen = self._lr.network_rows(window.top, window.top + window.height)
            try:
                conditioning = painter.encode(seen[:, :, window.left : window.left + window.width])
            except OutOfMemoryError:
                # Drawing needs room too: half of what fits is kept, the rest is encoded again for every draw.
                for dropped in list(self._kept)[(len(self._kept) + 1) // 2 :]:
                    self._nbytes -= self._kept.pop(dropped).nbytes
                break
            self._kept[tile] = conditioning
            self._nbytes += conditioning.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes of conditioning kept on the device."""
        return self._nbytes

    @property
    def tiles(self) -> int:
        """Tiles of the image; :attr:`kept_tiles` of them are kept encoded."""
        return len(self._tiles)

    @property
    def kept_tiles(self) -> int:
        """Tiles that need not be encoded again."""
        return len(self._kept)

    @overload
    def sample(
        self,
        *,
        samples: Literal[1] = ...,
        reduce: None = ...,
        report: Literal[False] = ...,
        **options: Unpack[DrawOptions],
    ) -> ImageT: ...
    @overload
    def sample(
        self, *, samples: int, reduce: None = ..., report: Literal[False] = ..., **options: Unpack[DrawOptions]
    ) -> list[ImageT] | Any: ...
    @overload
    def sample(
        self,
        *,
        samples: int,
        reduce: Literal["mean"],
        report: Literal[False] = ...,
        **options: Unpack[DrawOptions],
    ) -> ImageT: ...
    @overload
    def sample(
        self,
        *,
        samples: int,
        reduce: Literal["std"],
        report: Literal[False] = ...,
        **options: Unpack[DrawOptions],
    ) -> NDArray[np.float32]: ...
    @overload
    def sample(
        self,
        *,
        samples: Literal[1] = ...,
        reduce: None = ...,
        report: Literal[True],
        **options: Unpack[DrawOptions],
    ) -> tuple[ImageT, Report]: ...
    @overload
    def sample(
        self, *, samples: int, reduce: None = ..., report: Literal[True], **options: Unpack[DrawOptions]
    ) -> tuple[list[ImageT] | Any, Report]: ...
    @overload
    def sample(
        self, *, samples: int, reduce: Literal["mean"], report: Literal[True], **options: Unpack[DrawOptions]
    ) -> tuple[ImageT, Report]: ...
    @overload
    def sample(
        self, *, samples: int = ..., reduce: Reduce | None = ..., report: bool = ..., **options: Unpack[DrawOptions]
    ) -> Any: ...
    def sample(
        self,
        *,
        tau: Tau | None = None,
        seed: int = 0,
        sample: int = 0,
        samples: int = 1,
        reduce: Reduce | None = None,
        consistent: bool = False,
        report: bool = False,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Any:
        """Draw one answer, or a list of several; arguments, result and errors as in :meth:`Upscaler.upscale`."""
        manifest = self._painter.manifest
        request = make_request(
            manifest.default_tau if tau is None else tau,
            height=self._lr.height,
            width=self._lr.width,
            multiple=manifest.size_multiple,
            seed=seed,
            sample=sample,
            samples=samples,
            reduce=reduce,
            cancel=cancel,
        )
        plain = reduce == "std"
        if plain and (consistent or report):
            raise ArgumentError("a standard deviation is no picture: it can be neither consistent nor reported on")
        check_choices(consistent=consistent, report=report, progress=progress, cancel=cancel)
        size = f"{self._lr.width * manifest.scale}×{self._lr.height * manifest.scale}"
        mend = "ask for fewer samples at a time, or let upscale_file write them as they come"
        with memory_errors_typed(f"for {request.pictures} pictures of {size}; {mend}"):
            canvases = [self._canvas(plain=plain) for _ in range(request.pictures)]
            outputs = self._draw(
                request, canvases, consistent=consistent, measure=report, plain=plain, progress=progress
            )
        images = [canvas.pixels if plain else self._kind.wrapped(canvas.pixels) for canvas in canvases]
        result = images[0] if samples == 1 or reduce else images
        if not report:
            return result
        measured = tuple(value for output in outputs if (value := output.lr_psnr) is not None)
        warn_if_inconsistent("the image", measured)
        return result, Report(lr_psnr=measured)

    def _draw(
        self,
        request: Request,
        canvases: list[_Canvas],
        *,
        consistent: bool,
        measure: bool,
        plain: bool,
        progress: Progress | None,
    ) -> list[Finishing]:
        outputs = [
            Finishing(
                self._lr,
                scale=self._painter.manifest.scale,
                write=canvas.write,
                consistent=consistent,
                measure=measure,
                plain=plain,
            )
            for canvas in canvases
        ]
        draw(self._lr, self._painter, self._tiles, request, outputs, kept=self._kept, progress=progress)
        return outputs

    def _canvas(self, *, plain: bool) -> _Canvas:
        scale = self._painter.manifest.scale
        channels = self._kind.colours if plain else self._kind.channels
        dtype = np.dtype(np.float32) if plain else self._kind.dtype
        return _Canvas((self._lr.height * scale, self._lr.width * scale, channels), dtype)


class _Canvas:
    """A picture in memory, filled from the top down."""

    def __init__(self, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        self.pixels = np.empty(shape, dtype)
        self._row = 0

    def write(self, rows: NDArray[Any]) -> None:
        self.pixels[self._row : self._row + rows.shape[0]] = rows
        self._row += rows.shape[0]
