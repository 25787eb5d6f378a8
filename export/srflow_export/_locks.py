"""Locks between processes: of those that want the same thing, one works and the others wait, and say so.

The locks are the operating system's, so that a process which dies frees its own. The files stay where they are: to
remove one that another process has just opened would let both in.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from srflow_sdk.errors import BundleError


def acquired(path: Path, *, waiting: str, say: Callable[[str], None]) -> FileLock:
    """The lock of this file, which is the caller's to release; `say` gets the line `waiting` if others hold it.

    Raises: OSError if the file cannot be written.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(waiting)
        lock.acquire()
    return lock


@contextlib.contextmanager
def bundle_lock(target: str | os.PathLike[str], *, say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """The right to replace a bundle by another that was made from it, or to put one there: `.NAME.lock` beside it.

    Whoever reads a bundle in order to write it holds this from the reading to the commit, or the work of another in
    between would be lost. Not for the same thread twice. Raises: BundleError if the folder cannot be written.
    """
    final = Path(os.path.realpath(target))
    waiting = f"{target}: another srflow-export is writing this bundle; waiting for it"
    try:
        lock = acquired(final.parent / f".{final.name}.lock", waiting=waiting, say=say)
    except OSError as error:
        raise BundleError(f"{target}: a bundle cannot be written there: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
