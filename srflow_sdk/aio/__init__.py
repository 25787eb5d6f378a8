"""The SDK for asyncio: :class:`AsyncUpscaler` has the methods of Upscaler as coroutines, for services and apps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk.aio.calls import Calls, Stop
from srflow_sdk.backends import ComputePrecision, Device, Precision
from srflow_sdk.drawing.file_upscaling import FileResult
from srflow_sdk.drawing.requests import Progress, takes_draw_keywords, takes_keywords_of
from srflow_sdk.drawing.tiles import TileSize
from srflow_sdk.encoding import ENCODING_BUDGET_BYTES, Encoding, ImageT
from srflow_sdk.errors import ArgumentError, DeviceError
from srflow_sdk.files import MAX_PIXELS, PathLike
from srflow_sdk.files.passed_images import EncodedImage
from srflow_sdk.flow.restore_options import RestoreOptions
from srflow_sdk.flow.transfer_inputs import AnyImage
from srflow_sdk.flow.transfer_options import TransferOptions
from srflow_sdk.latents.picture_latents import Latents
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.pixels.in_memory import InMemoryImage
from srflow_sdk.system.interruptible import cancelled_by
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from srflow_sdk.drawing.requests import DrawKeywords
    from srflow_sdk.flow.restore_options import RestoreKeywords
    from srflow_sdk.flow.transfer_options import TransferKeywords


class AsyncUpscaler:
    """An :class:`Upscaler` for asyncio. Its methods have the same keywords and results, and never block the event loop.

        async with AsyncUpscaler() as upscaler:  # the model is loaded here
            large = await upscaler.upscale(photo)

    bundle, device, tile, threads, precision: as for :class:`Upscaler`. at_once: how many calls run at a time; others
    wait for their turn. Each call takes the memory of a tile, and all cores: with 2, a short call need not wait for a
    long one.

    Cancelling a task that awaits a call, as a timeout does, stops the work at the network's next operator: for the
    embedded model within half a second. The task ends when nothing of the call runs any more and nothing was written.
    `progress` is called in the event loop; an exception that it raises ends the call. Do not change an array before its
    call ends. Leaving the ``async with`` block ends calls that still run or wait, by DeviceError; no threads are left.

    Entering raises what Upscaler raises: BundleError, DeviceError, ArgumentError.
    """

    def __init__(
        self,
        bundle: PathLike | Bundle | None = None,
        *,
        device: Device = "auto",
        tile: TileSize = "auto",
        threads: int | None = None,
        precision: Precision = "bundle",
        at_once: int = 2,
    ) -> None:
        if isinstance(at_once, bool) or not isinstance(at_once, int) or at_once < 1:
            raise ArgumentError(f"at_once is {at_once!r}; it must be a whole number, at least 1")
        self._open: Callable[[], Upscaler] = lambda: Upscaler(
            bundle, device=device, tile=tile, threads=threads, precision=precision
        )
        self._calls = Calls(at_once)
        self._upscaler: Upscaler | None = None

    async def __aenter__(self) -> Self:
        def load(stop: Stop) -> None:
            with cancelled_by(stop):
                self._upscaler = self._open()

        try:
            await self._calls.run(load)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End what runs or waits, then release the model. Those calls raise DeviceError, and so do later ones."""
        await self._calls.close(lambda: None if self._upscaler is None else self._upscaler.close())

    @property
    def bundle(self) -> Bundle:
        """The bundle in use."""
        return self._opened.bundle

    @property
    def scale(self) -> int:
        """How many times larger the output's sides are."""
        return self._opened.scale

    @property
    def device(self) -> str:
        """The device in use, such as "cpu" or "cuda"."""
        return self._opened.device

    @property
    def precision(self) -> ComputePrecision:
        """What the encoder computes in: "bundle", "bf16" or "int8"."""
        return self._opened.precision

    @property
    def _opened(self) -> Upscaler:
        if self._upscaler is None:
            raise DeviceError("the model is not loaded: use the upscaler in `async with AsyncUpscaler(…) as upscaler:`")
        return self._upscaler

    @overload
    async def upscale(self, image: ImageT, **options: Unpack[DrawKeywords]) -> ImageT: ...
    @overload
    async def upscale(self, image: EncodedImage, **options: Unpack[DrawKeywords]) -> Image.Image: ...
    @takes_draw_keywords
    async def upscale(self, image: InMemoryImage | EncodedImage, **options: Unpack[DrawKeywords]) -> Any:
        """Upscale an image into one picture of its kind: see :meth:`Upscaler.upscale`."""
        upscale: Any = self._opened.upscale
        return await self._calls.work(lambda keywords: upscale(image, **keywords), options)

    @takes_draw_keywords
    async def upscale_file(
        self,
        source: PathLike,
        targets: PathLike | Sequence[PathLike],
        *,
        report: bool = False,
        max_pixels: int = MAX_PIXELS,
        quality: int | None = None,
        lossless: bool = False,
        **options: Unpack[DrawKeywords],
    ) -> FileResult:
        """Upscale an image file into one file for each sample: see :meth:`Upscaler.upscale_file`.

        A task that is cancelled while its files are being finished may still leave them, complete.
        """
        upscale_file = self._opened.upscale_file
        return await self._calls.work(
            lambda keywords: upscale_file(
                source,
                targets,
                report=report,
                max_pixels=max_pixels,
                quality=quality,
                lossless=lossless,
                **keywords,
            ),
            options,
        )

    @overload
    async def best_of(
        self, image: ImageT, score: Callable[[ImageT], float], n: int, **options: Unpack[DrawKeywords]
    ) -> ImageT: ...
    @overload
    async def best_of(
        self, image: EncodedImage, score: Callable[[Image.Image], float], n: int, **options: Unpack[DrawKeywords]
    ) -> Image.Image: ...
    @takes_draw_keywords
    async def best_of(
        self,
        image: InMemoryImage | EncodedImage,
        score: Callable[[Any], float],
        n: int,
        **options: Unpack[DrawKeywords],
    ) -> Any:
        """Return the sample that `score` likes best, which is called in a thread: see :meth:`Upscaler.best_of`."""
        best_of: Any = self._opened.best_of
        return await self._calls.work(lambda keywords: best_of(image, score, n, **keywords), options)

    @overload
    async def restore(self, image: ImageT, **options: Unpack[RestoreKeywords]) -> ImageT: ...
    @overload
    async def restore(self, image: EncodedImage, **options: Unpack[RestoreKeywords]) -> Image.Image: ...
    @takes_keywords_of(RestoreOptions)
    async def restore(self, image: InMemoryImage | EncodedImage, **options: Unpack[RestoreKeywords]) -> Any:
        """Remove noise from a picture: see :meth:`Upscaler.restore`."""
        restore: Any = self._opened.restore
        return await self._calls.work(lambda keywords: restore(image, **keywords), options)

    @takes_keywords_of(RestoreOptions)
    async def restore_file(
        self,
        source: PathLike,
        target: PathLike,
        *,
        report: bool = False,
        max_pixels: int = MAX_PIXELS,
        quality: int | None = None,
        lossless: bool = False,
        **options: Unpack[RestoreKeywords],
    ) -> FileResult:
        """Restore an image file into another: see :meth:`Upscaler.restore_file`."""
        restore_file = self._opened.restore_file
        file: dict[str, Any] = {"report": report, "max_pixels": max_pixels, "quality": quality, "lossless": lossless}
        return await self._calls.work(lambda keywords: restore_file(source, target, **file, **keywords), options)

    @overload
    async def transfer(
        self,
        target: ImageT,
        source: AnyImage,
        mask: AnyImage | NDArray[np.bool_],
        lr: AnyImage | None = ...,
        **options: Unpack[TransferKeywords],
    ) -> ImageT: ...
    @overload
    async def transfer(
        self,
        target: EncodedImage,
        source: AnyImage,
        mask: AnyImage | NDArray[np.bool_],
        lr: AnyImage | None = ...,
        **options: Unpack[TransferKeywords],
    ) -> Image.Image: ...
    @takes_keywords_of(TransferOptions)
    async def transfer(
        self,
        target: InMemoryImage | EncodedImage,
        source: AnyImage,
        mask: AnyImage | NDArray[np.bool_],
        lr: AnyImage | None = None,
        **options: Unpack[TransferKeywords],
    ) -> Any:
        """Put what a mask selects of one picture into another: see :meth:`Upscaler.transfer`."""
        transfer: Any = self._opened.transfer
        return await self._calls.work(lambda keywords: transfer(target, source, mask, lr, **keywords), options)

    @takes_keywords_of(TransferOptions)
    async def transfer_file(
        self,
        target: PathLike,
        source: PathLike,
        mask: PathLike,
        output: PathLike,
        *,
        lr: PathLike | None = None,
        max_pixels: int = MAX_PIXELS,
        quality: int | None = None,
        lossless: bool = False,
        **options: Unpack[TransferKeywords],
    ) -> FileResult:
        """Put what a mask selects of one image file into another: see :meth:`Upscaler.transfer_file`."""
        transfer_file = self._opened.transfer_file
        file: dict[str, Any] = {"lr": lr, "max_pixels": max_pixels, "quality": quality, "lossless": lossless}
        return await self._calls.work(
            lambda keywords: transfer_file(target, source, mask, output, **file, **keywords), options
        )

    async def log_likelihood(
        self,
        hr: InMemoryImage | EncodedImage,
        lr: InMemoryImage | EncodedImage | None = None,
        *,
        dequantise: bool = False,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> float:
        """Tell how likely the model finds an HR image: see :meth:`Upscaler.log_likelihood`."""
        log_likelihood = self._opened.log_likelihood
        return await self._calls.work(
            lambda keywords: log_likelihood(hr, lr, dequantise=dequantise, **keywords),
            {"progress": progress, "cancel": cancel},
        )

    @overload
    async def encode(self, image: ImageT, *, memory_budget: int = ...) -> AsyncEncoding[ImageT]: ...
    @overload
    async def encode(self, image: EncodedImage, *, memory_budget: int = ...) -> AsyncEncoding[Image.Image]: ...
    async def encode(
        self, image: InMemoryImage | EncodedImage, *, memory_budget: int = ENCODING_BUDGET_BYTES
    ) -> AsyncEncoding[Any]:
        """Compute everything that depends on the image alone: see :meth:`Upscaler.encode`."""
        encode: Any = self._opened.encode

        def call(stop: Stop) -> Encoding[Any]:
            with cancelled_by(stop):
                encoding: Encoding[Any] = encode(image, memory_budget=memory_budget)
                return encoding

        return AsyncEncoding(await self._calls.run(call), self._calls)


class AsyncEncoding(Generic[ImageT]):
    """An :class:`Encoding` whose methods are coroutines. :meth:`AsyncUpscaler.encode` makes it."""

    def __init__(self, encoding: Encoding[ImageT], calls: Calls) -> None:
        self._encoding: Encoding[ImageT] = encoding
        self._calls = calls

    @property
    def nbytes(self) -> int:
        """Bytes of conditioning kept on the device."""
        return self._encoding.nbytes

    @property
    def tiles(self) -> int:
        """Number of tiles of the image; :attr:`kept_tiles` of them are kept encoded."""
        return self._encoding.tiles

    @property
    def kept_tiles(self) -> int:
        """Number of tiles that do not have to be encoded again."""
        return self._encoding.kept_tiles

    @takes_draw_keywords
    async def sample(self, **options: Unpack[DrawKeywords]) -> ImageT:
        """Draw one picture: see :meth:`Encoding.sample`."""
        return await self._calls.work(lambda keywords: self._encoding.sample(**keywords), options)

    @takes_draw_keywords
    async def samples(self, n: int, **options: Unpack[DrawKeywords]) -> list[ImageT]:
        """Draw `n` pictures: see :meth:`Encoding.samples`."""
        return await self._calls.work(lambda keywords: self._encoding.samples(n, **keywords), options)

    @takes_draw_keywords
    async def mean(self, n: int, **options: Unpack[DrawKeywords]) -> ImageT:
        """Average `n` samples: see :meth:`Encoding.mean`."""
        return await self._calls.work(lambda keywords: self._encoding.mean(n, **keywords), options)

    @takes_draw_keywords
    async def std(self, n: int, **options: Unpack[DrawKeywords]) -> NDArray[np.float32]:
        """Compute the standard deviation of `n` samples: see :meth:`Encoding.std`."""
        return await self._calls.work(lambda keywords: self._encoding.std(n, **keywords), options)

    async def invert(
        self,
        hr: InMemoryImage | EncodedImage,
        *,
        dequantise: bool = False,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Latents:
        """Find the latents that make an HR image of this image: see :meth:`Encoding.invert`."""
        return await self._calls.work(
            lambda keywords: self._encoding.invert(hr, dequantise=dequantise, **keywords),
            {"progress": progress, "cancel": cancel},
        )

    async def decode(
        self,
        latents: Latents,
        *,
        consistent: bool = False,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> ImageT:
        """Decode latents into a picture of the image's kind: see :meth:`Encoding.decode`."""
        return await self._calls.work(
            lambda keywords: self._encoding.decode(latents, consistent=consistent, **keywords),
            {"progress": progress, "cancel": cancel},
        )
