"""A page is short, and a change is one line."""

from __future__ import annotations

import re

import pytest

from .pages import ROOT

MOST_WORDS = 2000
LINE = 120
SHORT = sorted(["README.md", *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))])


@pytest.mark.parametrize("page", SHORT)
def test_a_page_is_short(page: str) -> None:
    words = len((ROOT / page).read_text(encoding="utf-8").split())
    assert words <= MOST_WORDS, f"{page} has {words} words: cut, or move what was measured on the way to docs/notes/"


def test_a_change_is_one_line() -> None:
    _, *releases = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line for release in releases for line in release.splitlines()[1:]]
    continued = [line for line in lines if line.startswith((" ", "\t"))]
    assert not continued, f"a change is one line of at most {LINE} characters; this one goes on: {continued[0].strip()}"
    long = [line for line in lines if line.startswith("- ") and len(line) > LINE]
    assert not long, f"a change is one line of at most {LINE} characters: {long[0]}"
