"""docs/tables.py: what a command prints goes where its page says, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from docs import tables

PAGE = """# Page

<!-- printed by: measure a -->
| x |
|---|
| 1 |
<!-- end of table -->

Between.

<!-- printed by (table 2): measure a -->
| x |
|---|
| 2 |
<!-- end of table -->
<!-- printed by: measure b -->
| x |
|---|
| 3 |
<!-- end of table -->
"""
PRINTED = "note\n| y |\n|---|\n| 10 |\n\n| y |\n|---|\n| 20 |\nend | of | it\n"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE, encoding="utf-8")
    return path


def test_each_table_gets_its_own(page: Path) -> None:
    tables.replace_tables(page, "measure a", PRINTED)
    expected = PAGE.replace("| x |", "| y |", 2).replace("| 1 |", "| 10 |").replace("| 2 |", "| 20 |")
    assert page.read_text(encoding="utf-8") == expected
    assert [(table.command, table.number) for table in tables.tables_of(page)] == [
        ("measure a", 1),
        ("measure a", 2),
        ("measure b", 1),
    ]


def test_a_command_that_prints_too_little_changes_nothing(page: Path) -> None:
    with pytest.raises(click.ClickException, match="wants table 2 of 1"):
        tables.replace_tables(page, "measure a", "| y |\n|---|\n| 10 |\n")
    assert page.read_text(encoding="utf-8") == PAGE


def test_the_marked_tables_of_all_pages_are_whole() -> None:
    found = [table for path in tables.pages() for table in tables.tables_of(path)]
    assert found
    for table in found:
        assert tables.printed_tables(table.text) == [table.text], f"{table.page.name}: {table.command}"
    for path in tables.pages():
        begun = path.read_text(encoding="utf-8").count("<!-- printed by")
        assert begun == len(tables.tables_of(path)), f"{path.name}: a marker without its end"
