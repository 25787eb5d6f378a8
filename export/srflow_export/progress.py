"""Lines of progress: who receives them, and how often they come."""

from __future__ import annotations

import time
from collections.abc import Callable

Say = Callable[[str], None]
"""Receives a line of what is done, or of progress."""

_QUIET_SECONDS = 3.0


class Progress:
    """Say, at most every three seconds, how many equal steps are done and how long is left."""

    def __init__(self, stage: str, steps: int, say: Say) -> None:
        self._stage = stage
        self._steps = steps
        self._say = say
        self._start = self._said = time.monotonic()
        self._done = 0

    def step(self) -> None:
        """Another step is done."""
        self._done += 1
        now = time.monotonic()
        if now - self._said >= _QUIET_SECONDS and self._done < self._steps:
            self._said = now
            left = (now - self._start) / self._done * (self._steps - self._done)
            self._say(f"{self._stage}: {self._done} of {self._steps}, about {left:.0f} s left")
