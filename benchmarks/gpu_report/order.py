"""Which checks run, in the order of their importance, within a budget of seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.bench.worker import MissingError, Worker
from benchmarks.gpu_report.rows import Report, Row, Verdict

CPU, TORCH, SDK = "cpu fp32", "torch fp16", ("tensorrt fp16", "cuda fp16", "rtx fp16")
FP16 = (TORCH, *SDK)

_DETAILS = ("conditioning", "sizes", "tau 0", "batch", "repeats", "threads", "plugins", "memory runs out")


def order() -> Iterator[tuple[str, str]]:
    """(engine, check): first what the verdict needs, engine by engine, then the rest."""
    yield CPU, "reference"
    yield from ((TORCH, check) for check in ("peaks", "kernels", "latents", "flow ops"))
    yield from ((engine, check) for engine in FP16 for check in ("loading", "picture", "times"))
    yield from ((engine, check) for engine in FP16 for check in _DETAILS)
    yield from ((TORCH, check) for check in ("training fp32", "training bf16"))
    yield from ((engine, check) for engine in ("torch fp32", "torch bf16") for check in ("picture", "times"))
    yield CPU, "largest reference"
    yield from ((engine, "largest") for engine in FP16)
    yield TORCH, "kernel times"


class Child(Protocol):
    """A process that runs checks of one engine: `benchmarks.bench.worker.Worker`."""

    def run(self, *, limit_s: float, **job: Any) -> dict[str, Any]:
        """Run job["check"]: {"rows": fields of rows}, and {"absent": why} if the engine cannot be used."""
        ...

    def __exit__(self, *_: Any) -> None: ...


@dataclass
class Runner:
    """Runs checks, and keeps the process of the engine that ran last.

    variant: what every process is told beside its engine. start: makes a process, for tests.
    """

    report: Report
    variant: Mapping[str, Any]
    budget_s: float
    say: Callable[[str], None]
    start: Callable[[Mapping[str, Any]], Child] = lambda variant: Worker(
        variant, module="benchmarks.gpu_report.child"
    ).__enter__()
    _held: tuple[str, Child] | None = None

    def run(self) -> None:
        """Run all checks that the budget allows; the others are rows too."""
        until = time.monotonic() + self.budget_s
        waiting = list(order())
        try:
            while waiting:
                engine, check = waiting[0]
                if time.monotonic() >= until:
                    self._skip(waiting, f"the budget of {self.budget_s:.0f} s was used up")
                    return
                self.say(f"{engine}: {check}")
                rows, lacking = self._asked(engine, check, until)
                for row in rows:
                    self.report.add(row)
                if rows or not lacking:
                    waiting.pop(0)
                if lacking:
                    skipped = [each for each in waiting if engine == CPU or _kind(each[0]) == _kind(engine)]
                    waiting = [each for each in waiting if each not in skipped]
                    if not any(check == "largest" for _, check in waiting):  # then nobody needs what takes the CPU long
                        waiting = [each for each in waiting if each != (CPU, "largest reference")]
                    self._skip(skipped, lacking)
        finally:
            self._release()

    def _asked(self, engine: str, check: str, until: float) -> tuple[list[Row], str]:
        """Run one check: its rows, and why the engine cannot be used any more, or an empty text."""
        try:
            if self._held is None or self._held[0] != engine:
                self._release()
                self._held = engine, self.start({**self.variant, "engine": engine})
            answer = self._held[1].run(limit_s=max(1.0, until - time.monotonic()), check=check)
        except MissingError as error:
            self._release()
            verdict: Verdict = "not run" if time.monotonic() >= until else "wrong"
            return [Row(check, engine, str(error), verdict=verdict)], str(error) if engine == CPU else ""
        return [Row(**row) for row in answer.get("rows", ())], answer.get("absent", "")

    def _skip(self, waiting: list[tuple[str, str]], why: str) -> None:
        """Add a row for each engine, with the names of its checks."""
        for engine in dict.fromkeys(engine for engine, _ in waiting):
            names = ", ".join(check for each, check in waiting if each == engine)
            self.report.add(Row(names, engine, why, verdict="not run"))

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held[1].__exit__(None, None, None)


def _kind(engine: str) -> str:
    """`torch`, or a device of the SDK: what lacks in one precision lacks in all."""
    return engine.partition(" ")[0]
