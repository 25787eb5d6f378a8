"""Runs long calls, native ones and those that wait for others, so that signals and a caller's `cancel` end them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from typing import TypeVar

_T = TypeVar("_T")
_POLL_S = 0.1
_event: ContextVar[threading.Event | None] = ContextVar("event", default=None)


@contextlib.contextmanager
def cancelled_by(event: threading.Event | None) -> Iterator[None]:
    """In this context, native calls of this thread are stopped soon after the event is set. None changes nothing."""
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
    """Return call(). In the main thread it runs in another one, so that a signal's handler can run at once.

    Python runs handlers only between its own instructions, not inside a native call. stop: makes the call return soon;
    it is called if a handler raises, for example KeyboardInterrupt, which is raised on once the call has returned, and
    once the event of :func:`cancelled_by` is set.
    """
    event = _event.get()
    if event is None and threading.current_thread() is not threading.main_thread():
        return call()  # handlers only run in the main thread
    result: Future[_T] = Future()
    # Both are used in single native steps: a signal between those of Python's own waiting would leave its locks held.
    permit = threading.Lock()
    ended: SimpleQueue[None] = SimpleQueue()

    def work(_kept: object) -> None:
        if not permit.acquire(blocking=False):
            return
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)
        for _ in range(2):  # a signal may come when the first has just been taken
            ended.put(None)

    # A second signal ends the waiting below before the call has ended: what `stop` belongs to must live until then.
    thread = threading.Thread(target=work, args=(stop,), name="srflow-run", daemon=True)
    try:
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            return call()
        wait = None if event is None else _POLL_S
        while True:
            with contextlib.suppress(Empty):
                ended.get(timeout=wait)  # a signal during join() would make Python 3.11 and 3.12 take it for ended
                break
            if event is not None and event.is_set():
                stop()
                wait = None
        thread.join()  # its end, too: the next call's thread then takes over its heap
    except BaseException:
        stop()
        if not permit.acquire(blocking=False):  # the call has begun
            ended.get()
        raise
    return result.result()


def abandonable(
    call: Callable[[], _T], *, seconds: float | None = None, grace: float = 0.0, stop: Callable[[], None] = lambda: None
) -> _T:
    """Return call(), which runs in a thread of its own and is left to itself if nobody wants to wait any longer.

    For calls that wait for others, such as a server that may never answer, and hold nothing that must be released.
    seconds: how long the call may take. grace: seconds that it still has once the event of :func:`cancelled_by` is set.
    stop: called if the call is left or fails; it should make it end.
    Raises: TimeoutError; concurrent.futures.CancelledError; what the call raises; what a signal's handler raises.
    """
    event = _event.get()
    ended: SimpleQueue[Future[_T]] = SimpleQueue()  # waited for in single native steps, as below

    def work() -> None:
        result: Future[_T] = Future()
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)
        ended.put(result)

    threading.Thread(target=work, name="srflow-ask", daemon=True).start()
    end = float("inf") if seconds is None else time.monotonic() + seconds
    cancelled = False
    try:
        while True:
            now = time.monotonic()
            if event is not None and event.is_set() and not cancelled:
                cancelled, end = True, min(end, now + grace)
            if now >= end:
                raise CancelledError if cancelled else TimeoutError
            with contextlib.suppress(Empty):
                return ended.get(timeout=min(_POLL_S, end - now)).result()
    except BaseException:
        stop()
        raise
