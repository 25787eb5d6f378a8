"""The SDK for asyncio: :class:`AsyncUpscaler` has the methods of Upscaler as coroutines, for services and apps.

The stub beside this file has their types.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Generic

from srflow_sdk._checks import whole
from srflow_sdk.aio.calls import Calls, Stop
from srflow_sdk.backends import Device, Precision
from srflow_sdk.drawing.tiles import TileSize
from srflow_sdk.encoding import Encoding, ImageT
from srflow_sdk.errors import DeviceError
from srflow_sdk.files import PathLike
from srflow_sdk.files.passed_images import EncodedImage
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.pixels.in_memory import InMemoryImage, Tensor
from srflow_sdk.system.interrupts import cancelled_by
from srflow_sdk.upscaler import Upscaler


def _awaited(method: Callable[..., Any]) -> Any:
    """Make a method of Upscaler or Encoding a coroutine, which calls it in a thread; it keeps its signature."""
    stops = "cancel" in inspect.signature(method).parameters

    @functools.wraps(method)
    async def call(self: Any, *arguments: Any, **keywords: Any) -> Any:
        blocking = functools.partial(getattr(self._opened, method.__name__), *arguments)
        if stops:
            return await self._calls.work(lambda fitted: blocking(**fitted), keywords)

        def stopped_from_outside(stop: Stop) -> Any:
            with cancelled_by(stop):
                return blocking(**keywords)

        return await self._calls.run(stopped_from_outside)

    owner = "Encoding" if method.__qualname__.startswith("Encoding.") else "Upscaler"
    summary = str(method.__doc__).partition("\n")[0]
    call.__doc__ = f"{summary}\n\nRuns :meth:`{owner}.{method.__name__}`, which says more, in a thread."
    return call


def _read(of: Any) -> property:
    """Make a property of Upscaler or Encoding one of the class that holds it."""
    return property(lambda self: of.fget(self._opened), doc=of.__doc__)


class AsyncUpscaler:
    """An :class:`Upscaler` for asyncio. Its methods have the same keywords and results, and never block the event loop.

        async with AsyncUpscaler() as upscaler:  # the model is loaded here
            large = await upscaler.upscale(photo)

    bundle, device, tile, threads, precision: as for :class:`Upscaler`.
    at_once: how many calls run at a time; others wait for their turn. Each call takes the memory of a tile, and all
        cores: with 2, a short call need not wait for a long one.

    Cancelling a task that awaits a call, as a timeout does, stops the work at the network's next operator: for the
    embedded model within half a second. The task ends when nothing of the call runs any more and nothing was written;
    one that is cancelled while files are being finished may still leave them, complete.
    `progress` is called in the event loop; an exception that it raises ends the call. Do not change an array before its
    call ends. Leaving the ``async with`` block ends calls that still run or wait, by DeviceError; no threads are left.

    Entering raises what Upscaler raises: BundleError, DeviceError, ArgumentError.
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
        self._open = functools.partial(Upscaler, bundle, device=device, tile=tile, threads=threads, precision=precision)
        self._calls = Calls(whole("at_once", at_once, least=1))
        self._upscaler: Upscaler | None = None

    async def __aenter__(self) -> AsyncUpscaler:
        def load(stop: Stop) -> None:
            with cancelled_by(stop):
                self._upscaler = self._open()

        try:
            await self._calls.run(load)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End what runs or waits, then release the model. Those calls raise DeviceError, and so do later ones."""
        await self._calls.close(lambda: None if self._upscaler is None else self._upscaler.close())

    @property
    def _opened(self) -> Upscaler:
        if self._upscaler is None:
            raise DeviceError("the model is not loaded: use the upscaler in `async with AsyncUpscaler(…) as upscaler:`")
        return self._upscaler

    bundle, scale, device, precision = map(
        _read, (Upscaler.bundle, Upscaler.scale, Upscaler.device, Upscaler.precision)
    )
    upscale, upscale_file = _awaited(Upscaler.upscale), _awaited(Upscaler.upscale_file)
    upscale_many = _awaited(Upscaler.upscale_many)
    restore, restore_file = _awaited(Upscaler.restore), _awaited(Upscaler.restore_file)
    transfer, transfer_file = _awaited(Upscaler.transfer), _awaited(Upscaler.transfer_file)
    best_of, log_likelihood = _awaited(Upscaler.best_of), _awaited(Upscaler.log_likelihood)
    _encode = _awaited(Upscaler.encode)

    async def encode(self, image: InMemoryImage | Tensor | EncodedImage, **keywords: Any) -> AsyncEncoding[Any]:
        """Compute everything that depends on the image alone: see :meth:`Upscaler.encode`."""
        return AsyncEncoding(await self._encode(image, **keywords), self._calls)

    encode.__signature__ = inspect.signature(Upscaler.encode)  # type: ignore[attr-defined]


class AsyncEncoding(Generic[ImageT]):
    """An :class:`Encoding` whose methods are coroutines. :meth:`AsyncUpscaler.encode` makes it."""

    def __init__(self, encoding: Encoding[ImageT], calls: Calls) -> None:
        self._opened = encoding
        self._calls = calls

    nbytes, tiles, kept_tiles = map(_read, (Encoding.nbytes, Encoding.tiles, Encoding.kept_tiles))
    sample, samples = _awaited(Encoding.sample), _awaited(Encoding.samples)
    mean, std, interval = map(_awaited, (Encoding.mean, Encoding.std, Encoding.interval))
    invert, decode = _awaited(Encoding.invert), _awaited(Encoding.decode)
