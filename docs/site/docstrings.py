"""How this project writes docstrings, as Markdown: an extension of griffe, which mkdocstrings reads code with.

image: what to enlarge …            becomes a paragraph that begins with the name in bold
Raises: ImageError …                likewise
:class:`Upscaler`, :meth:`~a.b`     become code: `Upscaler`, `b`
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":[a-z]+:`(?:~(?:[\w.]*\.)?)?([^`]+)`")
_SUBJECT = re.compile(r"^((?:[a-z_0-9]+)(?:, [a-z_0-9]+)*|Raises|Returns|Source): (?=\S)", re.MULTILINE)


def as_markdown(docstring: str) -> str:
    """A docstring with its roles as code and each of its subjects as a paragraph."""
    return _SUBJECT.sub(r"\n**\1**: ", _ROLE.sub(r"`\1`", docstring))


class PlainDocstrings(griffe.Extension):
    """Rewrites every docstring that is loaded."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Griffe has read an object."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
