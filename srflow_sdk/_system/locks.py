"""A lock on a file's or folder's own descriptor: it ends with the process, and leaves no file behind."""

from __future__ import annotations

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCKS_EXIST = fcntl is not None
"""Whether this system has them. Windows has none, and does not delete files that are open."""


def try_lock(descriptor: int) -> bool:
    """Whether what is open here could be locked now, until the process or its last descriptor of it ends.

    A lock rather than a process id in the name: ids are used again, and mean nothing in another container.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by another, or a file system without locks
        return False
    return True
