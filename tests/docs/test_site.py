"""The site: every link leads somewhere, and reading it asks nobody outside."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from docs.site.navigation import navigation
from docs.site.staging import BrokenLinkError, Staging
from tests.chromium import CHROMIUM, running_chromium

from .pages import ROOT

GENERATED = ("reference/commands.md", "reference/srflow_sdk.md", "reference/srflow_training.md")
# Elements that a browser fetches by itself, and the attribute that says from where.
FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """Anchors of a page, its links, and what a browser fetches for it."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in FETCHED and FETCHED[tag] in values and values.get("rel") not in ("canonical", "prev", "next"):
            self.fetched.append(values[FETCHED[tag]])


def test_links_between_pages_and_to_files_lead_somewhere(tmp_path: Path) -> None:
    staging = Staging(tmp_path)
    staging.pages |= {f"docs/{name}": name for name in GENERATED}
    staging.add_repository()  # raises BrokenLinkError, which names them
    _, settings, shown = (tmp_path / "source/srflow_sdk/latents/random_field.py.md").read_text().split("---\n", 2)
    assert yaml.safe_load(settings) == {"search": {"exclude": True}}
    assert shown.startswith("# `srflow_sdk/latents/random_field.py`")


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    staging = Staging(tmp_path)
    staging.pages["docs/a.md"] = "a.md"
    moved = staging.moved(
        "[one](a.md#x) [two](../README.md) [three](none.md)\n<!-- not run: x y -->\n", "docs/b.md", "b.md"
    )
    assert moved == "[one](a.md#x) [two](source/README.md.md) [three](none.md)\n"
    with pytest.raises(BrokenLinkError, match=re.escape("docs/b.md: there is no none.md")):
        staging.add_repository()


def test_a_new_page_is_in_the_menu_without_being_named() -> None:
    menu = navigation(["index.md", "new.md", "source/x.md", "notes/x.md", "reference/commands.md"])
    assert menu == [{"Start": ["index.md"]}, {"Reference": ["reference/commands.md"]}, {"More": ["new.md"]}]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """Every page of the site, built once."""
    pytest.importorskip("zensical", reason='zensical is not installed: pip install -e ".[docs]"')
    site = tmp_path_factory.mktemp("built") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "docs.site", "-o", str(site)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_docstrings_become_markdown() -> None:
    pytest.importorskip("griffe")
    from docs.site.docstrings import as_markdown

    text = "Do it.\n\nArgs:\n    image: what\n        more\n\nRaises:\n    Error: then.\n\nExample:\n    up(1)\n"
    raised = "**Raises**\n\n\n**Error**: then.\n\n**Example**\n\n    up(1)\n"
    wanted = f"Do it.\n\n**Args**\n\n\n**image**: what\n    more\n\n{raised}"
    assert as_markdown(text) == wanted


@pytest.mark.slow
class TestTheBuiltSite:
    def test_nothing_is_fetched_from_outside(self, pages: dict[Path, Page]) -> None:
        outside = {link for page in pages.values() for link in page.fetched if urlsplit(link).netloc}
        assert not outside
        (front,) = [path for path in pages if path.name == "index.html" and (path.parent / "site.css").is_file()]
        styles = list(front.parent.rglob("*.css"))
        assert len(styles) > 1
        assert not [path for path in styles if re.search(r"url\(['\"]?(https?:)?//", path.read_text(encoding="utf-8"))]

    def test_every_link_and_anchor_exists(self, pages: dict[Path, Page]) -> None:
        broken = []
        for path, page in pages.items():
            if path.name == "404.html":
                continue  # its links are made for any depth
            for link in page.links:
                parts = urlsplit(link)
                if parts.scheme or parts.netloc:
                    continue
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                if target.is_dir():
                    target /= "index.html"
                anchors = pages[target].anchors if target in pages else None
                if not target.exists() or (
                    parts.fragment and anchors is not None and unquote(parts.fragment) not in anchors
                ):
                    broken.append(f"{path.name}: {link}")
        assert not broken

    def test_reference_pages_have_every_command_and_public_name(self, pages: dict[Path, Page]) -> None:
        by_name = {path.name: page for path, page in pages.items()}
        assert {"srflow-upscale", "srflow-train", "srflow-eval"} <= by_name["commands.html"].anchors
        names = {
            "srflow_sdk.Upscaler",
            "srflow_sdk.Encoding",
            "srflow_sdk.ImageError",
            "srflow_sdk.triton.RemoteUpscaler",
        }
        assert names <= by_name["srflow_sdk.html"].anchors

    def test_the_search_finds_a_page_from_the_disk(self, pages: dict[Path, Page]) -> None:
        if CHROMIUM is None:
            pytest.skip("chromium is not installed")
        playwright = pytest.importorskip("playwright.sync_api")
        (front,) = [path for path in pages if path.name == "index.html" and (path.parent / "site.css").is_file()]
        with running_chromium() as browser:
            page = browser.new_page(viewport={"width": 390, "height": 844})
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.goto(front.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            page.keyboard.press("Control+k")
            page.wait_for_timeout(2000)  # on a busy machine the field takes letters long after it was asked for
            page.keyboard.type("scratches")
            for _ in range(20):  # results stand in a closed shadow tree: Enter opens the first, once there is one
                page.keyboard.press("Enter")
                with contextlib.suppress(playwright.TimeoutError):
                    page.wait_for_url("**/restoring.html*", timeout=500)
                    break
            assert "/restoring.html" in page.url
        assert not [url for url in asked if url.startswith("http")]
