"""The SDK for asyncio: :class:`AsyncUpscaler` has Upscaler's methods as coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from PIL import Image

from srflow_sdk._checks import whole
from srflow_sdk.backends import Device, Precision
from srflow_sdk.drawing.options import DrawKeywords, EncodeKeywords, Progress
from srflow_sdk.encoding import Encoding, ImageT
from srflow_sdk.errors import CancelledError, DeviceError
from srflow_sdk.files import PathLike
from srflow_sdk.files.passed_images import EncodedImage
from srflow_sdk.geometry.tiles import TileSize
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.interrupts import cancelled_by, memory_errors_typed, stop_if_set
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from typing import Concatenate

    from typing_extensions import ParamSpec, Unpack

    from srflow_sdk.latents.picture_latents import Latents

    _P = ParamSpec("_P")
_T = TypeVar("_T")


class _Stop(threading.Event):
    """Counts as set once it is, or one of those that were passed."""

    def __init__(self, *others: threading.Event | None) -> None:
        super().__init__()
        self.others = [other for other in others if other is not None]

    def is_set(self) -> bool:
        return super().is_set() or any(other.is_set() for other in self.others)


async def _end_of(call: asyncio.Future[Any]) -> None:
    """Wait for the end of a call, even if the task is cancelled again, and drop its error."""
    while not call.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([call])
    if not call.cancelled():
        call.exception()


def _awaited(
    method: Callable[Concatenate[Any, _P], _T],
) -> Callable[Concatenate[Any, _P], Coroutine[Any, Any, _T]]:
    """Make a method of Upscaler or Encoding a coroutine."""

    @functools.wraps(method)
    async def call(self: Any, *arguments: Any, **keywords: Any) -> Any:
        return await self._run(getattr(self._opened, method.__name__), *arguments, **keywords)

    return call  # type: ignore[return-value]


def _read(of: Any) -> Any:
    """Make a property of Upscaler or Encoding one of the class that holds it."""
    return property(lambda self: of.fget(self._opened), doc=of.__doc__)


class AsyncUpscaler:
    """An :class:`Upscaler` for asyncio.

    Its methods have the same keywords and results, and never block the event loop.

    Cancelling a task that awaits a call, as a timeout does, stops the work at the network's next
    operator. The task ends when nothing of the call runs any more and nothing was written; one that
    is cancelled while files are being finished may still leave them, complete. `progress` is called
    in the event loop. Do not change an array before its call ends. Leaving the ``async with`` block
    ends calls that still run or wait, by DeviceError; no threads are left.

    Args:
        bundle, device, tile, threads, precision: As for :class:`Upscaler`; entering the block
            raises what that raises.
        at_once: How many calls run at a time; others wait for their turn. Each takes the memory of
            a tile, and all cores: with 2, a short call need not wait for a long one.

    Example:
        >>> async with AsyncUpscaler() as upscaler:  # the model is loaded here
        ...     large = await upscaler.upscale(photo)
    """

    def __init__(
        self,
        bundle: PathLike | Bundle | Iterable[Bundle] | None = None,
        *,
        device: Device = "auto",
        tile: TileSize = "auto",
        threads: int | None = None,
        precision: Precision = "bundle",
        at_once: int = 2,
    ) -> None:
        self._open = functools.partial(
            Upscaler, bundle, device=device, tile=tile, threads=threads, precision=precision
        )
        self._pool = ThreadPoolExecutor(
            whole("at_once", at_once, least=1), thread_name_prefix="srflow-async"
        )
        self._running: set[asyncio.Future[Any]] = set()
        self._closed = threading.Event()
        self._upscaler: Upscaler | None = None

    async def __aenter__(self) -> AsyncUpscaler:
        try:
            self._upscaler = await self._run(lambda cancel: self._open())
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End what runs or waits, then release the model.

        Those calls raise DeviceError, and so do later ones.
        """
        if self._closed.is_set():
            return
        self._closed.set()
        for call in list(self._running):
            await _end_of(call)
        if self._upscaler is not None:
            await _end_of(
                asyncio.get_running_loop().run_in_executor(self._pool, self._upscaler.close)
            )
        # their tasks end in turn; a loop that ended before them would cancel them
        while self._running:
            await asyncio.sleep(0)
        self._pool.shutdown()  # its threads have nothing to do: this takes no time

    @property
    def _opened(self) -> Upscaler:
        if self._upscaler is None:
            raise DeviceError(
                "the model is not loaded: use the upscaler in `async with AsyncUpscaler(…) as "
                "upscaler:`"
            )
        return self._upscaler

    bundle = _read(Upscaler.bundle)
    scale = _read(Upscaler.scale)
    device = _read(Upscaler.device)
    precision = _read(Upscaler.precision)
    upscale = _awaited(Upscaler.upscale)
    upscale_many = _awaited(Upscaler.upscale_many)
    upscale_file = _awaited(Upscaler.upscale_file)
    best_of = _awaited(Upscaler.best_of)
    restore = _awaited(Upscaler.restore)
    restore_file = _awaited(Upscaler.restore_file)
    transfer = _awaited(Upscaler.transfer)
    transfer_file = _awaited(Upscaler.transfer_file)
    log_likelihood = _awaited(Upscaler.log_likelihood)

    @overload
    async def encode(
        self, image: ImageT, **options: Unpack[EncodeKeywords]
    ) -> AsyncEncoding[ImageT]: ...
    @overload
    async def encode(
        self, image: EncodedImage, **options: Unpack[EncodeKeywords]
    ) -> AsyncEncoding[Image.Image]: ...
    async def encode(self, image: Any, **options: Any) -> AsyncEncoding[Any]:
        """Compute everything that depends on the image alone: see :meth:`Upscaler.encode`."""
        return AsyncEncoding(await self._run(self._opened.encode, image, **options), self)

    async def _run(
        self,
        call: Callable[..., _T],
        *arguments: Any,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
        **keywords: Any,
    ) -> _T:
        """Call in a thread, once one is free. The call ends soon after its task is cancelled."""
        loop = asyncio.get_running_loop()
        stop = _Stop(cancel, self._closed)
        closed = DeviceError(
            "the upscaler is closed; await its calls before its `async with` block ends"
        )

        async def tell(done: int, total: int) -> None:
            if progress is not None and not stop.is_set():
                progress(done, total)

        def work() -> _T:
            stop_if_set(stop)
            if progress is not None:  # what it raises ends the call in its thread
                keywords["progress"] = lambda *told: asyncio.run_coroutine_threadsafe(
                    tell(*told), loop
                ).result()
            with cancelled_by(stop):
                return call(*arguments, cancel=stop, **keywords)

        if self._closed.is_set():
            raise closed
        with memory_errors_typed("before the call began"):
            running = loop.run_in_executor(self._pool, contextvars.copy_context().run, work)
        self._running.add(running)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            stop.set()
            await _end_of(running)
            raise
        except CancelledError as error:
            if not self._closed.is_set() or (cancel is not None and cancel.is_set()):
                raise
            raise closed from error
        finally:
            self._running.remove(running)


