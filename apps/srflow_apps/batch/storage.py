"""Files of a batch, on this machine's disks and in stores that have URLs: `s3://bucket/photos`.
fsspec asks stores.

`--help` imports this module, and paths need no extra, so fsspec is imported for the first URL that
is opened.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PosixPath, PurePosixPath
from typing import Any, TypeVar

from srflow_sdk.errors import (
    ArgumentError,
    CancelledError,
    ImageError,
    MissingExtraError,
    SRFlowError,
)
from srflow_sdk.plain_text import QUERY, without_secrets
from srflow_sdk.system import local_files
from srflow_sdk.system.interrupts import abandonable

_T = TypeVar("_T")

_GRACE_S = 1.0  # for an upload that has begun when the caller cancels
_WRITTEN = ("s3", "gs", "abfs")  # stores where an upload appears when it is complete
_WEB = ("http", "https")
_SHOWN: dict[str, str] = {}  # by the temporary file that stands for each just now

# two letters at least: C:// is a disk
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_HOST = re.compile(r"arn:[^@]*|\[[^\]@]*\](:\d*)?|[^:@\[\]]*(:\d*)?", re.DOTALL)
# one scheme for each kind of store
_ALIASES = {"s3a": "s3", "gcs": "gs", "az": "abfs", "abfss": "abfs", "ssh": "sftp"}


class UrlPath(PosixPath):
    """A place in a store, of which folders and names are taken as of any path. `str` gives the URL.

    Its first part is the protocol with its colon, its second the host or bucket.
    """

    def __str__(self) -> str:
        return (
            f"{self.scheme}://{'/'.join(self.parts[1:])}"
            if len(self.parts) > 1
            else self.scheme or "."
        )

    @property
    def scheme(self) -> str:
        """The protocol, such as "s3"."""
        return (*self.parts, "")[0].removesuffix(":")


def as_path(text: str | os.PathLike[str]) -> Path:
    """The path, or the URL, that a user named. A `file://` or `local://` URL is a path.

    Raises: ArgumentError for a URL that names no place in a store, and for one with a password or a
        query.
    """
    match = None if isinstance(text, UrlPath) else _URL.fullmatch(os.fspath(text))
    if match is None:
        return text if isinstance(text, UrlPath) else Path(text)
    scheme = _ALIASES.get(match[1].lower(), match[1].lower())
    rest = match[2]
    if scheme in ("file", "local"):
        return Path(rest)
    user, _, host = rest.partition("/")[0].rpartition("@")
    url = without_secrets(f"{scheme}://{rest}")
    password = (
        "a URL has no password here; set the variables or files that this store's tools read, or "
        "pipe: curl …"
    )
    if ":" in user or (user and scheme in _WEB):
        raise ArgumentError(f"{scheme}://…: {password} | srflow-upscale - -o OUT")
    if not _HOST.fullmatch(host):
        raise ArgumentError(f"{scheme}://…: what follows its colon is no port, and {password}")
    if not rest.strip("/"):
        raise ArgumentError(f"{scheme}:// names no place; write {scheme}://bucket/folder")
    if not host:
        raise ArgumentError(f"{url} names no bucket or host; write {scheme}://bucket/folder")
    if QUERY.search(rest) or (scheme in _WEB and not {"?", "#"}.isdisjoint(rest)):
        raise ArgumentError(
            f"{url}: a URL has no query here; pipe the picture: curl 'URL' | srflow-upscale - -o "
            "OUT"
        )
    if os.name != "posix":
        raise ArgumentError(
            f"{url}: URLs are supported on Linux and macOS only; copy the files to a disk"
        )
    return UrlPath(f"{scheme}:/{rest}")


def check_written(path: UrlPath) -> None:
    """Raises: ArgumentError if nothing can be written to such URLs."""
    if path.scheme not in _WRITTEN:
        raise ArgumentError(
            f"{path}: {path.scheme}:// can only be read; name a path, or s3://, gs:// or abfs://"
        )


def check_bucket(folder: UrlPath) -> None:
    """Raises: ImageError if there is none, or if its store does not answer."""

    def check(store: Any, key: str) -> None:
        try:
            store.info(key.strip("/").split("/")[0])
        except FileNotFoundError as error:
            raise ImageError(
                f"{folder}: the bucket does not exist; create it, or name another"
            ) from error
        except PermissionError:  # some may write what they may not list
            return

    _ask_store(folder, check, "nothing can be written there")


def is_folder(path: Path) -> bool:
    """True if it is a folder, as far as can be seen. Raises: ImageError if a URL's store does not
    answer.
    """
    if isinstance(path, UrlPath):
        return path.scheme not in _WEB and _ask_store(
            path, lambda store, key: bool(store.isdir(key))
        )
    try:
        return path.is_dir()
    except OSError:  # a parent folder cannot be entered
        return False


def exists(path: Path) -> bool:
    """True if something has this name, even a link to nowhere. Raises: ImageError if a URL's store
    does not answer.
    """
    if isinstance(path, UrlPath):
        return _ask_store(path, lambda store, key: bool(store.exists(key)))
    return os.path.lexists(path)


def real_path(path: Path) -> Path:
    """The path with all links followed, as far as they lead."""
    return path if isinstance(path, UrlPath) else local_files.real_path(path)


def file_names(folder: UrlPath, *, recursive: bool) -> list[PurePosixPath]:
    """Names inside the folder of all its files that are not hidden, and, if `recursive`, of those
    in subfolders.
    """

    def list_names(store: Any, key: str) -> list[str]:
        top = key.rstrip("/") + "/"
        return [
            str(name)[len(top) :] for name in store.find(top, maxdepth=None if recursive else 1)
        ]

    texts = _ask_store(folder, list_names, "the folder cannot be listed")
    # or it stands for a folder
    names = [PurePosixPath(text) for text in texts if text and not text.endswith("/")]
    return [name for name in names if not any(part.startswith(".") for part in name.parts)]


def fetch(path: UrlPath, local: Path) -> None:
    """Copy a file to this machine. Raises: ImageError, CancelledError."""

    def get(store: Any, key: str) -> None:
        store.get_file(key, str(local))
        if store.size(key) not in (None, local.stat().st_size):
            raise OSError("it changed, or the connection ended too early; try again")

    _ask_store(path, get, "the file cannot be read")


def put(local: Path, path: UrlPath) -> None:
    """Copy a file of this machine there. It appears whole, or not at all. Raises: ImageError,
    CancelledError.
    """

    def upload(store: Any, key: str) -> None:
        store.put_file(str(local), key)

    _ask_store(path, upload, "the file cannot be written", grace_s=_GRACE_S)


def prepare_folders(targets: Iterable[Path]) -> None:
    """Make the folders of targets on this machine, and delete what killed runs left of these.
    Raises: ImageError.
    """
    local = [target for target in targets if not isinstance(target, UrlPath)]
    for folder in dict.fromkeys(target.parent for target in local):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(
                f"the directory {folder} cannot be created: {error.strerror or error}"
            ) from error
    local_files.remove_stale_parts(*local)


@contextlib.contextmanager
def read_locally(path: Path) -> Iterator[Path]:
    """A local file with this content and the same bare name, while the block runs. Its ImageErrors
    name the path.
    """
    if not isinstance(path, UrlPath):
        yield path
        return
    with _stand_for([path]) as (local,):
        fetch(path, local)
        yield local


@contextlib.contextmanager
def write_locally(targets: Sequence[Path]) -> Iterator[Sequence[Path]]:
    """Local paths to write, with the same bare names. URLs appear, each whole, if the block ends
    without an error.
    """
    if not any(isinstance(target, UrlPath) for target in targets):
        yield targets
        return
    with _stand_for(targets) as written:
        yield written
        for local, target in zip(written, targets, strict=True):
            if isinstance(target, UrlPath):
                put(local, target)


@contextlib.contextmanager
def _stand_for(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    """The paths, with files in a temporary folder for URLs, into which a store that was left may
    still write.
    """
    with tempfile.TemporaryDirectory(prefix="srflow-", ignore_cleanup_errors=True) as folder:
        local = [Path(folder) / path.name if isinstance(path, UrlPath) else path for path in paths]
        with show_files_as(
            {one: str(path) for one, path in zip(local, paths, strict=True) if one is not path}
        ):
            yield local


@contextlib.contextmanager
def show_files_as(names: Mapping[Path, str]) -> Iterator[None]:
    """Call temporary files by other names while the block runs: in its ImageErrors, and by
    :func:`shown`.
    """
    local = {str(path): name for path, name in names.items()}
    _SHOWN.update(local)
    try:
        yield
    except ImageError as error:
        raise ImageError(show_names(str(error))) from error
    finally:
        for path in local:
            del _SHOWN[path]


def show_names(line: str) -> str:
    """A line with the names that temporary files stand for."""
    for path, name in list(_SHOWN.items()):
        line = line.replace(path, name)
    return line


def _ask_store(
    path: UrlPath, ask: Callable[[Any, str], _T], what: str | None = None, *, grace_s: float = 0.0
) -> _T:
    """Return ask(store, the store's key for the path), with its errors as the SDK's: they have no
    common base.

    A signal, or the event of :func:`cancelled_by` and then `grace_s` seconds, ends the waiting:
    stores may be silent.
    """

    def call() -> _T:
        store = _store(path)
        return ask(store, str(store._strip_protocol(str(path))))

    try:
        return abandonable(call, grace=grace_s)
    except concurrent.futures.CancelledError as error:
        raise CancelledError("cancelled by the caller") from error
    except SRFlowError:
        raise
    except Exception as error:
        said = f"{path}: " if what is None else f"{path}: {what}: "
        raise ImageError(said + _reason(error, path)) from error


def _store(path: UrlPath) -> Any:
    """The file system of fsspec for a URL. Raises: MissingExtraError, ArgumentError, ImageError."""
    try:
        import fsspec

        return fsspec.url_to_fs(str(path), use_listings_cache=False)[0]
    except ImportError as error:
        if error.name == "fsspec":
            raise MissingExtraError(
                f'{path}: URLs need fsspec; run: pip install "srflow-sdk[cloud]"'
            ) from error
        raise MissingExtraError(
            f"{path}: a package is not installed: {error}"
        ) from error  # its name, by fsspec
    except ValueError as error:
        raise ArgumentError(
            f"{path}: {error}; known are s3://, gs://, abfs://, sftp://, https:// and more"
        ) from error


def _reason(error: Exception, path: UrlPath) -> str:
    text = str(error).strip()
    if isinstance(error, FileNotFoundError):
        return (
            "the bucket does not exist"
            if "bucket" in text.lower()
            else "there is no such file or bucket"
        )
    of_s3 = (
        " (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE) and AWS_ENDPOINT_URL"
        * (path.scheme == "s3")
    )
    said = (
        f"the store said {text or type(error).__name__}; check the network, and the "
        f"credentials{of_s3}"
    )
    return getattr(error, "strerror", None) or said  # such as that this disk is full
