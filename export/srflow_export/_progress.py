"""Lines of progress for stages that take long."""

from __future__ import annotations

import time
from collections.abc import Callable

_QUIET_SECONDS = 3.0


class Progress:
    """Say, at most every three seconds, how many equal steps of a stage are done and how long the rest will take."""

    def __init__(self, stage: str, steps: int, say: Callable[[str], None]) -> None:
        self._stage, self._steps, self._say = stage, steps, say
        self._begun = self._said = time.monotonic()
        self._done = 0

    def step(self) -> None:
        """Another step is done."""
        self._done += 1
        now = time.monotonic()
        if now - self._said >= _QUIET_SECONDS and self._done < self._steps:
            self._said = now
            left = (now - self._begun) / self._done * (self._steps - self._done)
            self._say(f"{self._stage}: {self._done} of {self._steps}, about {left:.0f} s left")
