"""Files of a batch, wherever they are: paths on this machine, and URLs, whose files pass through a temporary folder.

An OSError or ImageError about a file that cannot be read or written concerns that file alone.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from srflow_apps.batch import cloud
from srflow_sdk.errors import ImageError
from srflow_sdk.system.atomic import remove_stale_parts
from srflow_sdk.system.url_paths import UrlPath

_URLS: dict[str, str] = {}  # by the local file that stands for each just now


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Path]:
    """A local file with this content and the same bare name, while the block runs. Its ImageErrors name the path."""
    if not isinstance(path, UrlPath):
        yield path
        return
    with _folder() as folder:
        local = Path(folder) / path.name
        cloud.fetch(path, local)
        with _standing_for({path: local}):
            yield local


@contextlib.contextmanager
def writing(targets: Sequence[Path]) -> Iterator[Sequence[Path]]:
    """Local paths to write, with the same bare names. URLs appear, each whole, if the block ends without an exception.

    ImageErrors of the block name the targets.
    """
    urls = [target for target in targets if isinstance(target, UrlPath)]
    if not urls:
        yield targets
        return
    with _folder() as folder:
        written = {url: Path(folder) / url.name for url in urls}
        with _standing_for(written):
            yield [written[target] if isinstance(target, UrlPath) else target for target in targets]
        for url, local in written.items():
            cloud.put(local, url)


def exists(target: Path) -> bool:
    """True if something has this name, even a link to nowhere."""
    return cloud.exists(target) if isinstance(target, UrlPath) else os.path.lexists(target)


def make_folders(folders: Iterable[Path]) -> None:
    """Create folders, and check that buckets exist. Raises: ImageError if one cannot be written to."""
    for folder in sorted(
        dict.fromkeys(folders), key=lambda folder: isinstance(folder, UrlPath)
    ):  # those on this machine first
        if isinstance(folder, UrlPath):
            cloud.check_folder(folder)
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(f"the directory {folder} cannot be created: {error.strerror or error}") from error
        if not os.access(folder, os.W_OK):
            raise ImageError(f"the directory {folder} is not writable; name another, or change its permissions")


def remove_leftovers(targets: Iterable[Path]) -> None:
    """Delete the parts of these targets that killed runs left on this machine's disks."""
    remove_stale_parts(*(target for target in targets if not isinstance(target, UrlPath)))


def with_urls(line: str) -> str:
    """A line about local files, with the URLs that these stand for."""
    for local, url in list(_URLS.items()):
        line = line.replace(local, url)
    return line


@contextlib.contextmanager
def _standing_for(local: dict[UrlPath, Path]) -> Iterator[None]:
    names = {str(path): str(url) for url, path in local.items()}
    _URLS.update(names)
    try:
        yield
    except ImageError as error:
        raise ImageError(with_urls(str(error))) from error
    finally:
        for name in names:
            del _URLS[name]


def _folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for copies. A store that was left while it answered may still write into it."""
    return tempfile.TemporaryDirectory(prefix="srflow-", ignore_cleanup_errors=True)
