"""What ends work early: a caller's `cancel`, signals, and memory or threads that run out."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from srflow_sdk.errors import CancelledError, DeviceError, OutOfMemoryError

if TYPE_CHECKING:
    from concurrent.futures import Future

NO_THREADS = (
    "the system starts no more threads for this process: raise its limits (ulimit -u, a "
    "container's pids.max)"
)
NATIVE = "srflow-run"  # the name of the threads in which calls run that a signal must not wait for
_T = TypeVar("_T")
_POLL_S = 0.1
_event: ContextVar[threading.Event | None] = ContextVar("event", default=None)


class PassingError(DeviceError):
    """A device fails here and now, but may work later or in another process."""


@contextlib.contextmanager
def memory_errors_typed(what: str) -> Iterator[None]:
    """Turn a MemoryError, and a thread that does not start, into the SDK's errors.

    The message is "memory ran out {what}".
    """
    try:
        yield
    except MemoryError as error:
        raise OutOfMemoryError(f"memory ran out {what}") from error
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        raise PassingError(NO_THREADS) from error


def stop_if_set(cancel: threading.Event | None) -> None:
    """Raises: CancelledError if the caller's event is set."""
    if cancel is not None and cancel.is_set():
        raise CancelledError("cancelled by the caller")


@contextlib.contextmanager
def cancelled_by(event: threading.Event | None) -> Iterator[None]:
    """In this context, native calls of this thread are stopped soon after the event is set.

    None changes nothing.
    """
    token = _event.set(event or _event.get())
    try:
        yield
    finally:
        _event.reset(token)


def is_cancelled() -> bool:
    """True if the event of :func:`cancelled_by` is set: an error of the call is no failure then."""
    event = _event.get()
    return event is not None and event.is_set()


def interruptible(call: Callable[[], _T], *, stop: Callable[[], None]) -> _T:
    """Return call(), which a signal or the event stops at once by calling `stop`.

    Called by the main thread, it runs in another one.
    """
    event = _event.get()
    if event is None and threading.current_thread() is not threading.main_thread():
        return call()  # handlers only run in the main thread
    thread, ended = _start(call)
    # on Windows no signal ends a longer wait
    wait = None if event is None and os.name == "posix" else _POLL_S
    try:
        while True:
            with contextlib.suppress(Empty):
                result = ended.get(timeout=wait)
                break
            if event is not None and event.is_set():
                stop()
                event = None
    except BaseException:
        stop()
        thread.join()  # the signal may have come when the result was taken already
        raise
    thread.join()  # its end, too: the next call's thread then takes over its heap
    return result.result()


def abandonable(
    call: Callable[[], _T],
    *,
    seconds: float | None = None,
    grace: float = 0.0,
    stop: Callable[[], None] = lambda: None,
) -> _T:
    """Return call(), whose thread is left to itself when it takes too long.

    Args:
        seconds: How long it may take; None is any time.
        grace: How many seconds it may still take once it is cancelled.
        stop: Called if it is left, or fails.
    """
    from concurrent import futures

    event, (_, ended) = _event.get(), _start(call)
    end = math.inf if seconds is None else time.monotonic() + seconds
    late: Exception = TimeoutError()
    try:
        while (now := time.monotonic()) < end:
            if event is not None and event.is_set() and isinstance(late, TimeoutError):
                end = min(end, now + grace)
                late = futures.CancelledError()
            with contextlib.suppress(Empty):
                return ended.get(timeout=min(_POLL_S, end - now)).result()
        raise late
    except BaseException:
        stop()
        raise


def begin_in_thread(call: Callable[[], _T], stack: contextlib.ExitStack) -> Callable[[], _T]:
    """Begin a call, and return what waits for its result, once.

    When the stack's block ends, the call has ended. A signal in the main thread leaves no lock
    held, as one in an executor's `submit` may.
    """
    thread, ended = _start(call)
    stack.callback(thread.join)
    return lambda: ended.get().result()


def _start(call: Callable[[], _T]) -> tuple[threading.Thread, SimpleQueue[Future[_T]]]:
    """Start a call in a thread, and return it and the queue that gets its result.

    A signal cannot leave the queue's lock held.
    """
    from concurrent.futures import Future  # here, because --help needs none

    ended: SimpleQueue[Future[_T]] = SimpleQueue()

    def work() -> None:
        result: Future[_T] = Future()
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)
        ended.put(result)

    thread = threading.Thread(target=work, name=NATIVE, daemon=True)
    thread.start()
    return thread, ended
