"""Which checks run, in the order of their importance, within a budget of seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.bench.processes import MissingError, Worker
from benchmarks.gpu_report.rows import Report, Row, Verdict

CPU, TORCH, SDK = "cpu fp32", "torch fp16", ("tensorrt fp16", "cuda fp16", "rtx fp16")
DRAWING = "cuda-bindings"
FP16 = (TORCH, *SDK)

_DETAILS = ("conditioning", "sizes", "tau 0", "batch", "repeats", "threads")
_SDK_DETAILS = ("drawn", "plugins", "memory runs out")
_LOAD_S = 120


def order() -> Iterator[tuple[str, str]]:
    """(engine, check): first what the verdict needs, engine by engine, then the rest."""
    yield CPU, "reference"
    yield DRAWING, "drawing kernels"
    yield from ((TORCH, check) for check in ("peaks", "kernels", "latents", "flow ops"))
    yield from ((engine, check) for engine in FP16 for check in ("loading", "picture", "times"))
    yield from ((engine, check) for engine in FP16 for check in (*_DETAILS, *(_SDK_DETAILS if engine in SDK else ())))
    yield from ((TORCH, check) for check in ("training fp32", "training bf16"))
    yield from ((engine, check) for engine in ("torch fp32", "torch bf16") for check in ("picture", "times"))
    yield CPU, "largest reference"
    yield from ((engine, "largest") for engine in FP16)
    yield TORCH, "kernel times"


class Child(Protocol):
    """A process that runs checks of one engine: `benchmarks.bench.processes.Worker`."""

    def answers(self, *, limit_s: float, **job: Any) -> Iterator[dict[str, Any]]:
        """Run job["check"]: see `child.Checks.answers`."""
        ...

    def __exit__(self, *_: Any) -> None: ...


@dataclass
class Runner:
    """Runs checks, and keeps the process of the engine that ran last.

    variant: what every process is told beside its engine. start: makes a process, in so many seconds; for tests.
    """

    report: Report
    variant: Mapping[str, Any]
    budget_s: float
    say: Callable[[str], None]
    start: Callable[[Mapping[str, Any], float], Child] = lambda variant, limit_s: Worker(
        variant, module="benchmarks.gpu_report.child", load_limit_s=limit_s
    ).__enter__()
    _held: tuple[str, Child] | None = None

    def run(self) -> None:
        """Run all checks that the budget allows; the others are rows too."""
        until = time.monotonic() + self.budget_s
        waiting = list(order())
        try:
            while waiting:
                engine, check = job = waiting[0]
                if time.monotonic() >= until:
                    self._skip(waiting, f"the budget of {self.budget_s:.0f} s was used up")
                    return
                self.say(f"{engine}: {check}")
                rows = len(self.report.rows)
                lacking = self._asked(engine, check, until)
                if len(self.report.rows) > rows or not lacking:
                    waiting.pop(0)
                if lacking:
                    skipped = [each for each in waiting if each == job or _needs(each, job)]
                    waiting = [each for each in waiting if each not in skipped]
                    if not any(check == "largest" for _, check in waiting):  # then nobody needs what takes the CPU long
                        waiting = [each for each in waiting if each != (CPU, "largest reference")]
                    self._skip(skipped, lacking)
        finally:
            self._release()

    def _asked(self, engine: str, check: str, until: float) -> str:
        """Run one check and report its rows. Returns why those that need it cannot run, or an empty text."""
        lacking = ""
        try:
            if self._held is None or self._held[0] != engine:
                self._release()
                self._held = (
                    engine,
                    self.start({**self.variant, "engine": engine}, min(_LOAD_S, until - time.monotonic())),
                )
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

    def _skip(self, waiting: list[tuple[str, str]], why: str) -> None:
        """Add a row for each engine, with the names of its checks."""
        for engine in dict.fromkeys(engine for engine, _ in waiting):
            names = ", ".join(check for each, check in waiting if each == engine)
            self.report.add(Row(names, engine, why, verdict="not run"))

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held[1].__exit__(None, None, None)


def _needs(job: tuple[str, str], lacking: tuple[str, str]) -> bool:
    """Whether a job cannot run without another one."""
    engine, check = lacking
    if engine == CPU:
        return check == "reference" or job[1] == "largest"
    return _kind(job[0]) == _kind(engine)


def _kind(engine: str) -> str:
    """`torch`, or a device of the SDK: what lacks in one precision lacks in all."""
    return engine.partition(" ")[0]
