"""The SDK for asyncio: :class:`AsyncUpscaler` has the methods of Upscaler as coroutines, for services and apps."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk._drawing.file_upscaling import FileResult
from srflow_sdk._drawing.inputs import EncodedImage
from srflow_sdk._drawing.requests import DrawOptions, Progress, takes_draw_keywords
from srflow_sdk._files import MAX_PIXELS, PathLike
from srflow_sdk._images import InMemoryImage
from srflow_sdk._raising import memory_errors_typed
from srflow_sdk._system.interruptible import cancelled_by
from srflow_sdk.backends import Device
from srflow_sdk.bundle import Bundle
from srflow_sdk.encoding import ENCODING_BUDGET_BYTES, Encoding, ImageT
from srflow_sdk.errors import ArgumentError, DeviceError
from srflow_sdk.tiles import TileSize
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from srflow_sdk._drawing.requests import DrawKeywords

_T = TypeVar("_T")


class AsyncUpscaler:
    """An :class:`Upscaler` for asyncio. Its methods have the same keywords and results, and never block the event loop.

        async with AsyncUpscaler() as upscaler:  # the model is loaded here
            large = await upscaler.upscale(photo)

    bundle, device, tile, threads: as for :class:`Upscaler`. at_once: how many calls run at a time; others wait for
    their turn. Each call takes the memory of a tile, and all cores: with 2, a short call need not wait for a long one.

    Cancelling a task that awaits a call, as a timeout does, stops the work at the network's next operator: for the
    embedded model within half a second. The task ends when nothing of the call runs any more and nothing was written.
    `progress` is called in the event loop; an exception that it raises ends the call. Do not change an array before its
    call ends. Leaving the ``async with`` block cancels the calls that still run (CancelledError); no threads are left.

    Entering raises what Upscaler raises: BundleError, DeviceError, ArgumentError.
    """

    def __init__(
        self,
        bundle: PathLike | Bundle | None = None,
        *,
        device: Device = "auto",
        tile: TileSize = "auto",
        threads: int | None = None,
        at_once: int = 2,
    ) -> None:
        if isinstance(at_once, bool) or not isinstance(at_once, int) or at_once < 1:
            raise ArgumentError(f"at_once is {at_once!r}; it must be a whole number, at least 1")
        self._open: Callable[[], Upscaler] = lambda: Upscaler(bundle, device=device, tile=tile, threads=threads)
        self._calls = _Calls(at_once)
        self._upscaler: Upscaler | None = None

    async def __aenter__(self) -> Self:
        def load(stop: _Stop) -> None:
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
        """Cancel what runs, wait for its end and release the model. Later calls raise DeviceError."""
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
        return await self._calls.draw(lambda keywords: upscale(image, **keywords), options)

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
        return await self._calls.draw(
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
    async def encode(self, image: ImageT, *, memory_budget: int = ...) -> AsyncEncoding[ImageT]: ...
    @overload
    async def encode(self, image: EncodedImage, *, memory_budget: int = ...) -> AsyncEncoding[Image.Image]: ...
    async def encode(
        self, image: InMemoryImage | EncodedImage, *, memory_budget: int = ENCODING_BUDGET_BYTES
    ) -> AsyncEncoding[Any]:
        """Compute everything that depends on the image alone: see :meth:`Upscaler.encode`."""
        encode: Any = self._opened.encode

        def call(stop: _Stop) -> Encoding[Any]:
            with cancelled_by(stop):
                encoding: Encoding[Any] = encode(image, memory_budget=memory_budget)
                return encoding

        return AsyncEncoding(await self._calls.run(call), self._calls)


class AsyncEncoding(Generic[ImageT]):
    """An :class:`Encoding` whose methods are coroutines. :meth:`AsyncUpscaler.encode` makes it."""

    def __init__(self, encoding: Encoding[ImageT], calls: _Calls) -> None:
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
        return await self._calls.draw(lambda keywords: self._encoding.sample(**keywords), options)

    @takes_draw_keywords
    async def samples(self, n: int, **options: Unpack[DrawKeywords]) -> list[ImageT]:
        """Draw `n` pictures: see :meth:`Encoding.samples`."""
        return await self._calls.draw(lambda keywords: self._encoding.samples(n, **keywords), options)

    @takes_draw_keywords
    async def mean(self, n: int, **options: Unpack[DrawKeywords]) -> ImageT:
        """Average `n` samples: see :meth:`Encoding.mean`."""
        return await self._calls.draw(lambda keywords: self._encoding.mean(n, **keywords), options)

    @takes_draw_keywords
    async def std(self, n: int, **options: Unpack[DrawKeywords]) -> NDArray[np.float32]:
        """Compute the standard deviation of `n` samples: see :meth:`Encoding.std`."""
        return await self._calls.draw(lambda keywords: self._encoding.std(n, **keywords), options)


class _Stop(threading.Event):
    """Counts as set once it is, or the event that the caller passed."""

    def __init__(self, other: threading.Event | None = None) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or (self._other is not None and self._other.is_set())


class _Calls:
    """Blocking calls in threads, a few at a time, each of which ends soon after its task is cancelled."""

    def __init__(self, at_once: int) -> None:
        self._turn = asyncio.Semaphore(at_once)
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="srflow-async")
        self._running: dict[asyncio.Future[Any], _Stop] = {}
        self._closed = False

    async def draw(self, call: Callable[[DrawKeywords], _T], keywords: DrawKeywords) -> _T:
        """Run a drawing method with keywords whose `progress` and `cancel` are made to fit."""
        options = DrawOptions(**keywords)
        told = _OnLoop(options.progress)

        def draw(stop: _Stop) -> _T:
            progress = None if options.progress is None else told.of(stop)
            return call(dataclasses.replace(options, progress=progress, cancel=stop).keywords)

        try:
            return await self.run(draw, cancel=options.cancel)
        finally:
            told.raise_what_it_raised()

    async def run(self, call: Callable[[_Stop], _T], *, cancel: threading.Event | None = None) -> _T:
        """Wait for a turn, and then for the call, which must end soon after its argument is set."""
        async with self._turn:
            if self._closed:
                raise DeviceError("the upscaler is closed; make the calls before its `async with` block ends")
            stop = _Stop(cancel)
            with memory_errors_typed("before the call began"):
                ended = asyncio.get_running_loop().run_in_executor(
                    self._pool, contextvars.copy_context().run, call, stop
                )
            self._running[ended] = stop
            try:
                await asyncio.wait([ended])
            except asyncio.CancelledError:
                stop.set()
                await _end_of(ended)
                raise
            finally:
                del self._running[ended]
            return ended.result()

    async def close(self, release: Callable[[], None]) -> None:
        """Stop the calls and wait for their end, then release what they used and end the threads."""
        if self._closed:
            return
        self._closed = True
        for stop in self._running.values():
            stop.set()
        for ended in list(self._running):
            await _end_of(ended)
        await _end_of(asyncio.get_running_loop().run_in_executor(self._pool, release))
        self._pool.shutdown()  # its threads have nothing to do: this takes no time


class _OnLoop:
    """Calls a function of the caller's in the event loop, from any thread."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._error: Exception | None = None

    def of(self, stop: _Stop) -> Progress:
        """What the thread calls. It sets `stop` if the caller's function raises."""

        def tell(done: int, total: int) -> None:
            if self._progress is None or stop.is_set():
                return
            try:
                self._progress(done, total)
            except Exception as error:
                self._error = error
                stop.set()

        def told(done: int, total: int) -> None:
            self._loop.call_soon_threadsafe(tell, done, total)

        return told

    def raise_what_it_raised(self) -> None:
        """Raise the exception of the caller's function, if there was one."""
        if self._error is not None:
            raise self._error


async def _end_of(future: asyncio.Future[Any]) -> None:
    """Wait for the end of a call, even if the task is cancelled again, and drop its error."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    future.exception()
