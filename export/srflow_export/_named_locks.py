"""Named locks between processes: if several want the same thing, one works and the others report that they wait.

They serve things without a descriptor of their own to lock (``local_files.lock``): a bundle that does not exist yet, an
engine that is being built. The operating system frees the locks of a process that dies. Lock files are in the user's
cache folder and stay there: removing one that another process has just opened would let both in.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from srflow_sdk.errors import BundleError
from srflow_sdk.system.cache_folder import cache_folder


def acquired(path: Path, *, waiting: str, say: Callable[[str], None]) -> FileLock:
    """Acquire the lock of this file; the caller releases it. `say` receives `waiting` if another process holds it.

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
    """Hold the right to write a bundle, or to replace one by another made from it.

    A process that reads a bundle in order to rewrite it holds this from reading to commit; otherwise the work of
    another process in between would be lost. It works between processes of one user on one machine, since the lock is
    in the user's cache folder, or in that for temporary files if there is none. Not reentrant.

    Raises: BundleError if the lock cannot be made.
    """
    final = Path(os.path.realpath(target))
    folder = cache_folder("locks")
    waiting = f"{target}: another srflow-export is writing this bundle; waiting for it"
    name = f"{hashlib.sha256(os.fsencode(final)).hexdigest()}.lock"
    if folder is not None:
        path = folder / name
    else:
        path = Path(tempfile.gettempdir()) / f"srflow-{getattr(os, 'getuid', lambda: 'user')()}-{name}"
    try:
        lock = acquired(path, waiting=waiting, say=say)
    except OSError as error:
        why = error.strerror or error
        raise BundleError(
            f"{target}: a bundle cannot be written there, because {path} cannot be locked: {why}"
        ) from error
    try:
        yield
    finally:
        lock.release()
