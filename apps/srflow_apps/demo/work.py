"""Long work of a page: it runs in a thread, tells how far it is, and stops when its page asks or goes away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from srflow_sdk.errors import CancelledError
from srflow_sdk.system.raising import stop_if_set

Work = Callable[[Callable[[int, int], None], threading.Event], Any]
"""A function of `progress` and `cancel`, as every drawing method takes them."""

State = Literal["waiting", "running", "done", "failed", "cancelled"]

_LOOK_S = 0.05  # between two looks of waiting work for whether it is cancelled


class Job:
    """Work that has begun. It waits until no other work of the same `turn` runs.

    state: how it is. fraction: how much is done, 0 to 1. result: what the work returned, once the state is "done".
    error: why it failed, once the state is "failed".
    """

    def __init__(self, work: Work, *, turn: threading.Lock) -> None:
        self._work = work
        self._turn = turn
        self._cancel = threading.Event()
        self._started = 0.0
        self.state: State = "waiting"
        self.fraction = 0.0
        self.result: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="srflow-demo-work", daemon=True)
        self._thread.start()

    @property
    def runs(self) -> bool:
        """True while it waits or runs."""
        return self.state in ("waiting", "running")

    @property
    def left_s(self) -> float | None:
        """About how many seconds are left; None: not known yet."""
        if self.state != "running" or not self.fraction:
            return None
        return (time.monotonic() - self._started) / self.fraction * (1 - self.fraction)

    def cancel(self) -> None:
        """Ask it to stop; it does before its next tile."""
        self._cancel.set()

    def join(self, timeout_s: float) -> None:
        """Wait until its thread has ended."""
        self._thread.join(timeout_s)

    def _told(self, done: int, total: int) -> None:
        self.fraction = done / total

    def _run(self) -> None:
        try:
            while not self._turn.acquire(timeout=_LOOK_S):
                stop_if_set(self._cancel)
            try:
                stop_if_set(self._cancel)
                self._started, self.state = time.monotonic(), "running"
                self.result = self._work(self._told, self._cancel)
            finally:
                self._turn.release()
        except CancelledError:
            self.state = "cancelled"
        except BaseException as error:  # whatever it is, the page gets it
            self.error = error
            self.state = "cancelled" if self._cancel.is_set() else "failed"
        else:
            self.fraction, self.state = 1.0, "done"
