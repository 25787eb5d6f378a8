"""Files of a batch, on this machine's disks and in stores that have URLs, which fsspec asks."""

from __future__ import annotations

import concurrent.futures
import contextlib
import math
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from srflow_apps.batch.url_paths import UrlPath
from srflow_sdk.errors import ArgumentError, CancelledError, ImageError, MissingExtraError, SRFlowError
from srflow_sdk.system.interrupts import abandonable
from srflow_sdk.system.local_files import remove_stale_parts

_T = TypeVar("_T")

_SILENT_S = 60.0
"""How long a web server may send nothing."""

_GRACE_S = 1.0  # for an upload that has begun when the caller cancels

_WHOLE = ("s3", "gs", "abfs", "oss")
"""Protocols of stores where an upload appears only when it is complete. They have no folders and no renaming."""

_READ_ONLY = ("http", "https")
_PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "sftp": "paramiko",
    **dict.fromkeys(("abfs", "adl"), "adlfs"),
    **dict.fromkeys(_READ_ONLY, "aiohttp"),
}
_UNREACHABLE = ("EndpointConnectionError", "ConnectTimeoutError", "ClientConnectorError", "ConnectionClosedError")
_NO_ACCESS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "Forbidden")


def check_written(path: UrlPath) -> None:
    """Raises: ArgumentError if nothing can be written to such URLs."""
    if path.scheme in _READ_ONLY:
        raise ArgumentError(f"{path}: {path.scheme}:// can only be read; name a path or another URL for outputs")


def is_folder(path: Path) -> bool:
    """True if it is a folder, as far as can be seen. Raises: ImageError if a URL's store does not answer."""
    if isinstance(path, UrlPath):
        return path.scheme not in _READ_ONLY and _asked(path, lambda store: bool(store.isdir(_key(path))))
    try:
        return path.is_dir()
    except OSError:  # a parent folder cannot be entered
        return False


def exists(path: Path) -> bool:
    """True if something has this name, even a link to nowhere. Raises: ImageError if a URL's store does not answer."""
    if isinstance(path, UrlPath):
        return _asked(path, lambda store: bool(store.exists(_key(path))))
    return os.path.lexists(path)


def file_names(folder: UrlPath, *, recursive: bool) -> list[PurePosixPath]:
    """Names inside the folder of all its files that are not hidden, and, if `recursive`, of those in subfolders.

    Raises: ImageError, also for a name that is no path, such as "a//b.png".
    """
    top = _key(folder).rstrip("/") + "/"
    depth = None if recursive else 1
    found = _asked(folder, lambda store: list(store.find(top, maxdepth=depth)), "the folder cannot be listed")
    names = []
    for key in found:
        text = str(key)[len(top) :]
        if not text or text.endswith("/"):
            continue  # what some programs put in the place of a folder
        name = PurePosixPath(text)
        if str(name) != text or ".." in name.parts:
            raise ImageError(f"{folder}: the name {text!r} is no path; rename this file in the store")
        if not any(part.startswith(".") for part in name.parts):
            names.append(name)
    return names


def fetch(path: UrlPath, local: Path) -> None:
    """Copy a file to this machine. Raises: ImageError, CancelledError."""

    def get(store: Any) -> None:
        store.get_file(_key(path), str(local))
        size = store.size(_key(path))
        if size is not None and size != local.stat().st_size:
            raise OSError("it changed, or the connection ended too early; try again")

    _asked(path, get, "the file cannot be read")


