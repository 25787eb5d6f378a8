"""URLs in the place of paths: `s3://bucket/photos`. Nothing here touches a store, or imports what does."""

from __future__ import annotations

import os
import re
from pathlib import Path, PosixPath
from urllib.parse import quote, unquote

from srflow_sdk.errors import ArgumentError
from srflow_sdk.system.plain_text import QUERY, WITH_QUERY, public_user, without_secrets

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)  # two letters at least: C:// is a disk
_HOST = re.compile(r"arn:[^@]*|\[[^\]@]*\](:\d*)?|[^:@\[\]]*(:\d*)?", re.DOTALL)
_ALIASES = {"s3a": "s3", "gcs": "gs", "az": "abfs", "abfss": "abfs", "ssh": "sftp"}  # one scheme for each kind of store
_PORTS = {"http": "80", "https": "443", "sftp": "22", "ftp": "21"}
_WITHOUT_HOST = ("memory",)
_NO_PASSWORDS = ("s3", "gs", "abfs", "oss")
_LOCAL = ("file", "local")  # fsspec's names of this machine's files


class UrlPath(PosixPath):
    """A place in a store, which folders and names are taken from as from any path. `str` gives the URL without secrets.

    Only :mod:`srflow_apps.batch.storage` can open it: to the operating system it is a file that does not exist. What
    opening needs besides, a password or a query, is in its second part, the host's, so that folders and names have it
    too, and it can be pickled.
    """

    def __str__(self) -> str:
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
        """A library's text without this URL's secrets, short ones as words alone, and without those of others."""
        user, _, query = self._host
        for secret in filter(None, (user, word := user.partition(":")[2].removesuffix("@"), unquote(word), query)):
            whole = rf"(?<!\w){re.escape(secret)}(?!\w)"  # or a letter would be cut from every word
            text = re.sub(whole, "", text) if len(secret) < 4 else text.replace(secret, "")
        return without_secrets(text)

    @property
    def _host(self) -> tuple[str, str, str]:
        """The user with an @, the host, and the query with its ?."""
        host, query = self.parts[1] if len(self.parts) > 1 else "", ""
        if self.scheme in WITH_QUERY:
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
    match = _URL.fullmatch(text)
    if match is None:
        return Path(text)
    scheme = _ALIASES.get(match[1].lower(), match[1].lower())
    if scheme in _LOCAL:
        if not match[2].startswith("/"):
            raise ArgumentError(f"{text} is not the URL of a local file; write file:///folder/photo.jpg, or a path")
        return Path(match[2])
    has_query = scheme in WITH_QUERY
    authority, rest = _cut(match[2], "/?#" if has_query else "/")
    path, query = _cut(rest, "?#") if has_query else (rest, "")
    user, at, host = authority.rpartition("@")
    if not _HOST.fullmatch(host):
        raise ArgumentError(
            f"{scheme}://…: what follows its colon is no port; in a name or password, write @ : / ? # as %40 %3A %2F "
            "%3F %23"
        )
    if scheme in _PORTS:
        host = host.lower().removesuffix(f":{_PORTS[scheme]}").removesuffix(":")
    public = public_user(scheme, user + at)
    shown = f"{scheme}://{public}{host}/{path.removeprefix('/')}"
    if not has_query and QUERY.search(path):
        raise ArgumentError(f"{without_secrets(shown)}: only http:// and https:// have a query; leave ?name=value out")
    if ".." in path.split("/"):
        raise ArgumentError(f"{shown}: a URL with .. may mean several places; write the place itself")
    if os.name != "posix":
        raise ArgumentError(f"{shown}: URLs are supported on Linux and macOS only; copy the files to a disk")
    if not (host + path).strip("/"):
        raise ArgumentError(f"{text} names no place; write {scheme}://bucket/folder")
    if not host and scheme not in _WITHOUT_HOST:
        raise ArgumentError(f"{shown} names no bucket or host; write {scheme}://bucket/folder")
    if public != user + at and scheme in _NO_PASSWORDS:
        raise ArgumentError(f"{shown}: {scheme}:// takes no password; set the variables that this store's tools read")
    query = f"?{quote(query, safe='', errors='surrogateescape')}" if query else ""
    return UrlPath(f"{scheme}:/{user}{at}{host}{query}/{path.removeprefix('/')}")


def _cut(text: str, ends: str) -> tuple[str, str]:
    """A text in two parts, cut before the first of these characters."""
    at = next((index for index, character in enumerate(text) if character in ends), len(text))
    return text[:at], text[at:]
