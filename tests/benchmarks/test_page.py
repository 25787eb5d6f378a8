"""The tables of speed and memory: where they stand, and that nobody wrote them by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bench.page import (
    DOCS,
    PAGES,
    MarkerError,
    dumped,
    parts_of,
    read_results,
    table,
    write_parts,
    write_whole,
)
from benchmarks.bench.parts import AIMS, PARTS, texts


def test_the_pages_tables_are_those_that_the_figures_make() -> None:
    written = texts(read_results(DOCS / "performance.json"))
    found = [parts_of(page.read_text(encoding="utf-8")) for page in PAGES]
    assert {name: text for parts in found for name, text in parts.items()} == written
    assert sum(map(len, found)) == len(written), "a table stands on two pages"
    assert set(written) == {*(part.name for part in PARTS), AIMS}


ONE = """before
<!-- make bench: one -->
| old |
<!-- end of one -->
between
<!-- make bench: two -->
<!-- end of two -->
after
"""
OTHER = "<!-- make bench: other -->\n| old |\n<!-- end of other -->\n"


def test_only_what_stands_between_the_markers_changes(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    page.write_text(ONE, encoding="utf-8")
    other.write_text(OTHER, encoding="utf-8")
    write_parts({"one": r"| \1 new |", "two": "| other |", "other": "| new |"}, [page, other])
    assert parts_of(page.read_text(encoding="utf-8")) == {"one": r"| \1 new |", "two": "| other |"}
    assert other.read_text(encoding="utf-8") == OTHER.replace("old", "new")
    write_parts({"one": "| old |", "two": ""}, [page, other])
    assert page.read_text(encoding="utf-8") == ONE.replace("two -->\n<!--", "two -->\n\n<!--")


def test_a_part_without_markers_is_refused_with_the_lines_to_add(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(ONE, encoding="utf-8")
    with pytest.raises(MarkerError, match=r'no lines "<!-- make bench: three -->" and ".*" in page.md'):
        write_parts({"one": "| new |", "three": "| new |"}, [page])
    assert page.read_text(encoding="utf-8") == ONE


def test_a_table_has_a_cell_for_each_heading() -> None:
    assert table(["a", "b"], [["1", "x|y"]]) == "| a | b |\n|---|---|\n| 1 | x/y |"
    with pytest.raises(ValueError, match="as many cells"):
        table(["a", "b"], [["1"]])


def test_figures_are_kept_to_six_digits_and_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write_whole(path, dumped({"part": {"seconds": 1.23456789}}))
    assert read_results(path) == {"part": {"seconds": 1.23457}}
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\udc80")
    assert read_results(path) == {"part": {"seconds": 1.23457}}
    assert list(tmp_path.iterdir()) == [path]
