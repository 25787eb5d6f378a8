"""Runs the project's commands under limits and kills, and judges how they ended."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = {
    "srflow-upscale": "from srflow_apps.commands.cli import upscale; upscale()",
    "srflow-restore": "from srflow_apps.commands.cli import restore; restore()",
    "srflow-doctor": "from srflow_apps.commands.cli import doctor; doctor()",
    "srflow-export": "from srflow_export.cli import main; main()",
    "srflow-train": "from srflow_training.cli import train; train()",
}
PATIENCE_S = 240
"""No command here takes a tenth of this on an idle machine."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended. status: as subprocess gives it, negative for a signal; None: it was stopped for hanging."""

    status: int | None
    output: str
    errors: str


def run_command(
    program: str,
    arguments: Sequence[str | Path],
    *,
    folder: Path,
    kill_after_s: float | None = None,
    limits: Mapping[int, int] | None = None,
    patience_s: float = PATIENCE_S,
) -> Ended:
    """Run a command of :data:`PROGRAMS` in a folder.

    kill_after_s: send SIGKILL to it and its children then. limits: soft limits by their numbers in `resource`.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAMS[program], *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "SRFLOW_CACHE_DIR": str(folder / "cache")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_limiter(limits or {}),
    )
    try:
        output, errors = process.communicate(timeout=patience_s if kill_after_s is None else kill_after_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        if kill_after_s is None:
            return Ended(status=None, output=output, errors=errors)
    return Ended(status=process.returncode, output=output, errors=errors)


def loss_of(ended: Ended, *, killed: bool = False) -> str | None:
    """What is wrong with the end of a command: a traceback, a signal, a hang, no word of error. killed: by SIGKILL."""
    if "Traceback (most recent call last)" in ended.errors + ended.output:
        return f"a traceback: {_last_line(ended.errors)}"
    if ended.status is None:
        return "it did not end"
    if ended.status == 0 or (killed and ended.status == -signal.SIGKILL):
        return None
    if ended.status < 0:
        return f"ended by {signal.Signals(-ended.status).name}: {_last_line(ended.errors)}"
    if not any(line.lower().startswith("error: ") for line in ended.errors.splitlines()):
        return f"status {ended.status} without an error line: {_last_line(ended.errors)}"
    return None


def hidden_files(folder: Path) -> list[str]:
    """Paths below a folder of what has a hidden name."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*"))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing was printed"])[-1][:300]


def _limiter(limits: Mapping[int, int]) -> Callable[[], None] | None:
    if not limits:
        return None

    def limit() -> None:
        for number, value in limits.items():
            resource.setrlimit(number, (value, resource.getrlimit(number)[1]))

    return limit
