"""Blocking calls in threads for coroutines: they end soon after their tasks are cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from srflow_sdk.drawing.requests import DrawOptions
from srflow_sdk.errors import CancelledError, DeviceError
from srflow_sdk.system.raising import memory_errors_typed

_T = TypeVar("_T")


class Stop(threading.Event):
    """Counts as set once it is, or the event that the caller passed."""

    def __init__(self, other: threading.Event | None = None) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or (self._other is not None and self._other.is_set())


class Calls:
    """Blocking calls in threads, a few at a time, each of which ends soon after its task is cancelled."""

    def __init__(self, at_once: int) -> None:
        self._turn = asyncio.Semaphore(at_once)
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="srflow-async")
        self._running: dict[asyncio.Future[Any], Stop] = {}
        self._inside = 0  # calls that wait or run
        self._closed = False

    async def work(self, call: Callable[[Any], _T], keywords: Mapping[str, Any]) -> _T:
        """Run a method that takes `progress` and `cancel`: `call` gets the keywords, with these two made to fit."""
        options = DrawOptions(progress=keywords.get("progress"), cancel=keywords.get("cancel"))  # checks them
        loop, errors = asyncio.get_running_loop(), list[Exception]()

        def tell(stop: Stop, done: int, total: int) -> None:
            if options.progress is not None and not stop.is_set():
                try:
                    options.progress(done, total)
                except Exception as error:
                    errors.append(error)
                    stop.set()

        def work(stop: Stop) -> _T:
            def progress(done: int, total: int) -> None:
                loop.call_soon_threadsafe(tell, stop, done, total)

            return call({**keywords, "progress": options.progress and progress, "cancel": stop})

        try:
            return await self.run(work, cancel=options.cancel)
        finally:
            if errors:
                raise errors[0]

    async def run(self, call: Callable[[Stop], _T], *, cancel: threading.Event | None = None) -> _T:
        """Wait for a turn, and then for the call, which must end soon after its argument is set.

        Raises: DeviceError if the calls are closed, also while it waits or runs.
        """
        self._inside += 1
        try:
            async with self._turn:
                return await self._run(call, Stop(cancel))
        except CancelledError as error:
            if self._closed and not (cancel is not None and cancel.is_set()):
                raise _closed() from error
            raise
        finally:
            self._inside -= 1

    async def _run(self, call: Callable[[Stop], _T], stop: Stop) -> _T:
        if self._closed:
            raise _closed()
        with memory_errors_typed("before the call began"):
            ended = asyncio.get_running_loop().run_in_executor(self._pool, contextvars.copy_context().run, call, stop)
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
        while self._inside:  # they end in turn; a loop that ended before them would cancel them
            await asyncio.sleep(0)
        self._pool.shutdown()  # its threads have nothing to do: this takes no time


def _closed() -> DeviceError:
    return DeviceError("the upscaler is closed; await its calls before its `async with` block ends")


async def _end_of(future: asyncio.Future[Any]) -> None:
    """Wait for the end of a call, even if the task is cancelled again, and drop its error."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    future.exception()
