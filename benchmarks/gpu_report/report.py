"""Rows, the file that grows by one for each, their verdict, and the order of the checks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from benchmarks.bench.processes import MissingError, Worker

Verdict = Literal["", "fine", "wrong", "slow", "not run", "no verdict"]

FINE = 0
WRONG = 1
NO_VERDICT = 2
SLOW = 3
"""Exit statuses."""

# of 256×256 LR in fp16 on an H100
PICTURE_MS = 15.0
FURTHER_MS = 3.0
PICTURE = "one picture"
FURTHER = "a further sample"
"""The rows that the times are judged by."""

CPU = "cpu fp32"
NVCC = "nvcc"
TORCH = "torch fp16"
SDK = ("tensorrt fp16", "cuda fp16", "rtx fp16")
EMBEDDED = "cuda x4-small"  # as most people have it

_BUILD_S = 3600.0
"""An export and its engines may take so long, outside of the budget: full-size engines take many
minutes."""

_COLUMNS = ("check", "engine", "value", "limit", "verdict")


@dataclass(frozen=True)
class Row:
    """What a check found.

    verdict: "" for what is only measured, "no verdict" if the budget ended it. value: for people;
    if it was not run, why. figure: milliseconds, of rows that are compared between engines.
    """

    check: str
    engine: str
    value: str
    limit: str = ""
    verdict: Verdict = ""
    figure: float | None = None

    def __str__(self) -> str:
        skipped = self.verdict == "not run"
        value, verdict = ("", f"not run: {self.value}") if skipped else (self.value, self.verdict)
        if self.verdict in ("wrong", "slow", "no verdict"):
            verdict = f"**{verdict}**"
        return _line((self.check, self.engine, value, self.limit, verdict))


class Report:
    """The file: Markdown with a table, to which each row is added at once.

    It is replaced when the report begins. `rows` has all rows so far.
    """

    def __init__(self, target: Path, head: str) -> None:
        self.rows: list[Row] = []
        self._target = target
        target.parent.mkdir(parents=True, exist_ok=True)
        table = f"{_line(_COLUMNS)}\n{'|---' * len(_COLUMNS)}|\n"
        target.write_text(f"# GPU report\n\n{head}\n\n{table}", encoding="utf-8")

    def add(self, row: Row) -> None:
        """Append a row."""
        self.rows.append(row)
        self.append(f"{row}\n")

    def append(self, text: str) -> None:
        """Append text."""
        with self._target.open("a", encoding="utf-8") as file:
            file.write(text)


def judge_aims(rows: Sequence[Row]) -> Iterator[Row]:
    """The two aims, judged by the fastest engine of the full-size network that was timed."""
    for what, most in ((PICTURE, PICTURE_MS), (FURTHER, FURTHER_MS)):
        name = f"aim: {what}"
        limit = f"≤ {most:g} ms"
        full_size = [row for row in rows if row.engine != EMBEDDED]
        timed = [
            (row.figure, row.engine)
            for row in full_size
            if row.check.startswith(what) and row.figure is not None
        ]
        if not timed:
            yield Row(name, "", "no engine was timed", limit, "not run")
            continue
        figure, engine = min(timed)
        value = f"{'reached' if figure <= most else 'not reached'}: {figure:.1f} ms"
        yield Row(name, engine, value, limit, "fine" if figure <= most else "slow", figure)


def exit_status(rows: Sequence[Row]) -> int:
    """WRONG before SLOW before NO_VERDICT.

    The last: an aim was not judged, a check did not end, or none ended well.
    """
    verdicts = {row.verdict for row in rows}
    if "wrong" in verdicts:
        return WRONG
    if "slow" in verdicts:
        return SLOW
    unjudged = any(row.check.startswith("aim: ") and row.verdict == "not run" for row in rows)
    return NO_VERDICT if unjudged or "no verdict" in verdicts or "fine" not in verdicts else FINE


def summarise(rows: Sequence[Row]) -> str:
    """The last line of the file, and of what is printed."""
    words = {FINE: "fine", WRONG: "wrong", NO_VERDICT: "no verdict", SLOW: "slow"}
    counts = Counter(row.verdict for row in rows)
    sums = ", ".join(f"{counts[verdict]} {verdict}" for verdict in get_args(Verdict) if verdict)
    reached = "; ".join(
        f"{row.check.removeprefix('aim: ')} {row.value}"
        for row in rows
        if row.check.startswith("aim")
    )
    return (
        f"Verdict: {words[exit_status(rows)]}. {f'{reached}. ' if reached else ''}Checks: {sums}."
    )


def _line(cells: Sequence[str]) -> str:
    clean = (" ".join(cell.replace("|", "/").split()) for cell in cells)
    return f"| {' | '.join(clean)} |"


def order_checks() -> Iterator[tuple[str, str]]:
    """(engine, check): first what most people have and the verdict needs, then the rest."""
    yield from ((EMBEDDED, check) for check in ("loading", "pictures", "times", "repeats"))
    yield CPU, "reference"
    yield NVCC, "kernels"
    yield from (
        (engine, check) for engine in (TORCH, *SDK) for check in ("loading", "pictures", "times")
    )
    yield from ((engine, "repeats") for engine in (TORCH, *SDK))
    yield SDK[0], "plugins"


@dataclass
class Runner:
    """Runs checks, and keeps the process of the engine that ran last.

    variant: what every process is told beside its engine. start: makes a process; for tests.
    """

    report: Report
    variant: Mapping[str, Any]
    budget_s: float
    say: Callable[[str], None]
    start: Callable[[Mapping[str, Any]], Worker] = lambda variant: Worker(
        variant, module="benchmarks.gpu_report.checks"
    ).__enter__()
    _held: tuple[str, Worker] | None = None

    def run(self) -> None:
        """Run all checks that the budget allows; the others are rows too."""
        until = time.monotonic() + self.budget_s
        lacking: dict[str, str] = {}
        skipped: dict[tuple[str, str], list[str]] = {}
        try:
            for engine, check in order_checks():
                began = time.monotonic()
                rows = len(self.report.rows)
                why = lacking.get(CPU) or lacking.get(engine)
                if why is None and began >= until:
                    why = f"the budget of {self.budget_s:.0f} s was used up"
                if why is None:
                    self.say(f"{engine}: {check}")
                    why = self._run_check(
                        engine, check, began + _BUILD_S if check == "loading" else until
                    )
                    if check == "loading":
                        until += time.monotonic() - began
                    if why:
                        lacking[engine] = why
                if why and len(self.report.rows) == rows:
                    skipped.setdefault((engine, why), []).append(check)
        finally:
            self._release()
            for (engine, why), checks in skipped.items():
                self.report.add(Row(", ".join(checks), engine, why, verdict="not run"))

    def _run_check(self, engine: str, check: str, until: float) -> str:
        """Run one check and report its rows; returns why others cannot run, or an empty text."""
        lacking = ""
        try:
            if self._held is None or self._held[0] != engine:
                self._release()
                self._held = engine, self.start({**self.variant, "engine": engine})
            for answer in self._held[1].ask(
                limit_s=max(1.0, until - time.monotonic()), check=check
            ):
                if "row" in answer:
                    self.report.add(Row(**answer["row"]))
                lacking = answer.get("absent", lacking)
        except MissingError as error:
            self._release()
            verdict: Verdict = "no verdict" if time.monotonic() >= until else "wrong"
            if engine == CPU:  # which is not what is judged
                verdict = "not run"
                lacking = str(error)
            self.report.add(Row(check, engine, str(error), verdict=verdict))
        return lacking

    def _release(self) -> None:
        held = self._held
        self._held = None
        if held is not None:
            held[1].__exit__(None, None, None)
