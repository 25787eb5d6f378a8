"""The pages: their links lead somewhere, they stay few and short, and what architecture.md names
exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from docs import tables
from docs.pypi import pypi_page

from .pages import PAGES, ROOT, anchors, links


def broken(page: str, source: str) -> list[str]:
    """The links of a page that lead nowhere, each with the reason."""
    found = []
    for link in links(source):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        place = (ROOT / page).parent / unquote(parts.path) if parts.path else ROOT / page
        if not place.exists() or not place.resolve().is_relative_to(ROOT):
            found.append(f"{page}: there is no {unquote(link)}")
        elif parts.fragment and unquote(parts.fragment) not in _anchors(place, page, source):
            found.append(
                f"{page}: {unquote(link)}: no heading has this anchor, on GitHub and in the site"
            )
    return found


def _anchors(place: Path, page: str, source: str) -> set[str]:
    return anchors(source if place == ROOT / page else place.read_text("utf-8"))


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_and_anchors_of_a_page_lead_somewhere(page: str) -> None:
    wrong = broken(page, (ROOT / page).read_text("utf-8"))
    assert not wrong, "\n".join(wrong)


MOST_PAGES = 30
MOST_WORDS = 40_000
MOST_WORDS_OF_A_PAGE = 2000
SLACK = 1.02  # so that a fix never needs a raise


def test_the_pages_are_few_and_short() -> None:
    pages = {
        path.relative_to(ROOT): len(path.read_text("utf-8").split())
        for path in (ROOT / "docs").rglob("*.md")
    }
    assert len(pages) <= MOST_PAGES
    assert sum(pages.values()) <= MOST_WORDS * SLACK
    long = {
        name
        for name, words in pages.items()
        if words > MOST_WORDS_OF_A_PAGE * SLACK and "notes" not in name.parts
    }
    assert long <= {Path("docs/publication.md")}, "that one has a row for each statement"


def test_pypis_page_is_made_from_the_readme() -> None:
    made = pypi_page((ROOT / "README.md").read_text("utf-8"))
    assert (ROOT / "PYPI.md").read_text("utf-8") == made, "run python -m docs.pypi"


HOUSES = [ROOT, *(ROOT / name for name in ("srflow_sdk", "apps", "training", "export"))]


def test_every_file_and_folder_of_the_architecture_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"`([\w/.]+(?:/|\.(?:py|js|html|h|md|txt)))`", text))
    found = {path.relative_to(ROOT).as_posix() for house in HOUSES[1:] for path in house.rglob("*")}
    missing = {
        name
        for name in named
        if not (ROOT / name).exists()
        and not any(f"/{path}".endswith(f"/{name.rstrip('/')}") for path in found)
    }
    assert len(named) > 80
    assert not missing


def test_a_picture_passes_the_functions_of_its_path_in_their_order() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    path = text[text.index("## The path of an image") : text.index("## The path of a checkpoint")]
    steps = re.findall(r"^\|[^|]*\| `([\w/]+)\.py` `([a-z]\w+)` \|", path, re.MULTILINE)
    command = [sys.executable, str(ROOT / "benchmarks" / "path.py"), "--list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    passed = re.findall(r"^srflow_sdk\.([\w.]+)\.(\w+):\d+$", listed, re.MULTILINE)
    places = {name: passed.index((module.replace("/", "."), name)) for module, name in steps}
    assert len(steps) > 15
    drawn = places.pop("window_noise")  # by another thread, beside the encoder
    assert places["on_levels"] < drawn < places["sample"]
    assert list(places.values()) == sorted(places.values())


def test_the_marked_tables_of_all_pages_are_whole() -> None:
    found = [table for path in tables.pages() for table in tables.tables_of(path)]
    assert found
    for table in found:
        assert tables.printed_tables(table.text) == [table.text], (
            f"{table.page.name}: {table.command}"
        )
    for path in tables.pages():
        begun = path.read_text("utf-8").count("<!-- printed by")
        assert begun == len(tables.tables_of(path)), f"{path.name}: a marker without its end"
