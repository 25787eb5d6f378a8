"""Input files that may change while libvips reads them: an error then, never a signal, a hang or mixed content."""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from srflow_sdk.errors import ImageError
from srflow_sdk.files import libvips
from srflow_sdk.system.local_files import open_regular

_BLOCK_BYTES = 1 << 20
_FAILED = -1  # what libvips expects of a read or seek that failed


class SteadyFile(AbstractContextManager["SteadyFile"]):
    """An open file, with its content as it was when it was opened. Close it, or use it as a context manager.

    libvips reads it through calls of ours and never maps it into memory, because a mapped file that becomes shorter
    ends the process by SIGBUS. Every read looks at the file's size and time, so a change ends the decoding at once.
    Files that are replaced by another under the same name are found by :meth:`check`.

    Raises: OSError if it cannot be opened or is not a regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_regular(path)
        self._lock = threading.Lock()
        self._stamp = _stamp(os.fstat(self._file.fileno()))
        self._sources: list[Any] = []  # libvips calls their handlers, which pyvips frees with them
        self._stopped = False
        self.error: OSError | None = None
        """The system's error that ended a read of libvips."""

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def size(self) -> int:
        return self._stamp[2]

    def close(self) -> None:
        """Close the file; libvips' later reads fail. Closing twice is harmless."""
        self._file.close()

    def stop(self) -> None:
        """Make the read of libvips that is under way, and all later ones, fail."""
        self._stopped = True

    def head(self, count: int) -> bytes:
        """Its first bytes. Raises: OSError."""
        head = bytearray(min(count, self.size))
        return bytes(head[: self._read_into(memoryview(head), 0)])

    def sha256(self) -> str:
        """The sha256 of its content, in 64 hexadecimal digits. Raises: OSError; ImageError if it has changed."""
        digest, block, at = hashlib.sha256(), memoryview(bytearray(_BLOCK_BYTES)), 0
        while count := self._read_into(block, at):
            digest.update(block[:count])
            at += count
        self.check()
        return digest.hexdigest()

    def check(self) -> None:
        """Raises: ImageError if the file has changed since it was opened, or another one has its name now.

        Once it was closed, what has its name now is all that it looks at.
        """
        try:
            steady = (self._file.closed or not self._changed()) and _stamp(self.path.stat()) == self._stamp
        except (OSError, ValueError):
            steady = False
        if not steady:
            raise ImageError(
                f"{self.path}: the file changed while it was read; try again when nothing writes to it any more"
            )

    def source_in_memory(self) -> Any:
        """A pyvips source of a copy of the content. Raises: OSError; ImageError if it has changed."""
        content = bytearray(self.size)
        self._read_into(memoryview(content), 0)
        self.check()
        source = libvips.pyvips().Source.new_from_memory(content)
        self._sources.append(source)
        return source

    def source(self) -> Any:
        """A pyvips source of the content. Keep this object for as long as images use it."""
        source = libvips.pyvips().SourceCustom()
        itself = weakref.ref(self)  # the handlers are kept by this object
        position = 0

        # pyvips' own handlers cannot report a failure: it would print a traceback, and libvips would see an end.
        def read(buffer: Any) -> int:
            nonlocal position
            file = itself()
            count = _FAILED if file is None else file._answer(memoryview(buffer), position)
            position += max(count, 0)
            return count

        def seek(offset: int, whence: int) -> int:
            nonlocal position
            starts = {os.SEEK_SET: 0, os.SEEK_CUR: position, os.SEEK_END: size}
            if whence not in starts or starts[whence] + offset < 0:
                return _FAILED
            position = starts[whence] + offset
            return position

        size = self.size
        source.signal_connect("read", read)
        source.signal_connect("seek", seek)
        self._sources.append(source)
        return source

    def _answer(self, buffer: memoryview, at: int) -> int:
        """Answer a read of libvips: the number of bytes, 0 at the end."""
        try:
            if self._stopped or self._changed():
                return _FAILED
            return self._read_into(buffer, at)
        except OSError as error:
            self.error = error
            return _FAILED
        except ValueError:  # it is closed
            return _FAILED

    def _read_into(self, buffer: memoryview, at: int) -> int:
        with self._lock:  # several readers share the file's position
            self._file.seek(at)
            return self._file.readinto(buffer)

    def _changed(self) -> bool:
        return _stamp(os.fstat(self._file.fileno())) != self._stamp


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    """A mark that tells two states of a file apart without reading it."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
