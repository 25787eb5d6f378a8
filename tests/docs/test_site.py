"""The site: every link leads somewhere, and reading it asks nobody outside."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from docs.site.staging import BrokenLinkError, Staging
from tests.chromium import CHROMIUM, running_chromium

from .pages import ROOT

GENERATED = ("reference/commands.md", "reference/srflow_sdk.md", "reference/srflow_training.md")
# What a browser fetches by itself from elsewhere.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|link rel="(?:stylesheet|icon)")[^>]* """
    r"""(?:src|href)="?(?:https?:)?//"""
)


def test_links_between_pages_and_to_files_lead_somewhere(tmp_path: Path) -> None:
    staging = Staging(tmp_path)
    staging.pages |= {f"docs/{name}": name for name in GENERATED}
    staging.add_repository()  # raises BrokenLinkError, which names them
    _, settings, shown = (
        (tmp_path / "source/srflow_sdk/latents/random_field.py.md").read_text().split("---\n", 2)
    )
    assert yaml.safe_load(settings) == {"search": {"exclude": True}}
    assert shown.startswith("# `srflow_sdk/latents/random_field.py`")


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    staging = Staging(tmp_path)
    staging.pages["docs/a.md"] = "a.md"
    moved = staging.moved(
        "[one](a.md#x) [two](../README.md) [three](none.md)\n<!-- not run: x y -->\n",
        "docs/b.md",
        "b.md",
    )
    assert moved == "[one](a.md#x) [two](source/README.md.md) [three](none.md)\n"
    with pytest.raises(BrokenLinkError, match=re.escape("docs/b.md: there is no none.md")):
        staging.add_repository()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built once; a link or an anchor that leads nowhere ends the build."""
    pytest.importorskip("zensical", reason='zensical is not installed: pip install -e ".[docs]"')
    site = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, "-m", "docs.site", "-o", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return site


@pytest.mark.slow
def test_reading_the_site_asks_nobody_outside_and_the_search_works_from_the_disk(
    site: Path,
) -> None:
    pages = {path.name: path.read_text("utf-8") for path in site.rglob("*.html")}
    styles = [path.read_text("utf-8") for path in site.rglob("*.css")]
    assert not [name for name, text in pages.items() if FETCHED.search(text)]
    assert len(styles) > 1
    assert not [text for text in styles if re.search(r"url\(['\"]?(https?:)?//", text)]
    anchors = set(re.findall(r' id="?([\w.-]+)', pages["commands.html"] + pages["srflow_sdk.html"]))
    assert {
        "srflow-upscale",
        "srflow-train",
        "srflow_sdk.Upscaler",
        "srflow_sdk.triton.RemoteUpscaler",
    } <= anchors
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with running_chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.keyboard.press("Control+k")
        # on a busy machine the field takes letters long after it was asked for
        page.wait_for_timeout(2000)
        # at once: while letters come, the results are those of the first ones
        page.keyboard.insert_text("halftone")
        # results stand in a closed shadow tree: Enter opens the only page, once it is found
        for _ in range(20):
            page.keyboard.press("Enter")
            with contextlib.suppress(playwright.TimeoutError):
                page.wait_for_url("**/restoring.html*", timeout=500)
                break
        assert "/restoring.html" in page.url
    assert not [url for url in asked if url.startswith("http")]
