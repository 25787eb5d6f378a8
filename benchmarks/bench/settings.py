"""What every part is given."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bench.networks import PRESETS
from benchmarks.bench.worker import ROOT


@dataclass(kw_only=True)
class Allowance:
    """How long a part may take. What has begun ends; what has not is skipped and named.

    until: of time.monotonic(). skipped: what was not measured. not_counted: seconds of what is made only once.
    """

    until: float = math.inf
    skipped: list[str] = field(default_factory=list)
    not_counted: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """quick: tiny networks and sizes, one or two runs. work: where networks and other tools are kept.

    threads: of everything that is not compared by threads. megapixels: the photograph that checks the lines of
    `growth`, at least 0.3. photos: of `competitors`. networks: of `side_by_side`, names of `networks.PRESETS`.
    allowance: of this part. say: receives lines of progress.
    """

    quick: bool = False
    threads: int = 2
    megapixels: float = 1.05
    work: Path = ROOT / "build" / "bench"
    photos: Path | None = None
    networks: tuple[str, ...] = tuple(PRESETS)
    allowance: Allowance = field(default_factory=Allowance)
    say: Callable[[str], None] = print

    @property
    def runs(self) -> int:
        """Runs that count, of what is repeated."""
        return 1 if self.quick else 3

    def skips(self, what: str) -> bool:
        """Whether there is no time left for something, which is then named."""
        if time.monotonic() < self.allowance.until:
            return False
        self.allowance.skipped.append(what)
        self.say(f"skipped, because the time is up: {what}")
        return True

    @contextlib.contextmanager
    def not_counted(self) -> Iterator[None]:
        """What is made only once, such as networks, takes none of the allowance."""
        began = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - began
            self.allowance.until += took
            self.allowance.not_counted += took
