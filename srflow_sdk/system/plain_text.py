"""Texts from others: which may reach terminals, file names and metadata, and how the rest is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from srflow_sdk.system.urls import without_secrets

# Control characters (ANSI escapes begin with one), line separators, marks that reorder text, and halves of surrogate
# pairs, which cannot be written as UTF-8.
_ODD = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_LONG_TEXTS = "provenance.training."  # what a checkpoint says of its training, for example all settings as YAML


def is_plain(text: str) -> bool:
    """True for a text of one line that any terminal shows as it is."""
    return _ODD.search(text) is None


def printable(text: str) -> str:
    """A text for people, without what a terminal interprets, reorders or refuses, and without secrets of URLs."""
    return _ODD.sub("\N{REPLACEMENT CHARACTER}", without_secrets(text))


def short(value: object) -> str:
    """An odd value as an error line shows it: its repr, but no more than 40 characters."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integers of thousands of digits
        return "an integer of thousands of digits"
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:39]}…"


def first_odd_text(manifest: Mapping[str, Any]) -> str | None:
    """The place, such as "provenance.licence", of the first text in a manifest that is not plain; None: all are.

    Below provenance.training, texts may have several lines: nothing shows them. Keys of objects count too; the place of
    one that is odd is its object's.
    """
    waiting: list[tuple[str, Any]] = [("", dict(manifest))]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, str):
            lines = value.replace("\n", "").replace("\t", "") if place.startswith(_LONG_TEXTS) else value
            if not is_plain(lines):
                return place
        elif isinstance(value, dict):
            if not all(is_plain(key) for key in value):
                return place
            waiting += [(f"{place}.{key}".lstrip("."), entry) for key, entry in value.items()]
        elif isinstance(value, (list, tuple)):
            waiting += [(f"{place}[{index}]", entry) for index, entry in enumerate(value)]
    return None
