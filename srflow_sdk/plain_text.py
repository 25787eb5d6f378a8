"""Texts from others: which may reach terminals, file names and metadata, and how the rest is shown.

A URL has one form without its secrets: passwords, and the queries of http:// and https://, which
may be signatures. It is what is shown, compared and recorded; only what opens a URL needs the rest.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable

# Control characters (ANSI escapes begin with one), line separators, marks that reorder text, and
# halves of surrogate pairs, which cannot be written as UTF-8.
_ODD = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

WITH_QUERY = ("http", "https", "grpc", "grpcs")  # the protocols whose URLs have a query
QUERY = re.compile(r"\?[\w.-]*=")  # how one begins

# In the texts of others: also with no slash, with one, as pathlib writes a URL, or with three.
# Linear in the length.
_IN_TEXT = re.compile(
    r"([a-z][a-z0-9+.-]{1,20}:/{2,}|\b(?:https?|s?ftp|s3a?|gc?s):/?)([^\s/]*@)?([^\s?#'\"<>]*)([?#][^\s'\"<>]*)?",
    re.IGNORECASE,
)
_PUNCTUATION = ":;,.)]"  # after a URL, as little of which is its own


def is_plain(text: str) -> bool:
    """True for a text of one line that any terminal shows as it is."""
    return _ODD.search(text) is None


def printable(text: str) -> str:
    """Make a text safe for people and terminals, without secrets of URLs."""
    return _ODD.sub("\N{REPLACEMENT CHARACTER}", without_secrets(text))


def command_line(words: Iterable[str]) -> str:
    """A command as this system's shell takes it: Windows' knows no single quotes."""
    if os.name == "nt":
        from subprocess import list2cmdline

        return list2cmdline(words)
    return shlex.join(words)


def short(value: object) -> str:
    """An odd value as an error line shows it: its repr, but no more than 40 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # an integer of thousands of digits, or a deeply nested list
        return f"a huge {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:39]}…"


def without_secrets(text: str) -> str:
    """A text in which every URL has no password and, if it is one of http or https, no query."""

    def shown(match: re.Match[str]) -> str:
        begin = match[1]
        middle = match[3]
        query = match[4] or ""
        scheme = begin.rstrip(":/").lower()
        user = match[2] or ""
        if user:  # on the web, it may be a token
            user = "" if scheme in WITH_QUERY else f"{user.removesuffix('@').partition(':')[0]}@"
        if scheme in WITH_QUERY or QUERY.match(query):
            query = query[len(query.rstrip(_PUNCTUATION)) :]
        return f"{begin}{user}{middle}{query}"

    return _IN_TEXT.sub(shown, text)
