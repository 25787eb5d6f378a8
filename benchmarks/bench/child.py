"""The process that `worker.Worker` starts: load a variant, then do one job for each line of JSON on standard input."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol


class Job(Protocol):
    """What a variant can do. size: LR pixels a side; samples: pictures."""

    disk_bytes: int
    runs_on: str

    def prepare(self, job: Mapping[str, Any]) -> Callable[[], object]:
        """Make the inputs, which is not timed, and return the work. If that gives an iterator, each dict is said."""
        ...


def resident(field: str) -> int:
    """Bytes of a line of /proc/self/status: VmRSS, or VmHWM, the largest so far. 0 where there is no /proc."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(rf"^{field}:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) << 10 if found else 0


def reset_peak() -> None:
    """Make VmHWM start again from what is resident now."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def serve(load: Callable[[Mapping[str, Any]], Job], missing: Callable[[Exception], str | None]) -> None:
    """Load the variant of the command line and answer jobs; `missing` tells which errors are reasons for a table."""
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
            loaded_bytes=resident("VmRSS"),
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
            say(seconds=seconds, peak_bytes=resident("VmHWM"), **(result if isinstance(result, dict) else {}))
    except Exception as error:
        why = missing(error)
        if why is None:
            raise
        say(missing=why)
