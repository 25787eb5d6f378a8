"""How this project writes docstrings, as Markdown, for griffe, which mkdocstrings reads code with.

image: what to enlarge …            becomes a paragraph that begins with the name in bold
Raises: ImageError …                likewise
Args:, and lines below it           become such paragraphs under the word in bold;
                                    so do Returns: and Raises:
Example:, and lines below it        become the word in bold, and code
:class:`Upscaler`, :meth:`~a.b`     become code: `Upscaler`, `b`
"""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_ROLE = re.compile(r":[a-z]+:`(?:~(?:[\w.]*\.)?)?([^`]+)`")
_SUBJECT = re.compile(
    r"^((?:[A-Za-z_0-9]+)(?:, [A-Za-z_0-9]+)*|Raises|Returns|Source): (?=\S)", re.MULTILINE
)


_SECTION = re.compile(r"^(Args|Returns|Raises):\n((?:    .*(?:\n|$))+)", re.MULTILINE)


def as_markdown(docstring: str) -> str:
    """A docstring with its roles as code and each of its subjects as a paragraph."""
    flat = _SECTION.sub(lambda found: f"**{found[1]}**\n\n{textwrap.dedent(found[2])}", docstring)
    flat = re.sub(r"^Example:\n(?=    )", "**Example**\n\n", flat, flags=re.MULTILINE)
    return _SUBJECT.sub(r"\n**\1**: ", _ROLE.sub(r"`\1`", flat))


class PlainDocstrings(griffe.Extension):
    """Rewrites every docstring that is loaded."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Griffe has read an object."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
