"""The parts of `make bench`, what each is given, and the text that stands for it in the pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench.processes import ROOT


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a part is given.

    quick: tiny networks and sizes. threads: of what is not compared by threads. work: where networks and other tools
    are kept. photos: folder of photographs for `competitors`. say: receives lines of progress.
    """

    quick: bool = False
    threads: int = 2
    work: Path = ROOT / "build" / "bench"
    photos: Path | None = None
    say: Callable[[str], None] = print

    @property
    def runs(self) -> int:
        """Runs that count, of what is repeated."""
        return 1 if self.quick else 3


PARTS = {
    "startup": "importing, help, first picture; about a minute",
    "competitors": "what users would run instead; about three minutes",
    "growth": "time and memory by size, samples and threads; about five minutes",
    "side-by-side": "the full-size network as its authors run it, and as ours; about seven minutes",
}
"""By name; the module of that name has `run(settings)` and `tables(result)`."""
