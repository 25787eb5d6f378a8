"""Runs the project's commands under limits and kills, and judges how they ended."""

from __future__ import annotations

import atexit
import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.forked import context

PROGRAMS = {
    "srflow-upscale": "from srflow_apps.commands.cli import upscale; upscale()",
    "srflow-restore": "from srflow_apps.commands.cli import restore; restore()",
    "srflow-doctor": "from srflow_apps.commands.cli import doctor; doctor()",
    "srflow-export": "from srflow_export.cli import main; main()",
    "srflow-train": "from srflow_training.cli import train; train()",
}
WITH_TORCH = ("srflow-export", "srflow-train")
"""These are forks of a process that has imported torch, which takes longer than all else that they do here."""

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
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SRFLOW_CACHE_DIR": str(folder / "cache")}
    words = [program, *map(str, arguments)]
    if program in WITH_TORCH and resource.RLIMIT_AS not in (limits or {}):  # torch takes most of the address space
        return _run_forked(words, folder, environment, limits or {}, kill_after_s, patience_s)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAMS[program], *words[1:]],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_limiter(limits) if limits else None,
    )
    try:
        output, errors = process.communicate(timeout=patience_s if kill_after_s is None else kill_after_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        if kill_after_s is None:
            return Ended(status=None, output=output, errors=errors)
    return Ended(status=process.returncode, output=output, errors=errors)


def _run_forked(
    words: list[str],
    folder: Path,
    environment: dict[str, str],
    limits: Mapping[int, int],
    kill_after_s: float | None,
    patience_s: float,
) -> Ended:
    said = [folder / "said.out", folder / "said.err"]
    process = context.Process(target=_command, args=(words, folder, environment, limits, said))
    process.start()
    process.join(patience_s if kill_after_s is None else kill_after_s)
    hangs = process.exitcode is None
    if hangs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
    output, errors = (path.read_text(errors="replace") if path.exists() else "" for path in said)
    status = None if hangs and kill_after_s is None else process.exitcode
    return Ended(status=status, output=output, errors=errors)


def _command(
    words: list[str], folder: Path, environment: dict[str, str], limits: Mapping[int, int], said: list[Path]
) -> None:
    """What the fork does: as a process of the command would."""
    os.setsid()
    for stream, path in zip((1, 2), said, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    _limiter(limits)()
    try:
        exec(PROGRAMS[words[0]], {"__name__": "__main__"})
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out


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


def _limiter(limits: Mapping[int, int]) -> Callable[[], None]:
    def limit() -> None:
        for number, value in limits.items():
            resource.setrlimit(number, (value, resource.getrlimit(number)[1]))

    return limit
