"""Handles Ctrl-C, and other signals that ask to stop, at safe moments, or so that nothing is left behind."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a command to stop: Ctrl-C, `kill`, and a closed terminal."""

_raised: list[int] = []  # by raised_interrupts, and not seen by its block's end yet


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

    with _handled(signals or (signal.SIGINT,), remember) as in_main_thread:
        if _raised and in_main_thread:  # an import took it for its own failure, and somebody did without that module
            interrupts.number = _raised.pop()
        yield interrupts
    interrupts()


@contextlib.contextmanager
def raised_interrupts(*signals: int) -> Iterator[None]:
    """Let signals raise KeyboardInterrupt(number) while the block runs, so that it cleans up instead of being killed.

    Native modules report one that arrives while they are imported as a failure of their own: it is raised at the end
    of the block then. Signals that are ignored or already handled are left alone, and outside the main thread all
    signals are.
    """
    with _handled(signals, _raise_interrupt) as in_main_thread:
        try:
            yield
        except KeyboardInterrupt:
            _raised.clear()
            raise
        finally:
            if _raised and in_main_thread:
                raise KeyboardInterrupt(_raised.pop())


@contextlib.contextmanager
def _handled(signals: Sequence[int], handler: Callable[[int, Any], None]) -> Iterator[bool]:
    """Handle signals so in the main thread, which the block is told; others' handlers and ignored signals stay."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    with contextlib.ExitStack() as stack:
        for number in signals if in_main_thread else ():
            before = signal.getsignal(number)
            if before in (signal.SIG_DFL, signal.default_int_handler, _raise_interrupt) and before != handler:
                stack.callback(signal.signal, number, before)
                signal.signal(number, handler)
        yield in_main_thread


def exit_status(number: int | None = None) -> int:
    """The exit status after a signal, as shells count: 128 and its number. None is Ctrl-C, 130."""
    return 128 + (number or signal.SIGINT)


@contextlib.contextmanager
def kept_handlers() -> Iterator[None]:
    """Put the handlers of :data:`STOPPING` back after a block in which a library sets its own, in native code too.

    Outside the main thread nothing is put back: Python cannot set handlers there.
    """
    with contextlib.ExitStack() as stack:
        for number in STOPPING if threading.current_thread() is threading.main_thread() else ():
            handler = signal.getsignal(number)
            if handler is not None:  # None: one of native code's, which Python cannot set
                stack.callback(signal.signal, number, handler)
        yield


def _raise_interrupt(number: int, frame: Any) -> None:
    _raised[:] = [number]
    raise KeyboardInterrupt(number)
