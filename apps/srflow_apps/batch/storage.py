"""Where the files of a batch are: on this machine's disks, or, by another :class:`Storage`, elsewhere."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from srflow_sdk.errors import ImageError
from srflow_sdk.system.atomic import remove_stale_parts
from srflow_sdk.system.url_paths import UrlPath


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


_URLS: dict[str, str] = {}  # by the local file that stands for each just now


def with_urls(line: str) -> str:
    """A line that was logged about local files, with the URLs that these stand for."""
    for local, url in list(_URLS.items()):
        line = line.replace(local, url)
    return line


@contextlib.contextmanager
def _standing_for(local: Mapping[UrlPath, Path]) -> Iterator[None]:
    names = {str(path): str(url) for url, path in local.items()}
    _URLS.update(names)
    try:
        yield
    finally:
        for name in names:
            del _URLS[name]


def _folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for copies. A store that was left while it answered may still write into it."""
    return tempfile.TemporaryDirectory(prefix="srflow-", ignore_cleanup_errors=True)


class Anywhere:
    """Paths as in :class:`LocalStorage`, and URLs, whose files pass through a temporary folder of this machine."""

    _local = LocalStorage()

    @contextlib.contextmanager
    def reading(self, path: Path) -> Iterator[Path]:
        """The file itself, or a copy of what has this URL."""
        if not isinstance(path, UrlPath):
            yield path
            return
        from srflow_apps.batch import cloud

        with _folder() as folder:
            local = Path(folder) / path.name
            cloud.fetch(path, local)
            with _standing_for({path: local}):
                yield local

    @contextlib.contextmanager
    def writing(self, targets: Sequence[Path]) -> Iterator[Sequence[Path]]:
        """The targets themselves, or files that are put there at the end, each whole."""
        urls = [target for target in targets if isinstance(target, UrlPath)]
        if not urls:
            yield targets
            return
        from srflow_apps.batch import cloud

        with _folder() as folder:
            written = {url: Path(folder) / url.name for url in urls}
            with _standing_for(written):
                yield [written[target] if isinstance(target, UrlPath) else target for target in targets]
            for url, local in written.items():
                cloud.put(local, url)

    def exists(self, target: Path) -> bool:
        """Whether something has this name."""
        if not isinstance(target, UrlPath):
            return self._local.exists(target)
        from srflow_apps.batch import cloud

        return cloud.exists(target)

    def make_folders(self, folders: Iterable[Path]) -> None:
        """Create folders, and check that buckets exist. Raises: ImageError if one cannot be written to."""
        folders = list(folders)
        self._local.make_folders(folder for folder in folders if not isinstance(folder, UrlPath))
        for folder in dict.fromkeys(folder for folder in folders if isinstance(folder, UrlPath)):
            from srflow_apps.batch import cloud

            cloud.check_folder(folder)

    def remove_leftovers(self, targets: Iterable[Path]) -> None:
        """Delete what killed runs left on this machine's disks; what they left in its temporary folder stays."""
        self._local.remove_leftovers(target for target in targets if not isinstance(target, UrlPath))


ANYWHERE = Anywhere()
"""Where the files of every batch are, unless it has a storage of its own."""
