"""The parts of `make bench`: what each answers, and how many seconds it should take on two cores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.bench import aims, competitors, growth, limit, side_by_side, startup
from benchmarks.bench.machine import one_line
from benchmarks.bench.settings import Settings


@dataclass(frozen=True)
class Part:
    """name: after --only, and in the page's markers. budget_s: on two cores, networks already made; its share of what
    all may take.
    """

    name: str
    about: str
    budget_s: int
    run: Callable[[Settings], dict[str, Any]]
    tables: Callable[[dict[str, Any]], str]


PARTS = (
    Part("side-by-side", "the network in six ways", 420, side_by_side.run, side_by_side.tables),
    Part("competitors", "what users would run instead", 150, competitors.run, competitors.tables),
    Part("limit", "how near the graphs are to what the processor can do", 90, limit.run, limit.tables),
    Part("growth", "time and memory by size, samples and threads", 210, growth.run, growth.tables),
    Part("startup", "importing, help, first picture", 30, startup.run, startup.tables),
)
AIMS = "aims"


def texts(results: dict[str, Any]) -> dict[str, str]:
    """What stands between the page's markers: the tables of each part that was measured, and the aims."""
    found = {}
    for part in PARTS:
        found[part.name] = f"Not measured yet: `make bench BENCH_ARGS='--only {part.name}'` writes this table."
        if part.name in results:
            entry = results[part.name]
            command = f"`python -m benchmarks.bench --only {part.name}`"
            foot = f"{command}, {entry['seconds'] / 60:.1f} minutes. {one_line(entry['machine'])}"
            if skipped := entry.get("skipped"):
                foot = f"Skipped, because the time was up: {'; '.join(skipped)}.\n\n{foot}"
            found[part.name] = f"{part.tables(entry['result'])}\n\n{foot}"
    found[AIMS] = aims.tables({name: entry["result"] for name, entry in results.items()})
    return found
