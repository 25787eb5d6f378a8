"""URLs in the place of paths: `s3://bucket/photos`. Nothing here touches a store, or imports what does."""

from __future__ import annotations

import os
import re
from pathlib import Path, PosixPath

from srflow_sdk.errors import ArgumentError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)  # two letters at least: C:// is a disk
_WITHOUT_HOST = ("memory",)


class UrlPath(PosixPath):
    """A place in a store, which folders and names are taken from as from any path. `str` gives the URL.

    Only :mod:`srflow_sdk._batch.cloud` can open it: to the operating system it is a file that does not exist.
    """

    def __str__(self) -> str:
        """The URL."""
        scheme, colon, rest = super().__str__().partition(":/")
        return f"{scheme}://{rest}" if colon else scheme

    @property
    def scheme(self) -> str:
        """The protocol, such as "s3"."""
        return self.parts[0].removesuffix(":").lower()


def as_path(text: str | os.PathLike[str]) -> Path:
    """The path, or the URL, that a user named. A `file://` URL is a path.

    Raises: ArgumentError for a URL that names no place in a store.
    """
    if isinstance(text, UrlPath):
        return text
    match = _URL.fullmatch(os.fspath(text))
    if match is None:
        return Path(text)
    scheme, rest = match[1].lower(), match[2]
    if scheme == "file":
        if not rest.startswith("/"):
            raise ArgumentError(f"{text} is not the URL of a local file; write file:///folder/photo.jpg, or a path")
        return Path(rest)
    if os.name != "posix":
        raise ArgumentError(f"{text}: URLs are supported on Linux and macOS only; copy the files to a disk")
    if not rest.strip("/"):
        raise ArgumentError(f"{text} names no place; write {scheme}://bucket/folder")
    if rest.startswith("/") and scheme not in _WITHOUT_HOST:
        raise ArgumentError(f"{text} names no bucket or host; write {scheme}://bucket/folder")
    return UrlPath(f"{scheme}:/{rest.lstrip('/')}")
