"""Tables in the pages of speed and memory: each stands between two markers, on one of PAGES.

docs/performance.json has what they are made of.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = (DOCS / "performance.md", DOCS / "notes" / "cpu-speed.md")
_BEGIN, _END = "<!-- make bench: {} -->", "<!-- end of {} -->"


class MarkerError(Exception):
    """No page has a part's markers; the message says which, and how to fix it."""


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


def with_parts(pages: Mapping[Path, str], texts: Mapping[str, str]) -> dict[Path, str]:
    """The pages with other tables, each on the page that has its markers. Raises: MarkerError."""
    changed = dict(pages)
    for name, text in texts.items():
        begin, end = _BEGIN.format(name), _END.format(name)
        page = next((page for page, source in changed.items() if name in parts_of(source)), None)
        if page is None:
            names = " or ".join(page.name for page in pages)
            raise MarkerError(f'no lines "{begin}" and "{end}" in {names}: add both where the tables should stand')
        before, _, rest = changed[page].partition(begin)
        changed[page] = before + marked(name, text) + rest.partition(end)[2]
    return changed


def write_parts(texts: Mapping[str, str], pages: Sequence[Path] = PAGES) -> None:
    """Write tables into the pages. Raises: MarkerError, before anything is written."""
    sources = {page: page.read_text(encoding="utf-8") for page in pages}
    for page, source in with_parts(sources, texts).items():
        if source != sources[page]:
            write_whole(page, source)


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
