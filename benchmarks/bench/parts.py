"""The parts of `make bench`: what each is given, and its text in the pages of docs/.

A part's text stands between two markers, on one of PAGES; docs/performance.json has what all are
made of.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench.machine import one_line
from benchmarks.bench.processes import ROOT

PARTS = {
    "startup": "importing, help, first picture; about a minute",
    "competitors": "what users would run instead; about three minutes",
    "growth": "time and memory by size, samples and threads; about five minutes",
    "side-by-side": "the full-size network as its authors run it, and as ours; about seven minutes",
}
"""By name; the module of that name has `run(settings)` and `tables(result)`."""

PAGES = (ROOT / "docs" / "performance.md", ROOT / "docs" / "notes" / "speed.md")
_PART = re.compile(
    r"(<!-- make bench: (?P<name>[\w-]+) -->\n)(?P<text>.*?)(\n?<!-- end of (?P=name) -->)",
    re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a part is given.

    Attributes:
        quick: tiny networks and sizes.
        threads: of what is not compared by threads.
        work: where networks and other tools are kept.
        photos: folder of photographs for `competitors`.
        say: receives lines of progress.
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


def module(name: str) -> Any:
    """The module of a part."""
    return importlib.import_module(f"benchmarks.bench.{name.replace('-', '_')}")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; a | in a cell would end it, so it becomes a /."""
    lines = [head, *rows]
    if any(len(line) != len(head) for line in lines):
        raise ValueError("every row needs as many cells as the head")
    text = [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]
    return "\n".join([text[0], "|---" * len(head) + "|", *text[1:]])


def texts(results: Mapping[str, Any]) -> dict[str, str]:
    """What stands between the markers: the tables of each part, and how they were measured."""
    written = {}
    for name in PARTS:
        written[name] = (
            f"Not measured yet: `make bench BENCH_ARGS='--only {name}'` writes this table."
        )
        if name in results:
            machine = one_line(results[name]["machine"])
            foot = f"`python -m benchmarks.bench --only {name}`. {machine}"
            written[name] = f"{module(name).tables(results[name]['result'])}\n\n{foot}"
    return written


def find_parts(page: str) -> dict[str, str]:
    """What stands between the markers, by name."""
    return {match["name"]: match["text"] for match in _PART.finditer(page)}


def write_parts(written: Mapping[str, str], pages: Sequence[Path] = PAGES) -> None:
    """Write texts into the pages, or end the program if a part has no markers."""
    sources = {page: page.read_text(encoding="utf-8") for page in pages}
    for name in written:
        if not any(name in find_parts(source) for source in sources.values()):
            names = " or ".join(page.name for page in pages)
            markers = f'"<!-- make bench: {name} -->" and "<!-- end of {name} -->"'
            raise SystemExit(
                f"error: no lines {markers} in {names}: add both where the tables should stand"
            )
    for page, source in sources.items():
        page.write_text(
            _PART.sub(
                lambda match: (
                    f"{match[1]}{written.get(match['name'], match['text'])}\n{match[4].lstrip()}"
                ),
                source,
            ),
            encoding="utf-8",
        )


def read_results(path: Path) -> dict[str, Any]:
    """Results by part; empty if there is no file yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write figures of six digits: more would be noise in every commit."""
    rounded = json.loads(json.dumps(results), parse_float=lambda text: float(f"{float(text):.6g}"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rounded, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
