"""The process in which the checks of one engine run: `python -m benchmarks.gpu_report.child`, see `order.py`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.bench.processes import serve, without_paths
from benchmarks.gpu_report.checks import CHECKS, Opened
from benchmarks.gpu_report.network import AbsentError, LackingError, Setting
from benchmarks.gpu_report.rows import Row, Verdict


class Checks(logging.Handler):
    """Answers {"check": NAME} with the rows of that check, and takes what the SDK warns of meanwhile."""

    disk_bytes = 0

    def __init__(self, variant: Mapping[str, Any]) -> None:
        super().__init__(logging.WARNING)
        self.runs_on: str = variant["engine"]
        self._said: list[str] = []
        self._reported: set[str] = set()
        setting = Setting(self.runs_on, Path(variant["work"]), quick=variant["quick"], size=variant["size"])
        self._open = Opened(setting, self._said)
        logging.getLogger("srflow_sdk").handlers = [self]

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self._said.append(record.getMessage())

    def prepare(self, job: Mapping[str, Any]) -> Callable[[], Iterator[dict[str, Any]]]:
        """The work of a job."""
        return lambda: self.answers(job["check"])

    def answers(self, check: str) -> Iterator[dict[str, Any]]:
        """{"row": fields} as each row is known, and {"absent": why} if no other check of the engine can run.

        What a check raises is a row, and so is each of the SDK's warnings, once.
        """
        for answer in self._answers(check):
            for line in self._said:
                if line not in self._reported and not line.startswith("memory ran out"):
                    self._reported.add(line)
                    yield self._row("warning", line)
            yield answer

    def _answers(self, check: str) -> Iterator[dict[str, Any]]:
        try:
            for row in CHECKS[check](self._open):
                yield {"row": asdict(row)}
        except AbsentError as error:
            yield {"absent": str(error)}
        except LackingError as error:
            yield self._row(check, str(error), "not run")
        except Exception as error:
            if any(isinstance(each, ModuleNotFoundError) for each in (error, error.__cause__)):
                yield {"absent": str(error)}
                return
            # What the processor cannot do, or the memory is too small for, says nothing about the GPU's arithmetic.
            full = check == "reference" or "OutOfMemory" in type(error).__name__
            yield self._row(check, f"{type(error).__name__}: {error}", "not run" if full else "wrong")
            if check in ("reference", "loading"):  # the others would fail for the same reason
                yield {"absent": f"{check} failed"}
        else:
            yield {}  # for warnings after the last row

    def _row(self, name: str, words: str, verdict: Verdict = "") -> dict[str, Any]:
        value = " ".join(without_paths(words).split())[:400]
        return {"row": asdict(Row(name, self.runs_on, value, verdict=verdict))}


if __name__ == "__main__":
    serve(Checks, lambda _: None)
