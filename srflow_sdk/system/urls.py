"""URLs and what of them is secret: passwords, and the queries of http:// and https://, which may be signatures.

A URL has one form without secrets. It is what is shown, compared and recorded; only what opens a URL needs the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)  # two letters at least: C:// is a disk
_HOST = re.compile(r"arn:[^@]*|\[[^\]@]*\](:\d*)?|[^:@\[\]]*(:\d*)?", re.DOTALL)
_ALIASES = {"s3a": "s3", "gcs": "gs", "az": "abfs", "abfss": "abfs", "ssh": "sftp"}
_WITH_QUERY = ("http", "https", "grpc", "grpcs")
_PORTS = {"http": "80", "https": "443", "sftp": "22", "ftp": "21"}
_QUERY = re.compile(r"\?[\w.-]*=")

# In the texts of others: also as pathlib writes a URL, with one slash. Linear in the text's length.
_IN_TEXT = re.compile(
    r"([a-z][a-z0-9+.-]{1,20}://|\b(?:https?|s?ftp|s3a?|gc?s):/)([^\s/]*@)?([^\s?#'\"<>]*)([?#][^\s'\"<>]*)?",
    re.IGNORECASE,
)
_PUNCTUATION = ":;,.)]"  # after a URL, as little of which is its own


class BadUrlError(ValueError):
    """A text that begins as a URL is none that can be used; the message says why, without its secrets."""


@dataclass(frozen=True, kw_only=True)
class Url:
    """A URL in parts. scheme: one for each kind of store: s3a:// is s3://. path: without the first slash.

    user: with an @, or empty. secret: the user, the password and an @ where a password is needed, otherwise empty.
    query: with its ? or #.
    """

    scheme: str
    user: str
    host: str
    path: str
    secret: str = ""
    query: str = ""

    def __str__(self) -> str:
        """The form without secrets."""
        return f"{self.scheme}://{self.user}{self.host}/{self.path}"


def parse_url(text: str) -> Url | None:
    """Read a URL; None for what is a path, also of a local file's URL. Raises: BadUrlError."""
    match = _URL.fullmatch(text)
    if match is None or match[1].lower() == "file":
        return None
    scheme = _ALIASES.get(match[1].lower(), match[1].lower())
    has_query = scheme in _WITH_QUERY
    authority, rest = _cut(match[2], "/?#" if has_query else "/")
    user, at, host = authority.rpartition("@")
    if not _HOST.fullmatch(host):
        raise BadUrlError(
            f"{scheme}://…: what follows its colon is no port; in a name or password, write @ : / ? # as %40 %3A %2F "
            "%3F %23"
        )
    path, query = _cut(rest, "?#") if has_query else (rest, "")
    if scheme in _PORTS:
        host = host.lower().removesuffix(f":{_PORTS[scheme]}").removesuffix(":")
    public = public_user(scheme, user + at)
    secret = "" if public == user + at else user + at
    url = Url(scheme=scheme, user=public, host=host, path=path.removeprefix("/"), secret=secret, query=query)
    if not has_query and _QUERY.search(path):
        raise BadUrlError(f"{without_secrets(str(url))}: only http:// and https:// have a query; leave ?name=value out")
    if ".." in path.split("/"):
        raise BadUrlError(f"{url}: a URL with .. may mean several places; write the place itself")
    return url


def public_user(scheme: str, user: str) -> str:
    """The part of a URL's user that may be shown: on the web, it may be a token. user: with its @, or empty."""
    return "" if scheme in _WITH_QUERY or not user else f"{user.removesuffix('@').partition(':')[0]}@"


def without_secrets(text: str) -> str:
    """A text in which every URL has no password and, if it is one of http or https, no query."""

    def shown(match: re.Match[str]) -> str:
        begin, middle, query = match[1], match[3], match[4] or ""
        scheme = begin.rstrip(":/").lower()
        if scheme in _WITH_QUERY or _QUERY.match(query):
            query = query[len(query.rstrip(_PUNCTUATION)) :]
        return f"{begin}{public_user(scheme, match[2] or '')}{middle}{query}"

    return _IN_TEXT.sub(shown, text)


def _cut(text: str, ends: str) -> tuple[str, str]:
    """A text in two parts, cut before the first of these characters."""
    at = next((index for index, character in enumerate(text) if character in ends), len(text))
    return text[:at], text[at:]
