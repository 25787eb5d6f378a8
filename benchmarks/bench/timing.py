"""Repeated times: their median and spread, and calls in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

LONG_S = 8.0
"""A first run that takes longer is not repeated: what a first run adds is then small beside it."""

_Name = TypeVar("_Name")


@dataclass(frozen=True)
class Times:
    """Seconds of the runs that count, in their order; at least one."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """(slowest - fastest) / median; 0 for one run."""
        return (max(self.seconds) - min(self.seconds)) / self.median

    def __str__(self) -> str:
        """`0.857 s ± 3 %`: the median, and half of the spread; without it for one run."""
        text = f"{self.median:.3g} s" if self.median < 100 else f"{self.median:.0f} s"
        return (
            text if len(self.seconds) == 1 else f"{text} ± {self.spread / 2:.0%}".replace("%", " %")
        )


def measure_seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def call_in_turn(calls: Mapping[_Name, Callable[[], float]], *, runs: int) -> dict[_Name, Times]:
    """Make each call once as a warm-up, then all of them in turn, `runs` times.

    A call returns its own seconds.
    """
    first = {name: call() for name, call in calls.items()}
    taken: dict[_Name, list[float]] = {
        name: [first[name]] if first[name] > LONG_S else [] for name in calls
    }
    short = [name for name in calls if not taken[name]]
    for _ in range(runs):
        for name in short:
            taken[name].append(calls[name]())
    return {name: Times(tuple(seconds)) for name, seconds in taken.items()}


def paired_ratio(slow: Times, fast: Times) -> float:
    """Median of the ratios of paired runs; the ratio of medians if one has fewer runs."""
    if len(slow.seconds) != len(fast.seconds):
        return slow.median / fast.median
    return statistics.median(a / b for a, b in zip(slow.seconds, fast.seconds, strict=True))
