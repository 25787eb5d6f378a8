"""Ctrl-C, and other signals that ask to stop, at safe moments only."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a command to stop: Ctrl-C, `kill`, and the terminal's end."""


class Interrupts:
    """What arrived so far. number: of the signal, or None. Calling it raises KeyboardInterrupt(number) if one did."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self) -> None:
        if self.number is not None:
            raise KeyboardInterrupt(self.number)


@contextlib.contextmanager
def deferred_interrupts(*signals: int) -> Iterator[Interrupts]:
    """Hold signals (Ctrl-C if none is named) back while the block runs, and give a function that raises them.

    An interrupt that arrives while libvips calls back into Python is printed and forgotten there: the work would go on.
    It costs no promptness: Python's own handler cannot run inside the native calls that take the time either. A second
    signal raises KeyboardInterrupt in the main thread at once, whatever it waits for; work in other threads, such as a
    tile that is being drawn, still comes to its end. Signals that are ignored or handled by someone else stay as they
    are, and so do all of them in another thread than the main one, where Python sets no handlers.
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
                if signal.getsignal(number) is default:
                    stack.callback(signal.signal, number, default)
                    signal.signal(number, remember)
        yield interrupts
    interrupts()
