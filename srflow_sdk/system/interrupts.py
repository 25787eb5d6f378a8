"""Handles Ctrl-C, and other signals that ask to stop, at safe moments, or so that nothing is left behind."""

from __future__ import annotations

import _thread
import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a command to stop: Ctrl-C, `kill`, and a closed terminal."""

_AGAIN_S = 0.02
_put_off: list[int] = []  # the signal that waits for the end of an import


class Interrupts:
    """The signal received so far. number: the signal's, or None. A call raises KeyboardInterrupt(number) if set."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self) -> None:
        if self.number is not None:
            raise KeyboardInterrupt(self.number)


@contextlib.contextmanager
def deferred_interrupts(*signals: int) -> Iterator[Interrupts]:
    """Hold back signals (Ctrl-C if none is named) while the block runs, and yield a function that raises them.

    An interrupt that arrives while libvips calls back into Python would be printed and lost, and the work would go on.
    A second signal raises KeyboardInterrupt in the main thread at once, whatever it waits for. Signals that are ignored
    or already handled are left alone, and outside the main thread all signals are, because Python cannot set handlers
    there. Those that :func:`raised_interrupts` handles are taken over.
    """
    interrupts = Interrupts()

    def remember(number: int, frame: Any) -> None:
        if interrupts.number is not None:
            raise KeyboardInterrupt(number)
        interrupts.number = number

    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in signals or (signal.SIGINT,):
                default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                before = signal.getsignal(number)
                if before in (default, _raise_interrupt):
                    stack.callback(signal.signal, number, before)
                    signal.signal(number, remember)
        yield interrupts
    interrupts()


@contextlib.contextmanager
def raised_interrupts(*signals: int) -> Iterator[None]:
    """Let signals raise KeyboardInterrupt(number) while the block runs, so that it cleans up instead of being killed.

    One that arrives during an import is raised after it: native modules would report it as a failure of their own, and
    stay half initialised. Signals that are ignored or already handled are left alone, and outside the main thread all
    signals are.
    """
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in signals:
                before = signal.getsignal(number)
                if before in (signal.SIG_DFL, signal.default_int_handler):
                    stack.callback(signal.signal, number, before)
                    signal.signal(number, _raise_interrupt)
        try:
            yield
        finally:
            if _put_off and threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt(_put_off.pop())


def exit_status(number: int | None = None) -> int:
    """The exit status after a signal, as shells count: 128 and its number. None is Ctrl-C, 130."""
    return 128 + (number or signal.SIGINT)


@contextlib.contextmanager
def kept_handlers() -> Iterator[None]:
    """Put the handlers of :data:`STOPPING` back after a block in which a library sets its own, in native code too.

    Outside the main thread nothing is put back: Python cannot set handlers there.
    """
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:  # None: one of native code's, which Python cannot set
                    signal.signal(number, handler)


def _raise_interrupt(number: int, frame: FrameType | None) -> None:
    if _imports(frame):
        if _put_off:
            return
        _put_off.append(number)
        with contextlib.suppress(RuntimeError):  # the system has no thread left
            _thread.start_new_thread(_send_again, ())  # threading's own would take locks, which the import may hold
            return
    _put_off.clear()
    raise KeyboardInterrupt(number)


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _send_again() -> None:
    time.sleep(_AGAIN_S)
    try:
        number = _put_off.pop()
    except IndexError:  # raised meanwhile
        return
    if hasattr(signal, "pthread_kill"):  # it also ends what the main thread waits for
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        signal.raise_signal(number)
