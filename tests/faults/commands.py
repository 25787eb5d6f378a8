"""Runs the project's commands under limits and kills, and judges how they ended."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import resource
import signal
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.forked import context

PROGRAMS = {
    "srflow-upscale": "srflow_apps.commands.cli:upscale",
    "srflow-export": "srflow_export.cli:main",
    "srflow-train": "srflow_training.cli:train",
}
ON_CPU = ("--device", "cpu", "--threads", "1")
PATIENCE_S = 240
"""No command here takes a tenth of this on an idle machine."""


_OBEYED = ("Cc", "Zl", "Zp")  # categories of characters that a terminal obeys


class Ended(NamedTuple):
    """How a command ended. status: as subprocess gives it, negative for a signal; None: it was
    stopped for hanging."""

    status: int | None
    errors: str
    output: str = ""


def run_command(
    program: str,
    arguments: Sequence[str | Path],
    *,
    folder: Path,
    kill_after_s: float | None = None,
    limits: Mapping[int, int] | None = None,
    patience_s: float = PATIENCE_S,
) -> Ended:
    """Run a command of :data:`PROGRAMS` in a folder, as a fork of a process that has imported
    torch.

    kill_after_s: send SIGKILL to it and its children then. limits: soft limits by their numbers in
        `resource`.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SRFLOW_CACHE_DIR": str(folder / "cache")}
    words = [program, *map(str, arguments)]
    said = [folder / "said.out", folder / "said.err"]
    how = (PROGRAMS[program], words, folder, environment, limits or {}, said)
    process = context.Process(target=_command, args=how)
    process.start()
    process.join(patience_s if kill_after_s is None else kill_after_s)
    hangs = process.exitcode is None
    if hangs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
    status = None if hangs and kill_after_s is None else process.exitcode
    output, errors = (path.read_text(errors="replace") if path.exists() else "" for path in said)
    return Ended(status, errors, output)


def _command(
    entry: str,
    words: list[str],
    folder: Path,
    environment: dict[str, str],
    limits: Mapping[int, int],
    said: list[Path],
) -> None:
    """What the fork does: as a process of the command would."""
    os.setsid()
    for stream, path in zip((1, 2), said, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    for number, value in limits.items():
        resource.setrlimit(number, (value, resource.getrlimit(number)[1]))
    module, _, function = entry.partition(":")
    try:
        getattr(importlib.import_module(module), function)()
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out


def loss_of(ended: Ended, *, killed: bool = False) -> str | None:
    """What is wrong with the end of a command: a traceback, a signal, a hang, no word of error.
    killed: by SIGKILL."""
    if "Traceback (most recent call last)" in ended.errors + ended.output:
        return f"a traceback: {_last_line(ended.errors)}"
    if ended.status is None:
        return "it did not end"
    if ended.status == 0 or (killed and ended.status == -signal.SIGKILL):
        return None
    if ended.status < 0:
        return f"ended by {signal.Signals(-ended.status).name}: {_last_line(ended.errors)}"
    if not errors_of(ended):
        return f"status {ended.status} without an error line: {_last_line(ended.errors)}"
    odd = [
        line
        for line in ended.errors.split("\n")
        if any(unicodedata.category(each) in _OBEYED for each in line)
    ]
    return f"a line that a terminal would obey: {odd[0]!r}" if odd and not killed else None


def errors_of(ended: Ended) -> list[str]:
    """The lines of errors."""
    return [line for line in ended.errors.split("\n") if line.lower().startswith("error: ")]


def hidden_files(folder: Path) -> list[str]:
    """Paths below a folder of what has a hidden name."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*"))


def leftovers(folder: Path) -> str | None:
    """The loss if something hidden stays below a folder."""
    left = hidden_files(folder)
    return f"left behind: {', '.join(left)}" if left else None


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing was printed"])[-1][:300]
