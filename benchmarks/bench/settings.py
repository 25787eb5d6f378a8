"""What every part is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench.worker import ROOT


@dataclass(frozen=True, kw_only=True)
class Settings:
    """quick: tiny networks and sizes, one or two runs. work: where networks and other tools are kept.

    threads: of everything that is not compared by threads. megapixels: the largest photograph of `growth`, at least
    1.05. photos: of `competitors`. say: receives lines of progress.
    """

    quick: bool = False
    threads: int = 2
    megapixels: float = 1.05
    work: Path = ROOT / "build" / "bench"
    photos: Path | None = None
    say: Callable[[str], None] = print

    @property
    def runs(self) -> int:
        """Runs that count, of what is repeated."""
        return 1 if self.quick else 3
