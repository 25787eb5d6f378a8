"""The process in which the checks of one engine run: `python -m benchmarks.gpu_report.child`, see `order.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.bench.child import serve
from benchmarks.bench.worker import without_paths
from benchmarks.gpu_report.checks import CHECKS
from benchmarks.gpu_report.engines import AbsentError, Opened, Setting
from benchmarks.gpu_report.network import allow_bare_machines
from benchmarks.gpu_report.rows import Row, Verdict

_FIRST = ("reference", "loading")
"""Without them, the others can only fail for the same reason."""


class Checks:
    """Answers {"check": NAME} with the rows of that check."""

    disk_bytes = 0

    def __init__(self, variant: Mapping[str, Any]) -> None:
        self.runs_on: str = variant["engine"]
        if self.runs_on.startswith(("cpu", "torch")):
            allow_bare_machines()
        self._setting = Setting(self.runs_on, Path(variant["work"]), quick=variant["quick"], size=variant["size"])
        self._open = Opened()

    def prepare(self, job: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
        """The work of a job."""
        return lambda: self.answer(job["check"])

    def answer(self, check: str) -> dict[str, Any]:
        """Rows; and absent: why, if no check of this engine can run. What a check raises is a row."""
        rows: list[dict[str, Any]] = []
        try:
            rows.extend(asdict(row) for row in CHECKS[check](self._setting, self._open))
        except (AbsentError, ModuleNotFoundError) as error:
            return {"rows": rows, "absent": str(error)}
        except Exception as error:
            words = " ".join(without_paths(f"{type(error).__name__}: {error}").split())[:400]
            verdict: Verdict = "not run" if "OutOfMemory" in type(error).__name__ else "wrong"
            rows.append(asdict(Row(check, self.runs_on, words, verdict=verdict)))
            if check in _FIRST:
                return {"rows": rows, "absent": f"{check} failed"}
        return {"rows": rows}


if __name__ == "__main__":
    serve(Checks, lambda _: None)
