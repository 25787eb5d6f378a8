"""A child process that holds one variant of a network: its memory and failures are its own.

The child answers one line of JSON for each line that it reads: `Worker` here, :func:`serve` there.
Its peak of memory is VmHWM of /proc, reset before each run; ru_maxrss would keep the peak of the
process that started it.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from typing_extensions import Self

ROOT = Path(__file__).resolve().parents[2]


class MissingError(Exception):
    """A variant cannot be measured here; the message says why, for its row in the table."""

    def __init__(self, why: str) -> None:
        super().__init__(remove_paths(why))


def remove_paths(text: str) -> str:
    """The text with paths as seen from the repository's root: tables are for other machines."""
    return text.replace(f"{ROOT}{os.sep}", "")


class Worker:
    """One child process; use it as a context manager.

    Entering raises MissingError if the variant is not there or does not load within `load_limit_s`.
    Afterwards `loaded` has what the child said about loading: load_seconds, loaded_bytes,
    disk_bytes, runs_on. `said` has the last lines of its standard error, with warnings, and grows.
    """

    def __init__(
        self,
        variant: Mapping[str, Any],
        *,
        module: str = "benchmarks.bench.variants",
        load_limit_s: float = 120,
    ) -> None:
        self._variant = dict(variant)
        self._module = module
        self._limit = load_limit_s
        self._lines: queue.Queue[str] = queue.Queue()
        self.said: list[str] = []
        self.loaded: dict[str, Any] = {}

    def __enter__(self) -> Self:
        threads = str(self._variant.get("threads", 1))
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module, json.dumps(self._variant)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": threads},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # torch.compile starts compilers, which end with the child
        )
        for target in (self._read_answers, self._read_errors):
            threading.Thread(target=target, daemon=True).start()
        try:
            self.loaded = self._read_answer(self._limit, time.monotonic())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def process_id(self) -> int:
        """Of the child."""
        return self._process.pid

    def run(self, *, limit_s: float = 600, **job: Any) -> dict[str, Any]:
        """Do a job and return its figures: seconds, peak_bytes. Raises: MissingError."""
        *_, figures = self.ask(limit_s=limit_s, **job)
        return figures

    def ask(self, *, limit_s: float = 600, **job: Any) -> Iterator[dict[str, Any]]:
        """Do a job and give what the child says as it comes, the figures of :meth:`run` last."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise MissingError(self._say_why_it_ended()) from None
        answer: dict[str, Any] = {}
        since = time.monotonic()
        while "seconds" not in answer:
            answer = self._read_answer(limit_s, since)
            yield answer

    def _read_answer(self, limit_s: float, since: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=max(0.0, since + limit_s - time.monotonic()))
        except queue.Empty:
            self._end()  # or its late answer would be taken for that of the next job
            raise MissingError(f"it did not end within {limit_s:.0f} s") from None
        if not line:
            raise MissingError(self._say_why_it_ended())
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            raise MissingError(answer["missing"])
        return answer

    def _say_why_it_ended(self) -> str:
        status = self._process.wait(timeout=10)
        if status == -signal.SIGKILL:
            return "its process was killed, most likely for want of memory"
        return next(reversed(self.said), f"its process ended with status {status}")

    def _read_answers(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if line.strip():
                self.said.append(remove_paths(line.strip()))
            del self.said[:-50]

    def _end(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Job(Protocol):
    """What a variant can do. size: LR pixels a side; samples: pictures."""

    disk_bytes: int
    runs_on: str

    def prepare(self, job: Mapping[str, Any]) -> Callable[[], object]:
        """Make the inputs, which is not timed, and return the work.

        If that gives an iterator, each dict is said.
        """
        ...


def read_resident_bytes(field: str) -> int:
    """Bytes of a line of /proc/self/status: VmRSS, or VmHWM, the largest so far; else 0."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    line = re.search(rf"^{field}:\s*(\d+) kB$", status, re.MULTILINE)
    return int(line[1]) << 10 if line else 0


def reset_peak() -> None:
    """Make VmHWM start again from what is resident now."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def serve(
    load: Callable[[Mapping[str, Any]], Job], missing: Callable[[Exception], str | None]
) -> None:
    """Load the variant of the command line and answer jobs.

    `missing` tells which errors are reasons for a table.
    """
    variant = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not stand between the answers

    def say(**answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    try:
        started = time.perf_counter()
        loaded = load(variant)
        seconds = time.perf_counter() - started
        say(
            load_seconds=seconds,
            loaded_bytes=read_resident_bytes("VmRSS"),
            disk_bytes=loaded.disk_bytes,
            runs_on=loaded.runs_on,
        )
        for line in sys.stdin:
            work = loaded.prepare(json.loads(line))
            reset_peak()
            started = time.perf_counter()
            result = work()
            if isinstance(result, Iterator):
                for part in result:
                    say(**part)
            seconds = time.perf_counter() - started
            say(
                seconds=seconds,
                peak_bytes=read_resident_bytes("VmHWM"),
                **(result if isinstance(result, dict) else {}),
            )
    except Exception as error:
        why = missing(error)
        if why is None:
            raise
        say(missing=why)
