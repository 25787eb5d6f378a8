"""Reads files as their text says, for the tests of workers. A module of its own: a worker imports it in no time."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

from srflow_sdk.errors import ImageError
from tests.faults.workers import MAX_BYTES


def read(path: Path) -> str | None:
    """What a worker does with a file: its text says what."""
    text = path.read_text()
    if text == "crash":
        signal.raise_signal(signal.SIGSEGV)
    if text == "hang":
        signal.pause()
    if text == "gigabytes":
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        bytearray(MAX_BYTES + (64 << 20))
    if text == "refuse":
        raise ImageError("it is no picture")
    if text == "bug":
        raise KeyError("x")
    return "wrong" if text == "wrong" else None
