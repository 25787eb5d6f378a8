"""A lock on a file's or folder's own descriptor: it ends with the process, and leaves no file behind."""

from __future__ import annotations

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCKS_EXIST = fcntl is not None
"""True if this system has such locks. Windows has none, but does not delete files that are open."""


def try_lock(descriptor: int, *, wait: bool = False) -> bool:
    """Try to lock an open file or folder until the process ends or closes it; returns whether that worked.

    A lock rather than a process id in the name, because ids are reused and mean nothing in another container.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (AttributeError, OSError):  # held by another, or no locks in this system or file system
        return False
    return True


def lock(descriptor: int) -> bool:
    """Wait for the lock that :func:`try_lock` tries; returns False only where there are no locks."""
    return try_lock(descriptor, wait=True)
