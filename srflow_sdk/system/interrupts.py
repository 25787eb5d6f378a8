"""Ends work early: signals that ask to stop, a caller's `cancel`, and native calls that must hear of both."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a command to stop: Ctrl-C, `kill`, and a closed terminal."""

NATIVE = "srflow-run"  # the name of the threads in which calls run that a signal must not wait for
_T = TypeVar("_T")
_POLL_S = 0.1
_raised: list[int] = []  # the last signal: a native module that it hits while it is imported forgets the number
_event: ContextVar[threading.Event | None] = ContextVar("event", default=None)


class Interrupts:
    """The signal received so far. number: the signal's, or None. A call raises KeyboardInterrupt(number) if set."""

    number: int | None = None

    def __call__(self) -> None:
        if self.number is not None:
            raise KeyboardInterrupt(self.number)

    def hold(self, number: int, frame: Any) -> None:
        """Remember a signal; raise KeyboardInterrupt for a second one."""
        self()
        self.number = number


@contextlib.contextmanager
def deferred_interrupts(*signals: int) -> Iterator[Interrupts]:
    """Hold back signals (Ctrl-C if none is named) in the block; yield what raises them. A second one raises at once."""
    interrupts = Interrupts()
    with _handled(signals or (signal.SIGINT,), interrupts.hold):
        yield interrupts
    interrupts()


@contextlib.contextmanager
def raised_interrupts(*signals: int) -> Iterator[None]:
    """Let signals raise KeyboardInterrupt(number) in the block, so that it cleans up instead of being killed."""
    _raised.clear()
    with _handled(signals, _raise_interrupt):
        yield


def kept_handlers() -> contextlib.AbstractContextManager[None]:
    """Put the handlers of :data:`STOPPING` back after a block in which a library sets its own, in native code too."""
    return _handled(STOPPING, None)


@contextlib.contextmanager
def _handled(signals: tuple[int, ...], handler: Callable[[int, Any], None] | None) -> Iterator[None]:
    """Handle signals in the main thread, unless they are ignored or others handle them; put all handlers back."""
    with contextlib.ExitStack() as stack:
        for number in signals if threading.current_thread() is threading.main_thread() else ():
            before = signal.getsignal(number)
            if before is not None:  # None: one of native code's, which Python cannot set
                stack.callback(signal.signal, number, before)
            if handler is not None and before in (signal.SIG_DFL, signal.default_int_handler, _raise_interrupt):
                signal.signal(number, handler)
        yield


def _raise_interrupt(number: int, frame: Any) -> None:
    _raised[:] = [number]
    raise KeyboardInterrupt(number)


def exit_status(number: int | None = None) -> int:
    """The exit status after a signal, as shells count: 128 and its number. None is the last one raised, or Ctrl-C."""
    return 128 + (number or (_raised or [signal.SIGINT])[0])


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
    """Return call(), in another thread for the main one, so that a signal, or the event, calls `stop` at once."""
    event = _event.get()
    if event is None and threading.current_thread() is not threading.main_thread():
        return call()  # handlers only run in the main thread
    try:
        thread, ended = _begun(call)
    except RuntimeError:  # the system has no thread left
        return call()
    wait = None if event is None else _POLL_S
    try:
        while True:
            with contextlib.suppress(Empty):
                result = ended.get(timeout=wait)
                break
            if event is not None and event.is_set():
                stop()
                wait = None
    except BaseException:
        stop()
        ended.get()
        raise
    thread.join()  # its end, too: the next call's thread then takes over its heap
    return result.result()


def abandonable(
    call: Callable[[], _T], *, seconds: float | None = None, grace: float = 0.0, stop: Callable[[], None] = lambda: None
) -> _T:
    """Return call(), whose thread is left to itself after `seconds`, or `grace` seconds after it was cancelled."""
    from concurrent.futures import CancelledError

    event, (_, ended) = _event.get(), _begun(call)
    end = math.inf if seconds is None else time.monotonic() + seconds
    late: Exception = TimeoutError()
    try:
        while (now := time.monotonic()) < end:
            if event is not None and event.is_set() and not isinstance(late, CancelledError):
                end, late = min(end, now + grace), CancelledError()
            with contextlib.suppress(Empty):
                return ended.get(timeout=min(_POLL_S, end - now)).result()
        raise late
    except BaseException:
        stop()
        raise


def _begun(call: Callable[[], _T]) -> tuple[threading.Thread, SimpleQueue[Future[_T]]]:
    """A thread that makes a call, and the queue that gets its result: a signal cannot leave that one's lock held."""
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
