"""The tables of docs/performance.md: where they stand, and that nobody wrote them by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bench.page import MarkerError, dumped, parts_of, read_results, table, with_parts, write_whole
from benchmarks.bench.parts import AIMS, PARTS, texts

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_s_tables_are_those_that_its_figures_make() -> None:
    written = texts(read_results(DOCS / "performance.json"))
    assert parts_of((DOCS / "performance.md").read_text(encoding="utf-8")) == written
    assert set(written) == {*(part.name for part in PARTS), AIMS}


PAGE = """before
<!-- make bench: one -->
| old |
<!-- end of one -->
between
<!-- make bench: two -->
<!-- end of two -->
after
"""


def test_only_what_stands_between_the_markers_changes() -> None:
    changed = with_parts(PAGE, {"one": r"| \1 new |", "two": "| other |"})
    assert parts_of(changed) == {"one": r"| \1 new |", "two": "| other |"}
    assert with_parts(changed, {"one": "| old |", "two": ""}) == PAGE.replace("two -->\n<!--", "two -->\n\n<!--")


def test_a_page_without_a_part_s_markers_is_refused_with_the_lines_to_add() -> None:
    with pytest.raises(MarkerError, match=r'no lines "<!-- make bench: three -->" and "<!-- end of three -->"'):
        with_parts(PAGE, {"three": "| new |"})


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
