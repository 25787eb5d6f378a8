"""Folders in the user's cache for what a runtime made of a graph: each is there whole, or not at all.

Runtimes write their files where other processes may read them at the same time, and do not check what they read. So a
folder gets its name when it is complete, with a record of the sha256 of its files.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from srflow_sdk.system.local_files import file_sha256

MOST_BYTES = 2 << 30
"""Kept in all beside each other: folders that were not used for the longest time are deleted first."""

_RECORD = "record.json"
_STALE_SECONDS = 3600  # what a killed process left
_log = logging.getLogger(__name__)


def is_whole(folder: Path) -> bool:
    """True if a folder is there as it was written; it then counts as used now. A damaged one is deleted."""
    try:
        if json.loads((folder / _RECORD).read_text(encoding="utf-8")) == _hashes(folder):
            os.utime(folder / _RECORD)
            return True
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        pass
    discard(folder)
    return False


def discard(folder: Path) -> None:
    """Delete a folder. Processes that have it in use keep what they mapped."""
    _log.info("%s is damaged, or of no use: deleting it", folder)
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def written(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, which takes the name of `folder` at the end of the block if something is in it.

    Raises: OSError if none can be made, and whatever the block raises; nothing is left behind then.
    """
    part = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=folder.parent))
    try:
        yield part
        with contextlib.suppress(OSError):  # no room for the record, or another process was faster
            if hashes := _hashes(part):
                (part / _RECORD).write_text(json.dumps(hashes), encoding="utf-8")
                part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _delete_oldest(folder.parent, keep=folder)


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in folder.iterdir() if path.name != _RECORD}


def _delete_oldest(parent: Path, *, keep: Path) -> None:
    """Delete what killed processes left, and the folders that were used longest ago if all take too much."""
    used: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError):
        for entry in list(parent.iterdir()):
            with contextlib.suppress(OSError):
                if entry.name.startswith("."):
                    if entry.stat().st_mtime < time.time() - _STALE_SECONDS:
                        shutil.rmtree(entry, ignore_errors=True)
                elif entry != keep:
                    used.append(((entry / _RECORD).stat().st_mtime, entry))
    left = MOST_BYTES - bytes_of(keep)
    for _, entry in sorted(used, reverse=True):
        left -= bytes_of(entry)
        if left < 0:
            shutil.rmtree(entry, ignore_errors=True)


def bytes_of(folder: Path) -> int:
    """How much a folder's files take; 0 if it is not there."""
    with contextlib.suppress(OSError):
        return sum(path.stat().st_size for path in folder.iterdir())
    return 0
