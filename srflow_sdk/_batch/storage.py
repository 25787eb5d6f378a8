"""Where the files of a batch are: on this machine's disks, or, by another :class:`Storage`, elsewhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from srflow_sdk._files import remove_stale_parts
from srflow_sdk.errors import ImageError


class Storage(Protocol):
    """Gives the pictures of a batch as local files, and takes finished ones. Thread-safe; can be pickled.

    Raises: OSError or ImageError for a file that cannot be read or written, which concerns that file alone.
    """

    def reading(self, path: Path) -> AbstractContextManager[Path]:
        """A local file with this content and the same bare name, while the block runs."""

    def writing(self, targets: Sequence[Path]) -> AbstractContextManager[Sequence[Path]]:
        """Local paths to write, with the same bare names. The targets appear if the block ends without an exception."""

    def exists(self, target: Path) -> bool:
        """Whether something has this name, even a link to nowhere."""

    def make_folders(self, folders: Iterable[Path]) -> None:
        """Create folders that do not exist. Raises: ImageError if one cannot be written to."""

    def remove_leftovers(self, targets: Iterable[Path]) -> None:
        """Delete what killed runs left of these targets."""


@contextlib.contextmanager
def reading(storage: Storage, path: Path) -> Iterator[Path]:
    """:meth:`Storage.reading`, with errors of the block that call the file by its own name."""
    with storage.reading(path) as local, _renamed([(local, path)]):
        yield local


@contextlib.contextmanager
def writing(storage: Storage, targets: Sequence[Path]) -> Iterator[Sequence[Path]]:
    """:meth:`Storage.writing`, with errors of the block that call the files by their own names."""
    with storage.writing(targets) as local, _renamed(list(zip(local, targets, strict=True))):
        yield local


@contextlib.contextmanager
def _renamed(names: Sequence[tuple[Path, Path]]) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        line = str(error)
        for local, path in names:
            line = line.replace(str(local), str(path))
        if line == str(error):
            raise
        raise ImageError(line) from error


class LocalStorage:
    """The disks of this machine: files are read where they are, and :class:`ImageWriter` renames them into place."""

    @contextlib.contextmanager
    def reading(self, path: Path) -> Iterator[Path]:
        """The file itself."""
        yield path

    @contextlib.contextmanager
    def writing(self, targets: Sequence[Path]) -> Iterator[Sequence[Path]]:
        """The targets themselves."""
        yield targets

    def exists(self, target: Path) -> bool:
        """Whether something has this name, even a link to nowhere."""
        return os.path.lexists(target)

    def make_folders(self, folders: Iterable[Path]) -> None:
        """Create folders that do not exist. Raises: ImageError if one cannot be written to."""
        for folder in dict.fromkeys(folders):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ImageError(f"the directory {folder} cannot be created: {error.strerror or error}") from error
            if not os.access(folder, os.W_OK):
                raise ImageError(f"the directory {folder} is not writable; name another, or change its permissions")

    def remove_leftovers(self, targets: Iterable[Path]) -> None:
        """Delete what killed runs left of these targets."""
        remove_stale_parts(*targets)
