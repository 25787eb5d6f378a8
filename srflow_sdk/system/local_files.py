"""Files on this machine: what links lead to, opening those that others supply, and hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO


def real_path(path: Path) -> Path:
    """The absolute path with all links followed, as far as they lead; it need not exist. Raises nothing.

    ``Path.resolve`` raises for a link to itself: RuntimeError before Python 3.13, and OSError since.
    """
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # a NUL in its name: opening it says so
        return Path.cwd() / path


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read; links are followed. Raises: OSError, at once also for a FIFO, a device or a directory."""
    # Without O_NONBLOCK, opening a FIFO waits for somebody who writes to it.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, in 64 hexadecimal digits. Raises: OSError."""
    with path.open("rb") as file:
        return content_sha256(file)


def content_sha256(file: BinaryIO) -> str:
    """The sha256 of what an open file still holds, read in blocks. Raises: OSError."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
