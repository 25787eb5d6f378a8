"""Atomic file writes: under a hidden name beside the target, flushed to the disk, then renamed.

At any moment, even after a crash, a reader finds the old content or the new. Of a symbolic link, the file behind it is
replaced and the link stays; pipes and devices are refused, because a rename would remove them. The hidden file, called
a part, is locked while it is written, so that leftovers of a killed process can be told from files in progress.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from srflow_sdk.system import locks

_MAX_NAME_BYTES = 255
_ENDING = re.compile(r"\.[0-9a-f]{8}\.part$")


def write_atomically(target: Path, *content: bytes | memoryview) -> None:
    """Write pieces of content to a file, new or not. Raises: OSError; an old file is then as before, without a part.

    Permissions are those of any new file of the process; they do not come from the file that is replaced.
    """
    with replacing(target) as descriptor:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            for piece in content:
                file.write(piece)
        os.fsync(descriptor)


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[int]:
    """Yield the descriptor of a part, which becomes the target at the end of the block: flush it before.

    Raises: OSError. If that or the block raises, an old file is as before, without a part.
    """
    part, descriptor = open_part(target)
    try:
        try:
            yield descriptor
            if locks.LOCKS_EXIST:  # while it is locked, or another process might think it stale
                publish(part, target)
        finally:
            os.close(descriptor)
        if not locks.LOCKS_EXIST:  # Windows cannot rename an open file
            publish(part, target)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def check_replaceable(target: Path) -> None:
    """Raises: OSError if a pipe or a device has this name, or a link leads to one, or to itself."""
    try:
        mode = target.stat().st_mode
    except (OSError, ValueError) as error:  # there is none, or creating it says why it cannot be
        if getattr(error, "errno", None) == errno.ELOOP:
            raise
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device; name a file")


def open_part(target: Path) -> tuple[Path, int]:
    """Create the file that becomes `target` when complete; returns its path and a descriptor to write and read it.

    The name is `.{target.name}.{8 hex}.part`; a name too long for that is shortened. Raises: OSError.
    """
    check_replaceable(target)
    target = _behind_links(target)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    while True:
        part = target.parent / f"{_stem(target)}.{secrets.token_hex(4)}.part"
        descriptor = os.open(part, flags, 0o666)
        # Waiting, because remove_stale_parts may hold the new part just now, and is about to delete it.
        if locks.lock(descriptor) and not part.exists():
            os.close(descriptor)
            continue
        return part, descriptor


def publish(part: Path, target: Path) -> None:
    """Rename a part that is complete and flushed to its target.

    Raises: OSError; then an old file is unchanged, and the part remains.
    """
    check_replaceable(target)
    target = _behind_links(target)
    part.replace(target)
    with contextlib.suppress(OSError):  # not all systems can; the file is in place
        sync_directory(target.parent)


def remove_stale_parts(*targets: str | os.PathLike[str]) -> None:
    """Delete what killed processes left of earlier attempts to write these; files being written are left alone."""
    stems: dict[Path, set[str]] = {}
    for target in map(_behind_links, map(Path, targets)):
        stems.setdefault(target.parent, set()).add(_stem(target))
    for folder, wanted in stems.items():
        remove_stale_parts_in(folder, wanted)


def remove_stale_parts_in(folder: Path, stems: set[str] | None = None) -> None:
    """Do the same for the targets with these stems, or for every target in a folder that is the SDK's alone."""
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            ending = _ENDING.search(path.name)
            if ending and (stems is None or path.name[: ending.start()] in stems):
                _remove_if_unlocked(path)


def sync_directory(folder: Path) -> None:
    """Flush a folder to the disk, so that new names in it survive a power cut. Raises: OSError if that fails."""
    if os.name == "nt":  # directories cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _behind_links(target: Path) -> Path:
    """The file that a name stands for: where the link leads if it is one."""
    try:
        return Path(os.path.realpath(target)) if target.is_symlink() else target
    except (OSError, ValueError):
        return target


def _remove_if_unlocked(part: Path) -> None:
    with contextlib.suppress(OSError):
        if not locks.LOCKS_EXIST:
            part.unlink()
            return
        descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if locks.try_lock(descriptor):
                part.unlink()
        finally:
            os.close(descriptor)


def _stem(target: Path) -> str:
    """The beginning of the names of a target's parts."""
    name = os.fsencode(target.name)
    room = _MAX_NAME_BYTES - len("..12345678.part")
    if len(name) <= room:
        return f".{target.name}"
    digest = hashlib.sha256(name).hexdigest()[:16]
    return f".{name[: room - 17].decode('utf-8', 'ignore')}~{digest}"
