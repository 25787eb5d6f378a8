"""The cache folder, which keeps what can be computed again between runs: graphs, kernels, timings.

What a runtime made of a graph is a folder of its own, which is there whole or not at all. The next
process takes it, several times as fast, and computes the same bits. ONNX Runtime maps the weights
into memory, so that all processes of this user share them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import platformdirs

VARIABLE = "SRFLOW_CACHE_DIR"  # names another folder
# of all folders of a kind: those that were not used for the longest time are deleted first
MOST_BYTES = 2 << 30
_STALE_SECONDS = 3600  # what a killed process left
_log = logging.getLogger(__name__)
_complained = False


def cache_folder(*parts: str, missed: bool = True) -> Path | None:
    """A folder in the user's cache.

    None if it cannot be used, which is said once if it is missed: starts are slow.
    """
    global _complained
    try:
        chosen = os.environ.get(VARIABLE)
        folder = (
            Path(chosen).absolute()
            if chosen
            else platformdirs.user_cache_path("srflow-sdk", appauthor=False)
        )
        if not folder.is_absolute():  # as in some containers: it would lie in the current folder
            raise FileNotFoundError(f"this user has no home folder for {folder}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        for part in ("", *parts):
            folder = folder / part
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        if missed and not _complained:
            _complained = True
            _log.warning(
                "continuing without a cache, which only costs time: %s; %s names another folder",
                error,
                VARIABLE,
            )
        return None
    return folder


def kept_folder(kind: str, *made_from: object) -> Path | None:
    """The folder for what a runtime makes of these, which counts as used now.

    None without a cache.
    """
    if (parent := cache_folder(kind, missed=False)) is None:
        return None
    folder = parent / sha256(repr(made_from).encode()).hexdigest()[:32]
    with contextlib.suppress(OSError):
        os.utime(folder)
    return folder


@contextlib.contextmanager
def keeping(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, which is named `folder` after the block; then old ones are deleted.

    Raises: OSError.
    """
    part = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=folder.parent))
    try:
        yield part
        with contextlib.suppress(OSError):  # another process was faster
            for path in (files := list(part.iterdir())):
                with path.open("r+b") as file:
                    # a name must not outlive its content when the power fails
                    os.fsync(file.fileno())
            if files:
                part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    left = MOST_BYTES
    with contextlib.suppress(OSError):
        by_use = ((entry.stat().st_mtime, entry) for entry in folder.parent.iterdir())
        for used, entry in sorted(by_use, reverse=True):
            if entry.name.startswith("."):
                too_old = used < time.time() - _STALE_SECONDS
            else:
                left -= sum(path.stat().st_size for path in entry.iterdir())
                too_old = left < 0
            if too_old:
                shutil.rmtree(entry, ignore_errors=True)
