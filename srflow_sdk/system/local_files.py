"""Files on this machine: links, what others supply, hashes, locks, whole files.

A file is written under a hidden name beside its target, a part, flushed to the disk, then renamed.
At any moment, even after a crash, a reader finds the old content or the new. The part is locked
while it is written, so that leftovers of a killed process can be told from files in progress.
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
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from srflow_sdk.errors import ImageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Windows has no locks on descriptors, but does not delete files that are open
LOCKS_EXIST = fcntl is not None
_LONGEST_STEM = 255 - len(".12345678.part")  # bytes
_ENDING = re.compile(r"\.[0-9a-f]{8}\.part$")


def real_path(path: Path) -> Path:
    """The absolute path with all links followed, as far as they lead.

    Raises nothing, unlike ``Path.resolve``.
    """
    try:
        real = os.path.realpath(path)
        if os.name == "nt":  # whose realpath keeps the prefix that a name may have or not
            real = real.replace("\\\\?\\UNC\\", "\\\\").replace("\\\\?\\", "")
        return Path(real)
    except (OSError, ValueError):
        # a device of Windows, a path too long for it, a NUL: opening it says so
        return Path.cwd() / path


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read.

    Links are followed. Raises: OSError, at once also for a FIFO, a device or a directory.
    """
    # Without O_NONBLOCK, opening a FIFO waits for somebody who writes to it.
    descriptor = os.open(
        path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, in 64 hexadecimal digits.

    Raises: OSError, at once for a pipe or a device.
    """
    with open_regular(path) as file:
        return content_sha256(file)


def content_sha256(file: BinaryIO) -> str:
    """The sha256 of what an open file still holds, read in blocks. Raises: OSError."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def lock(descriptor: int, *, wait: bool = True) -> bool:
    """Lock an open file or folder until the process ends or closes it.

    Returns whether that worked.
    """
    try:
        how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB  # type: ignore[attr-defined, unused-ignore]
        fcntl.flock(descriptor, how)  # type: ignore[attr-defined, unused-ignore]
    except (AttributeError, OSError):  # held by another, or no locks in this system or file system
        return False
    return True


@contextlib.contextmanager
def writing_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the system's errors in the block into an ImageError: the file cannot be written."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = getattr(error, "strerror", None) or error
        raise ImageError(f"{path} cannot be written: {why}") from error


def write_atomically(target: Path, *content: bytes | memoryview) -> None:
    """Write pieces to a file, new or not.

    Raises: OSError; an old file is then as before, without a part.
    """
    with replacing(target) as descriptor:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            for piece in content:
                file.write(piece)
        os.fsync(descriptor)


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[int]:
    """Yield the descriptor of a part, which becomes the target after the block: flush it before.

    Raises: OSError.
    """
    check_replaceable(target)
    target = real_path(target) if target.is_symlink() else target
    part = target.parent / f"{_stem(target)}.{secrets.token_hex(4)}.part"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(part, flags, 0o666)
    try:
        lock(descriptor)
        try:
            yield descriptor
            if LOCKS_EXIST:  # while it is locked, or another process might think it stale
                part.replace(target)
        finally:
            os.close(descriptor)
        if not LOCKS_EXIST:  # Windows cannot rename an open file
            _replace_closed(part, target)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    with contextlib.suppress(OSError):  # not all systems can; the file is in place
        sync_directory(target.parent)


def _replace_closed(part: Path, target: Path) -> None:
    try:
        part.replace(target)
    except PermissionError as error:  # Windows' words for a viewer that shows the old file, too
        why = f"{error.strerror}; close the file where it is open, or make it writable"
        raise PermissionError(error.errno, why, str(target)) from error


def is_writable(folder: Path) -> bool:
    """True if files can be made in a folder.

    Windows' answer is about its attributes only, so one is made there.
    """
    if os.name != "nt":
        return os.access(folder, os.W_OK)
    part = folder / f".{secrets.token_hex(4)}.part"
    try:
        part.touch()
    except OSError:
        return False
    with contextlib.suppress(OSError):
        part.unlink()
    return True


def check_replaceable(target: Path) -> None:
    """Raises: OSError if a pipe or a device, which a rename would remove, has this name, or a link
    leads to itself.
    """
    try:
        mode = target.stat().st_mode
    except (OSError, ValueError) as error:  # there is none, or creating it says why it cannot be
        # a loop; Windows' con.png
        if getattr(error, "errno", None) in (errno.ELOOP, errno.EBADF, errno.EINVAL):
            raise
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device; name a file")


def remove_stale_parts(*targets: str | os.PathLike[str]) -> None:
    """Delete what killed processes left of earlier attempts to write these.

    Files being written are left alone.
    """
    stems: dict[Path, set[str]] = {}
    for path in map(Path, targets):
        target = real_path(path) if path.is_symlink() else path
        stems.setdefault(target.parent, set()).add(_stem(target))
    for folder, stems_there in stems.items():
        remove_stale_parts_in(folder, stems_there)


def remove_stale_parts_in(folder: Path, stems: set[str] | None = None) -> None:
    """Do the same for targets with these stems, or for all in a folder of the SDK's alone."""
    with contextlib.suppress(OSError):
        for part in list(folder.iterdir()):
            ending = _ENDING.search(part.name)
            if not ending or (stems is not None and part.name[: ending.start()] not in stems):
                continue
            with contextlib.suppress(OSError):
                # Windows has no locks, but does not delete files that are open.
                flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
                descriptor = os.open(part, flags) if LOCKS_EXIST else None
                try:
                    if descriptor is None or lock(descriptor, wait=False):
                        part.unlink()
                finally:
                    if descriptor is not None:
                        os.close(descriptor)


def sync_directory(folder: Path) -> None:
    """Flush a folder to the disk, so that new names in it survive a power cut.

    Raises: OSError if that fails.
    """
    if os.name == "nt":  # directories cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stem(target: Path) -> str:
    """The beginning of the names of a target's parts."""
    return os.fsencode(f".{target.name}")[:_LONGEST_STEM].decode("utf-8", "ignore")
