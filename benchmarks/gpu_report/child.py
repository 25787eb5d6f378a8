"""The process in which the checks of one engine run: `python -m benchmarks.gpu_report.child`, see `order.py`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.bench.processes import serve, without_paths
from benchmarks.gpu_report.checks import CHECKS, Opened
from benchmarks.gpu_report.engines import AbsentError, LackingError, Setting, Warnings
from benchmarks.gpu_report.network import allow_bare_machines
from benchmarks.gpu_report.order import SDK
from benchmarks.gpu_report.rows import Row, Verdict

_FIRST = ("reference", "largest reference", "loading")
"""Without them, those that need them can only fail for the same reason."""


class Checks:
    """Answers {"check": NAME} with the rows of that check."""

    disk_bytes = 0

    def __init__(self, variant: Mapping[str, Any]) -> None:
        self.runs_on: str = variant["engine"]
        if self.runs_on not in SDK:
            allow_bare_machines()
        self._setting = Setting(self.runs_on, Path(variant["work"]), quick=variant["quick"], size=variant["size"])
        self._open = Opened()
        self._warned: set[str] = set()

    def prepare(self, job: Mapping[str, Any]) -> Callable[[], Iterator[dict[str, Any]]]:
        """The work of a job."""
        return lambda: self.answers(job["check"])

    def answers(self, check: str) -> Iterator[dict[str, Any]]:
        """{"row": fields} as each row is known, and {"absent": why} if no check that needs this one can run.

        What a check raises is a row, and so is each of the SDK's warnings, once.
        """
        _forget_memory_peaks()
        with Warnings() as warnings:
            for answer in self._answers(check):
                for line in dict.fromkeys(warnings.said):
                    if line not in self._warned:
                        self._warned.add(line)
                        yield self._row("warning", line)
                yield answer

    def _answers(self, check: str) -> Iterator[dict[str, Any]]:
        try:
            for row in CHECKS[check](self._setting, self._open):
                yield {"row": asdict(row)}
        except AbsentError as error:
            yield {"absent": str(error)}
        except LackingError as error:
            yield self._row(check, str(error), "not run")
        except Exception as error:
            if any(isinstance(each, ModuleNotFoundError) for each in (error, error.__cause__)):
                yield {"absent": str(error)}
                return
            # What the processor cannot do says nothing about the GPU.
            full = check.endswith("reference") or "OutOfMemory" in type(error).__name__
            yield self._row(check, f"{type(error).__name__}: {error}", "not run" if full else "wrong")
            if check in _FIRST:
                yield {"absent": f"{check} failed"}
        else:
            yield {}  # for warnings after the last row

    def _row(self, name: str, words: str, verdict: Verdict = "") -> dict[str, Any]:
        value = " ".join(without_paths(words).split())[:400]
        return {"row": asdict(Row(name, self.runs_on, value, verdict=verdict))}


def _forget_memory_peaks() -> None:
    """So that each check's figure is its own."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    serve(Checks, lambda _: None)