def put(local: Path, path: UrlPath) -> None:
    """Copy a file of this machine there. It appears whole, or not at all. Raises: ImageError, CancelledError."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")

    def whole(store: Any) -> None:
        store.put_file(str(local), _key(path))

    def in_parts(store: Any) -> None:
        try:
            store.put_file(str(local), _key(part))
            store.mv(_key(part), _key(path))
        except BaseException:
            with contextlib.suppress(Exception):
                store.rm_file(_key(part))
            raise

    if path.scheme in _WHOLE:
        _asked(path, whole, "the file cannot be written", grace_s=_GRACE_S)
    else:  # not left alone, or the part would stay
        _asked(path, in_parts, "the file cannot be written", grace_s=math.inf)


def check_folder(folder: UrlPath) -> None:
    """Find out before any work whether files can be put there, and make the folder if the store has folders.

    Raises: ImageError, ArgumentError, MissingExtraError.
    """
    check_written(folder)

    def check(store: Any) -> None:
        if folder.scheme not in _WHOLE:
            store.makedirs(_key(folder), exist_ok=True)
            return
        try:
            store.info(_key(UrlPath(*folder.parts[:2])))
        except FileNotFoundError as error:
            raise ImageError(f"{folder}: the bucket does not exist; create it, or name another") from error
        except PermissionError:  # some may write what they may not list
            probe = folder / f".srflow-{secrets.token_hex(4)}"
            store.pipe_file(_key(probe), b"")
            with contextlib.suppress(Exception):
                store.rm_file(_key(probe))

    _asked(folder, check, "nothing can be written there")


def _store(path: UrlPath) -> Any:
    """The file system of fsspec for a URL. Raises: MissingExtraError, ArgumentError."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError(f'{path}: URLs need fsspec; run: pip install "srflow-sdk[cloud]"') from error
    try:
        return fsspec.url_to_fs(path.whole, use_listings_cache=False, **_web(path))[0]
    except ImportError as error:
        package = _PACKAGES.get(path.scheme)
        fix = str(error) if package is None else f"run: pip install {package}"
        raise MissingExtraError(f"{path}: {path.scheme}:// needs a package that is not installed; {fix}") from error
    except ValueError as error:
        if "not known" not in str(error):
            raise ImageError(f"{path}: {path.without_secrets(str(error))}") from error
        known = ", ".join(f"{name}://" for name in ("file", "s3", "gs", "abfs", "sftp", "https"))
        raise ArgumentError(f"{path}: {path.scheme}:// is not known; among those that are known are {known}") from error


def _web(path: UrlPath) -> dict[str, Any]:
    """Options of a web server's store: it may take as long as it sends something. fsspec's own limit is 5 minutes."""
    if path.scheme not in _READ_ONLY:
        return {}
    import aiohttp

    return {
        "client_kwargs": {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=_SILENT_S, sock_read=_SILENT_S)}
    }


def _key(path: UrlPath) -> str:
    """The store's own name for the file."""
    return str(_store(path)._strip_protocol(path.whole))


def _asked(path: UrlPath, ask: Callable[[Any], _T], what: str | None = None, *, grace_s: float = 0.0) -> _T:
    """Return ask(store), with its errors as the SDK's: stores raise exceptions that have no common base.

    A signal, or the event of :func:`cancelled_by` and then `grace_s` seconds, ends the waiting: stores may be silent.
    """
    try:
        return abandonable(lambda: ask(_store(path)), grace=grace_s)
    except concurrent.futures.CancelledError as error:
        raise CancelledError("cancelled by the caller") from error
    except SRFlowError:
        raise
    except Exception as error:
        said = f"{path}: " if what is None else f"{path}: {what}: "
        raise ImageError(f"{said}{path.without_secrets(_reason(error, path))}") from error


def _reason(error: Exception, path: UrlPath) -> str:
    import asyncio  # which takes long, and no path needs it

    text, kind = str(error).strip(), type(error).__name__
    if "credentials" in text.lower() or "Credentials" in kind:
        fix = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE" if path.scheme == "s3" else ""
        return f"there are no credentials ({text}); {fix or 'log in with the tool of this store'}"
    if isinstance(error, FileNotFoundError):
        return "the bucket does not exist" if "bucket" in text.lower() else "there is no such file or bucket"
    if isinstance(error, PermissionError) or any(name in text for name in _NO_ACCESS):
        return f"access is denied ({text or kind}); check the credentials and what they allow"
    if isinstance(error, asyncio.TimeoutError):
        return f"the store does not answer ({text or kind}); try again later"
    if kind in _UNREACHABLE or isinstance(error, ConnectionError):
        other = ", or AWS_ENDPOINT_URL" if path.scheme == "s3" else ""
        return f"the store cannot be reached ({text or kind}); check the network{other}"
    return getattr(error, "strerror", None) or text or kind


_URLS: dict[str, str] = {}  # by the local file that stands for each just now


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Path]:
    """A local file with this content and the same bare name, while the block runs. Its ImageErrors name the path."""
    if not isinstance(path, UrlPath):
        yield path
        return
    with _folder() as folder:
        local = Path(folder) / path.name
        fetch(path, local)
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
            put(local, url)


def make_folders(folders: Iterable[Path]) -> None:
    """Create folders, and check that buckets exist. Raises: ImageError if one cannot be written to."""
    for folder in sorted(
        dict.fromkeys(folders), key=lambda folder: isinstance(folder, UrlPath)
    ):  # those on this machine first
        if isinstance(folder, UrlPath):
            check_folder(folder)
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