class AsyncEncoding(Generic[ImageT]):
    """An :class:`Encoding` whose methods are coroutines. :meth:`AsyncUpscaler.encode` makes it."""

    def __init__(self, encoding: Encoding[ImageT], upscaler: AsyncUpscaler) -> None:
        self._opened: Encoding[ImageT] = encoding
        self._run = upscaler._run

    nbytes = _read(Encoding.nbytes)
    tiles = _read(Encoding.tiles)
    kept_tiles = _read(Encoding.kept_tiles)
    std = _awaited(Encoding.std)
    invert = _awaited(Encoding.invert)
    if TYPE_CHECKING:  # the others, with types that know the image's

        async def sample(self, **options: Unpack[DrawKeywords]) -> ImageT: ...
        async def samples(self, n: int, **options: Unpack[DrawKeywords]) -> list[ImageT]: ...
        async def mean(self, n: int, **options: Unpack[DrawKeywords]) -> ImageT: ...
        async def interval(
            self, n: int, coverage: float = ..., **options: Unpack[DrawKeywords]
        ) -> tuple[ImageT, ImageT]: ...
        async def decode(
            self, latents: Latents, *, consistent: bool = ..., **options: Any
        ) -> ImageT: ...
    else:
        sample = _awaited(Encoding.sample)
        samples = _awaited(Encoding.samples)
        mean = _awaited(Encoding.mean)
        interval = _awaited(Encoding.interval)
        decode = _awaited(Encoding.decode)
