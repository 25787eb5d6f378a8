"""The signals that ask a command to stop. Only commands handle signals: the runtime leaves them to
its caller.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

STOPPING = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)
"""The signals that ask a command to stop: Ctrl-C, `kill`, a closed terminal, and Windows'
Ctrl-Break."""


class Interrupts:
    """The signal received so far. number: the signal's, or None. A call raises
    KeyboardInterrupt(number) if set.
    """

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
    """Hold back signals (Ctrl-C if none is named) in the block; yield what raises them. A second
    one raises at once.
    """
    interrupts = Interrupts()
    with _handled(signals or (signal.SIGINT,), interrupts.hold):
        yield interrupts
    interrupts()


@contextlib.contextmanager
def raised_interrupts(*signals: int) -> Iterator[None]:
    """Let signals raise KeyboardInterrupt(number) in the block, so that it cleans up instead of
    being killed.
    """
    with _handled(signals, _raise_interrupt):
        yield


def kept_handlers() -> contextlib.AbstractContextManager[None]:
    """Put the handlers of :data:`STOPPING` back after a block in which a library sets its own, in
    native code too.
    """
    return _handled(STOPPING, None)


@contextlib.contextmanager
def _handled(
    signals: tuple[int, ...], handler: Callable[[int, Any], None] | None
) -> Iterator[None]:
    """Handle signals in the main thread, unless they are ignored or others handle them; put all
    handlers back.
    """
    with contextlib.ExitStack() as stack:
        for number in signals if threading.current_thread() is threading.main_thread() else ():
            before = signal.getsignal(number)
            if before is not None:  # None: one of native code's, which Python cannot set
                stack.callback(signal.signal, number, before)
            if handler is not None and before in (
                signal.SIG_DFL,
                signal.default_int_handler,
                _raise_interrupt,
            ):
                signal.signal(number, handler)
        yield


def _raise_interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt(number)


def exit_status(number: int | None = None) -> int:
    """The exit status after a signal, as shells count: 128 and its number. None is Ctrl-C."""
    return 128 + (number or signal.SIGINT)
