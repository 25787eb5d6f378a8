"""Progress as lines, for where no bar can be drawn: a log, a pipe, a service."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

FIRST_AFTER_S = 2.0
THEN_EVERY_S = 10.0


class ProgressLines:
    """Says how far a run is, 2 s after it began and then every 10 s; shorter runs stay silent.

    A context manager, with what :class:`srflow_apps.batch.display.Display` uses of click's progress bar.

    say: prints a line; called from a thread. label: what is being done. length: the run's work, in any unit, 0 while
    that is not known. clock: the time in seconds.
    """

    def __init__(self, say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.label = "preparing"
        self.length = 0
        self._say = say
        self._clock = clock
        self._begun = clock()
        self._done = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="srflow-progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def begin(self, *, length: int, label: str) -> None:
        """Begin the work whose time is estimated."""
        self.label, self.length, self._done = label, length, 0
        self._begun = self._clock()

    def update(self, step: int) -> None:
        """Count work that was done."""
        self._done += step

    def render_progress(self) -> None:
        """Do nothing: lines come by the clock."""

    def render_finish(self) -> None:
        """Stop saying how far the run is."""
        self._ended.set()

    def line(self) -> str:
        """The current work, how much of everything is done, and about how long the rest takes."""
        if self.length <= 0:
            return self.label
        text = f"{self.label}, {100 * self._done // self.length}%"
        if 100 * self._done < self.length:  # a first small picture says little about the rest
            return text
        left = round((self._clock() - self._begun) * (self.length - self._done) / self._done)
        return f"{text}, about {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"

    def _run(self) -> None:
        pause = FIRST_AFTER_S
        while not self._ended.wait(pause):
            self._say(self.line())
            pause = THEN_EVERY_S
