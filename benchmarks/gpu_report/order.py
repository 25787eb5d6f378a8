"""Which checks run, in the order of their importance, within a budget of seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.bench.processes import MissingError, Worker
from benchmarks.gpu_report.rows import Report, Row, Verdict

CPU, NVCC, TORCH, SDK = "cpu fp32", "nvcc", "torch fp16", ("tensorrt fp16", "cuda fp16", "rtx fp16")

_BUILD_S = 3600.0
"""An export and its engines may take so long, outside of the budget: full-size engines take many minutes."""


def order() -> Iterator[tuple[str, str]]:
    """(engine, check): first what the verdict needs, engine by engine, then the rest."""
    yield CPU, "reference"
    yield NVCC, "kernels"
    yield from ((engine, check) for engine in (TORCH, *SDK) for check in ("loading", "pictures", "times"))
    yield from ((engine, "repeats") for engine in (TORCH, *SDK))
    yield from ((engine, check) for engine in SDK for check in ("plugins", "memory runs out"))


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
        """Run all checks that the budget allows; the others are rows too, one for each engine and reason."""
        until = time.monotonic() + self.budget_s
        lacking: dict[str, str] = {}
        skipped: dict[tuple[str, str], list[str]] = {}
        try:
            for engine, check in order():
                began, rows = time.monotonic(), len(self.report.rows)
                why = lacking.get(CPU) or lacking.get(engine)
                if why is None and began >= until:
                    why = f"the budget of {self.budget_s:.0f} s was used up"
                if why is None:
                    self.say(f"{engine}: {check}")
                    why = self._asked(engine, check, began + _BUILD_S if check == "loading" else until)
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

    def _asked(self, engine: str, check: str, until: float) -> str:
        """Run one check and report its rows. Returns why those that need it cannot run, or an empty text."""
        lacking = ""
        try:
            if self._held is None or self._held[0] != engine:
                self._release()
                self._held = engine, self.start({**self.variant, "engine": engine})
            for answer in self._held[1].answers(limit_s=max(1.0, until - time.monotonic()), check=check):
                if "row" in answer:
                    self.report.add(Row(**answer["row"]))
                lacking = answer.get("absent", lacking)
        except MissingError as error:
            self._release()
            verdict: Verdict = "no verdict" if time.monotonic() >= until else "wrong"
            if engine == CPU:  # which is not what is judged
                verdict, lacking = "not run", str(error)
            self.report.add(Row(check, engine, str(error), verdict=verdict))
        return lacking

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held[1].__exit__(None, None, None)
