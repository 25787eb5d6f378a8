"""Objects that the libraries call while they build: a logger that remembers errors, and a monitor of progress."""

from __future__ import annotations

import logging
import threading
from typing import Any

logger = logging.getLogger(__name__)

_KEPT = 3  # messages: the first says why, later ones follow from it


def build_logger(trt: Any) -> Any:
    """A `trt.ILogger` that keeps errors for `said()`, and sends all but verbose messages to :mod:`logging` as debug."""
    severity = trt.ILogger.Severity

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self._errors: list[str] = []
            self._warnings: list[str] = []

        def log(self, level: Any, message: str) -> None:
            if level in (severity.INTERNAL_ERROR, severity.ERROR):
                self._errors.append(message)
            elif level == severity.WARNING:
                self._warnings.append(message)
            if level != severity.VERBOSE:
                logger.debug("%s: %s", level.name, message)

        def said(self) -> str:
            """The first errors, or warnings if there are no errors, in one line."""
            return "; ".join(" ".join(line.split()) for line in (self._errors or self._warnings)[:_KEPT])

    return Logger()


def build_monitor(trt: Any) -> Any:
    """A `trt.IProgressMonitor` with `line()`, the progress, and `stop()`, which ends the build at its next step."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self._lock = threading.Lock()
            self._phases: dict[str, list[int]] = {}  # name → steps done, steps; parents come first
            self._stopped = False

        def phase_start(self, phase_name: str, _parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._phases[phase_name] = [0, num_steps]

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                if phase_name in self._phases:
                    self._phases[phase_name][0] = step + 1
                return not self._stopped

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._phases.pop(phase_name, None)

        def stop(self) -> None:
            """Make the library end the build without an engine."""
            with self._lock:
                self._stopped = True

        def line(self) -> str:
            """The innermost phase and its progress."""
            with self._lock:
                if not self._phases:
                    return "building"
                name, (done, steps) = list(self._phases.items())[-1]
            return f"{name.lower()}, {done} of {steps}"

    return Monitor()
