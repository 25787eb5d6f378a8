"""Ctrl-C at safe moments only."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C back while the block runs, and give a function that raises KeyboardInterrupt if it was pressed.

    An interrupt that arrives while libvips calls back into Python is printed and forgotten there: the work would go on.
    It costs no promptness: Python's own handler cannot run inside the native calls that take the time either. A second
    Ctrl-C interrupts at once. Where interrupts are ignored or handled by someone else, that stays as it is.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: None
        return
    pressed = False

    def remember(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            signal.default_int_handler(number, frame)
        pressed = True

    def raise_if_pressed() -> None:
        if pressed:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, remember)
    try:
        yield raise_if_pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    raise_if_pressed()
