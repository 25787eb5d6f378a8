"""Reads many hostile files in a process of its own, so that a crash or a hang is one loss and not the end.

The worker gets paths on standard input, a line each, and answers each with a line of JSON: [loss or null, peak bytes].
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import resource
import select
import signal
import subprocess
import sys
import traceback
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from tests.faults.attempts import Attempt

MAX_BYTES = 2_500_000_000
"""Most memory that a worker may have taken after a file; the largest honest one needs a fifth."""

Read = Callable[[Path], str | None]
"""Reads a file as a user's program would: returns what is wrong with the result; None if it is right."""


def read_in_worker(module: str, paths: Iterable[tuple[str, Path]], *, patience_s: float) -> Iterator[Attempt]:
    """Let `read(path)` of a module read each file. paths: what to call an attempt, and its file.

    Survived is a right result, or an SRFlowError of one printable line, within `patience_s` seconds.
    """
    worker: subprocess.Popen[bytes] | None = None
    try:
        for what, path in paths:
            worker = worker or _start(module)
            loss = _asked(worker, path, patience_s)
            if loss is not None and worker.poll() is not None:
                worker.wait()
                worker = None
            if loss is None:
                path.unlink() if path.is_file() else None
            yield Attempt(what=what, loss=loss)
    finally:
        if worker is not None:
            worker.kill()
            worker.wait()


def _start(module: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.workers", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _asked(worker: subprocess.Popen[bytes], path: Path, patience_s: float) -> str | None:
    """The loss with this file. After a crash, a hang or much memory the worker has ended."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{path}\n".encode())
    worker.stdin.flush()
    ready, _, _ = select.select([worker.stdout], [], [], patience_s)
    answer = worker.stdout.readline() if ready else b""
    if not answer:
        if ready:
            return f"ended by {_signal_name(worker.wait())}"
        worker.kill()
        worker.wait()
        return f"no answer in {patience_s:.0f} s"
    loss, peak = json.loads(answer)
    if loss is None and peak > MAX_BYTES:
        loss = f"took {peak / 1e9:.1f} GB"
    if peak > MAX_BYTES:
        worker.kill()
        worker.wait()
    return None if loss is None else str(loss)


def _signal_name(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def _serve(read: Read, requests: IO[str], answers: IO[str]) -> None:
    for line in requests:
        try:
            loss = read(Path(line.rstrip("\n")))
        except Exception as error:
            loss = _judged(error)
        answers.write(json.dumps([loss, _peak_bytes()]) + "\n")
        answers.flush()


def _peak_bytes() -> int:
    """Most memory that this process had. Linux's ru_maxrss begins with that of the process which started this one."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _judged(error: Exception) -> str | None:
    from srflow_sdk.errors import SRFlowError

    if not isinstance(error, SRFlowError):
        return "a traceback: " + " ".join("".join(traceback.format_exception(error)[-2:]).split())[-400:]
    return None if is_one_line(str(error)) else f"an error with control characters or of several lines: {error!r}"


def is_one_line(text: str) -> bool:
    """Whether a text can be shown in one line of a terminal, without anything that the terminal would obey."""
    return bool(text) and not any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text)


if __name__ == "__main__":
    # What libraries print goes to standard error; the answers keep standard output to themselves.
    own = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logging.disable()  # what is said of metadata that is left out
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    _serve(importlib.import_module(sys.argv[1]).read, sys.stdin, own)
