"""Locks with a name, between processes: of those that want the same thing, one works and the others wait, and say so.

For what has no descriptor of its own to lock (:mod:`srflow_sdk._system.locks`): a bundle that is not there yet, an
engine that is being built. The locks are the operating system's, so that a process which dies frees its own. Their
files lie in the user's cache folder, and stay: to remove one that another process has just opened would let both in.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from srflow_sdk._machine.cache import cache_folder
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
    """The right to replace a bundle by another that was made from it, or to put one there.

    Whoever reads a bundle in order to write it holds this from the reading to the commit, or the work of another in
    between would be lost. It holds between processes of one user on one machine, whose cache folder has the lock; a
    user without a cache gets `.NAME.lock` beside the bundle. Not for the same thread twice.

    Raises: BundleError if the lock cannot be made.
    """
    final = Path(os.path.realpath(target))
    folder = cache_folder("locks")
    name = hashlib.sha256(os.fsencode(final)).hexdigest()
    path = final.parent / f".{final.name}.lock" if folder is None else folder / f"{name}.lock"
    waiting = f"{target}: another srflow-export is writing this bundle; waiting for it"
    try:
        lock = acquired(path, waiting=waiting, say=say)
    except OSError as error:
        why = error.strerror or error
        raise BundleError(f"{target}: a bundle cannot be written there: {path} cannot be locked: {why}") from error
    try:
        yield
    finally:
        lock.release()
