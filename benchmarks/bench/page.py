"""Tables in docs/performance.md: each stands between two markers. docs/performance.json has what they are made of."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_BEGIN, _END = "<!-- make bench: {} -->", "<!-- end of {} -->"


class MarkerError(Exception):
    """The page lacks a part's markers; the message says which, and how to fix it."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; a | in a cell would end it, so it becomes a /."""
    lines = [head, *rows]
    if any(len(line) != len(head) for line in lines):
        raise ValueError("every row needs as many cells as the head")
    text = [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]
    return "\n".join([text[0], "|---" * len(head) + "|", *text[1:]])


def marked(name: str, text: str) -> str:
    """A part as it stands in the page."""
    return f"{_BEGIN.format(name)}\n{text}\n{_END.format(name)}"


def parts_of(page: str) -> dict[str, str]:
    """What stands between the markers, by name."""
    found = re.finditer(r"<!-- make bench: ([\w-]+) -->\n(.*?)\n?<!-- end of \1 -->", page, re.DOTALL)
    return {match[1]: match[2] for match in found}


def with_parts(page: str, texts: Mapping[str, str]) -> str:
    """The page with other tables. Raises: MarkerError."""
    present = parts_of(page)
    for name, text in texts.items():
        if name not in present:
            begin, end = _BEGIN.format(name), _END.format(name)
            raise MarkerError(f'the page has no lines "{begin}" and "{end}": add both where the tables should stand')
        before, _, rest = page.partition(_BEGIN.format(name))
        page = before + marked(name, text) + rest.partition(_END.format(name))[2]
    return page


def read_results(path: Path) -> dict[str, Any]:
    """Results by part; empty if there is no file yet."""
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write_whole(path: Path, text: str) -> None:
    """Replace a file at once, so that an interrupted run leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def dumped(results: Mapping[str, Any]) -> str:
    """JSON with figures of six digits: more would be noise in every commit."""
    rounded = json.loads(json.dumps(results), parse_float=lambda text: float(f"{float(text):.6g}"))
    return json.dumps(rounded, indent=1, ensure_ascii=False) + "\n"
