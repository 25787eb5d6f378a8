"""URLs in the place of paths: `s3://bucket/photos`. Nothing here touches a store, or imports what does."""

from __future__ import annotations

import os
from pathlib import Path, PosixPath
from urllib.parse import quote, unquote

from srflow_sdk.errors import ArgumentError
from srflow_sdk.system.urls import BadUrlError, parse_url, public_user, without_secrets

_WITHOUT_HOST = ("memory",)
_NO_PASSWORDS = ("s3", "gs", "abfs", "oss")
_WITH_QUERY = ("http", "https")
_LOCAL = ("file", "local")  # fsspec's names of this machine's files


class UrlPath(PosixPath):
    """A place in a store, which folders and names are taken from as from any path. `str` gives the URL without secrets.

    Only :mod:`srflow_apps.batch.cloud` can open it: to the operating system it is a file that does not exist. What
    opening needs besides, a password or a query, is in its second part, the host's, so that folders and names have it
    too, and it can be pickled.
    """

    def __str__(self) -> str:
        """The URL without secrets."""
        return self._written(secret=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UrlPath) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def name(self) -> str:
        """The last part; of a host alone, the host."""
        return self._host[1] if len(self.parts) == 2 else super().name

    @property
    def key(self) -> str:
        """A key that is equal for all names of a place: without the password, but with the query."""
        return f"{self}{self._host[2]}"

    @property
    def scheme(self) -> str:
        """The protocol, such as "s3"."""
        return (*self.parts, "")[0].removesuffix(":")

    @property
    def whole(self) -> str:
        """The URL with all its secrets: for what opens it, and nothing else."""
        return self._written(secret=True)

    def without_secrets(self, text: str) -> str:
        """A library's text, without this URL's secrets and without those of others."""
        user, _, query = self._host
        password = user.partition(":")[2].removesuffix("@")
        for secret in filter(None, (user, password, unquote(password), query)):
            text = text.replace(secret, "")
        return without_secrets(text)

    @property
    def _host(self) -> tuple[str, str, str]:
        """The user with an @, the host, and the query with its ?."""
        host, query = self.parts[1] if len(self.parts) > 1 else "", ""
        if self.scheme in _WITH_QUERY:
            host, _, query = host.partition("?")
        user, at, host = host.rpartition("@")
        return user + at, host, unquote(query, errors="surrogateescape")

    def _written(self, *, secret: bool) -> str:
        if len(self.parts) < 2:
            return self.scheme or "."
        user, host, query = self._host
        if not secret:
            user, query = public_user(self.scheme, user), ""
        return f"{self.scheme}://{'/'.join((user + host, *self.parts[2:]))}{query}"


def as_path(text: str | os.PathLike[str]) -> Path:
    """The path, or the URL, that a user named. A `file://` or `local://` URL is a path.

    Raises: ArgumentError for a URL that names no place in a store.
    """
    if isinstance(text, UrlPath):
        return text
    text = os.fspath(text)
    begin, separator, rest = text.partition("://")
    if separator and begin.lower() in _LOCAL:
        if not rest.startswith("/"):
            raise ArgumentError(f"{text} is not the URL of a local file; write file:///folder/photo.jpg, or a path")
        return Path(rest)
    try:
        url = parse_url(text)
    except BadUrlError as error:
        raise ArgumentError(str(error)) from error
    if url is None:
        return Path(text)
    if os.name != "posix":
        raise ArgumentError(f"{url}: URLs are supported on Linux and macOS only; copy the files to a disk")
    if not (url.host + url.path).strip("/"):
        raise ArgumentError(f"{text} names no place; write {url.scheme}://bucket/folder")
    if not url.host and url.scheme not in _WITHOUT_HOST:
        raise ArgumentError(f"{url} names no bucket or host; write {url.scheme}://bucket/folder")
    if url.secret and url.scheme in _NO_PASSWORDS:
        raise ArgumentError(f"{url}: {url.scheme}:// takes no password; set the variables that this store's tools read")
    query = f"?{quote(url.query, safe='', errors='surrogateescape')}" if url.query else ""
    return UrlPath(f"{url.scheme}:/{url.secret or url.user}{url.host}{query}/{url.path}")
