"""URLs and what of them is secret: passwords, and the queries of http:// and https://, which may be signatures.

A URL has one form without secrets. It is what is shown, compared and recorded; only what opens a URL needs the rest.
"""

from __future__ import annotations

import re

WITH_QUERY = ("http", "https", "grpc", "grpcs")
"""The protocols whose URLs have a query."""

QUERY = re.compile(r"\?[\w.-]*=")
"""How one begins."""

# In the texts of others: also as pathlib writes a URL, with one slash. Linear in the text's length.
_IN_TEXT = re.compile(
    r"([a-z][a-z0-9+.-]{1,20}://|\b(?:https?|s?ftp|s3a?|gc?s):/)([^\s/]*@)?([^\s?#'\"<>]*)([?#][^\s'\"<>]*)?",
    re.IGNORECASE,
)
_PUNCTUATION = ":;,.)]"  # after a URL, as little of which is its own


def public_user(scheme: str, user: str) -> str:
    """The part of a URL's user that may be shown: on the web, it may be a token. user: with its @, or empty."""
    return "" if scheme in WITH_QUERY or not user else f"{user.removesuffix('@').partition(':')[0]}@"


def without_secrets(text: str) -> str:
    """A text in which every URL has no password and, if it is one of http or https, no query."""

    def shown(match: re.Match[str]) -> str:
        begin, middle, query = match[1], match[3], match[4] or ""
        scheme = begin.rstrip(":/").lower()
        if scheme in WITH_QUERY or QUERY.match(query):
            query = query[len(query.rstrip(_PUNCTUATION)) :]
        return f"{begin}{public_user(scheme, match[2] or '')}{middle}{query}"

    return _IN_TEXT.sub(shown, text)
