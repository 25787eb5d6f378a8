"""Keeps in the user's cache what a runtime made of a graph: a folder for each, which is there whole or not at all.

The next process takes what was kept, several times as fast, and computes the same bits. ONNX Runtime maps the weights
into memory, so that all processes of this user share them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

from srflow_sdk.system.cache_folder import cache_folder

MOST_BYTES = 2 << 30  # of all folders: those that were not used for the longest time are deleted first
_STALE_SECONDS = 3600  # what a killed process left
_PROCESSOR = {  # lines of /proc/cpuinfo that say which kernels are used, on x86 and on ARM
    *("vendor_id", "cpu family", "model", "model name", "flags"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),
}


@cache
def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """The kernel's lines about the first core; None if there are none, as on other systems than Linux."""
    with contextlib.suppress(OSError):
        lines = cpuinfo.read_text("utf-8", "replace").partition("\n\n")[0].splitlines()
        found = (line.partition(":") for line in lines)
        return " | ".join(value.strip() for name, _, value in found if name.strip() in _PROCESSOR) or None
    return None


def kept_folder(kind: str, *made_from: object) -> Path | None:
    """The folder for what a runtime makes of these, which counts as used now; None without a cache."""
    if (parent := cache_folder(kind, missed=False)) is None:
        return None
    folder = parent / sha256(repr(made_from).encode()).hexdigest()[:32]
    with contextlib.suppress(OSError):
        os.utime(folder)
    return folder


@contextlib.contextmanager
def keeping(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, which is named `folder` after the block; then old ones are deleted. Raises: OSError."""
    part = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=folder.parent))
    try:
        yield part
        with contextlib.suppress(OSError):  # another process was faster
            for path in (files := list(part.iterdir())):
                with path.open("r+b") as file:
                    os.fsync(file.fileno())  # a name must not outlive its content when the power fails
            if files:
                part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    left = MOST_BYTES
    with contextlib.suppress(OSError):
        found = ((entry.stat().st_mtime, entry) for entry in folder.parent.iterdir())
        for used, entry in sorted(found, reverse=True):
            if entry.name.startswith("."):
                too_old = used < time.time() - _STALE_SECONDS
            else:
                left -= sum(path.stat().st_size for path in entry.iterdir())
                too_old = left < 0
            if too_old:
                shutil.rmtree(entry, ignore_errors=True)
