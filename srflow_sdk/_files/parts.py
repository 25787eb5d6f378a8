"""Files under way: hidden names beside their targets, locked while they are written, and what a kill left of them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, which does not delete files that are open
    fcntl = None  # type: ignore[assignment]

_MAX_NAME_BYTES = 255
_ENDING = re.compile(r"\.[0-9a-f]{8}\.part$")


def open_part(target: Path) -> tuple[Path, int]:
    """Create the file that becomes `target` when it is complete: its path, and a descriptor to write and read it.

    The name is `.{target.name}.{8 hex}.part`; a name too long for that is shortened. Raises: OSError.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    while True:
        part = target.parent / f"{_stem(target)}.{secrets.token_hex(4)}.part"
        descriptor = os.open(part, flags, 0o666)
        if _lock(descriptor) and not part.exists():
            os.close(descriptor)  # remove_stale_parts came between the two lines above
            continue
        return part, descriptor


def remove_stale_parts(*targets: str | os.PathLike[str]) -> None:
    """Delete what a killed process left of earlier attempts to write these; files being written are let alone."""
    stems: dict[Path, set[str]] = {}
    for target in map(Path, targets):
        stems.setdefault(target.parent, set()).add(_stem(target))
    for folder, wanted in stems.items():
        with contextlib.suppress(OSError):
            for path in list(folder.iterdir()):
                ending = _ENDING.search(path.name)
                if ending and path.name[: ending.start()] in wanted:
                    _remove_if_unlocked(path)


def _remove_if_unlocked(part: Path) -> None:
    with contextlib.suppress(OSError):
        if fcntl is None:
            part.unlink()
            return
        descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if _lock(descriptor):
                part.unlink()
        finally:
            os.close(descriptor)


def _stem(target: Path) -> str:
    """What the names of a target's parts begin with."""
    name = os.fsencode(target.name)
    room = _MAX_NAME_BYTES - len("..12345678.part")
    if len(name) <= room:
        return f".{target.name}"
    digest = hashlib.sha256(name).hexdigest()[:16]
    return f".{name[: room - 17].decode('utf-8', 'ignore')}~{digest}"


def _lock(descriptor: int) -> bool:
    """Whether the file could be locked; the lock ends when the process or its last descriptor of the file does."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by another, or a file system without locks
        return False
    return True
