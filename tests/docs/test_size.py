"""The documentation stays small, and so does each of its pages; a change is one line of the changelog."""

from __future__ import annotations

import re

from .pages import ROOT

MOST_PAGES, MOST_WORDS, MOST_WORDS_OF_A_PAGE, LINE = 30, 38_000, 2000, 120
SLACK = 1.02  # so that a fix never needs a raise


def test_the_pages_are_few_and_short() -> None:
    pages = {path.relative_to(ROOT): len(path.read_text("utf-8").split()) for path in (ROOT / "docs").rglob("*.md")}
    assert len(pages) <= MOST_PAGES
    assert sum(pages.values()) <= MOST_WORDS * SLACK
    assert not {name for name, words in pages.items() if words > MOST_WORDS_OF_A_PAGE and "notes" not in name.parts}


def test_a_change_is_one_line() -> None:
    _, *releases = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line for release in releases for line in release.splitlines()[1:]]
    assert not [line for line in lines if line.startswith((" ", "\t"))]
    assert not [line for line in lines if line.startswith("- ") and len(line) > LINE]
