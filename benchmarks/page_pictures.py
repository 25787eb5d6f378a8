"""Photograph the project's pages as a browser shows them, for the docs.

    python benchmarks/page_pictures.py report OUT/report.html docs/images/report.jpg
    python benchmarks/page_pictures.py demo data/unseen/chelsea.png docs/images/demo
    python benchmarks/page_pictures.py web data/unseen/chelsea.png docs/images/web.jpg

The report is of `srflow-eval report -o OUT`, the demo is srflow-demo, the web page examples/web.

It needs Chromium (`apt install chromium`) and the developers' tools.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[1]
GAP = 24
PHONE = 390

Colours = Literal["light", "dark"]


def shoot_report(browser: Browser, page: Path, target: Path) -> None:
    """The report's crops, wide and in the dark on a phone."""
    shots = []
    for width, colours in ((1100, "light"), (PHONE, "dark")):
        tab = _tab(browser, width, 720, colours)
        tab.goto(page.resolve().as_uri())
        tab.evaluate("document.querySelector('.crops').scrollIntoView()")
        shots.append(_shot(tab))
    _save(_join(shots), target)


def shoot_demo(browser: Browser, photo: Path, folder: Path) -> None:
    """srflow-demo with its eight samples: in light and dark colours, and on a phone."""
    command = [str(Path(sys.executable).with_name("srflow-demo")), "--port", "0"]
    with _serve(command) as address:

        def opened(width: int, height: int, colours: Colours) -> Page:
            tab = _tab(browser, width, height, colours)
            tab.goto(address)
            tab.locator(".sf-photo input[type=file]").first.set_input_files(photo)
            tab.locator(".sf-strip button").nth(7).wait_for()
            tab.wait_for_timeout(3000)
            return tab

        _save(_shot(opened(1100, 900, "light"), whole=True), folder / "desktop_light.jpg")
        tab = opened(1100, 720, "dark")
        tab.get_by_role("button", name="Uncertainty").click()
        tab.wait_for_timeout(2000)
        _save(_shot(tab, whole=True), folder / "desktop_dark.jpg")
        upper = _shot(opened(PHONE, 812, "light"))
        tab = opened(PHONE, 812, "dark")
        tab.evaluate("document.querySelector('.sf-slide').scrollIntoView()")
        _save(_join([upper, _shot(tab)]), folder / "phone.jpg")


def shoot_web_page(browser: Browser, photo: Path, target: Path) -> None:
    """examples/web with a part of a photo, wide and in the dark on a phone."""
    with _serve(["node", str(ROOT / "examples/web/serve.mjs"), "--port", "0"]) as address:
        shots = []
        for width, colours in ((1100, "light"), (PHONE, "dark")):
            tab = _tab(browser, width, 980, colours)
            tab.goto(address)
            tab.locator(".sf-photo input").set_input_files(photo)
            tab.locator("#status").filter(has_text=re.compile(r" in [\d.]+ s ")).wait_for()
            shots.append(_shot(tab))
    _save(_join(shots), target)


@contextlib.contextmanager
def _serve(command: Sequence[str]) -> Iterator[str]:
    """The address that the server prints first, while it runs."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = next(
                (word for word in server.stdout.readline().split() if word.startswith("http")), None
            )
            if address is None:
                sys.exit("error: the server did not start, as it says above")
            yield address
        finally:
            server.terminate()


def _tab(browser: Browser, width: int, height: int, colours: Colours) -> Page:
    tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme=colours)
    tab.set_default_timeout(120_000)
    return tab


def _shot(tab: Page, *, whole: bool = False) -> Image.Image:
    return Image.open(io.BytesIO(tab.screenshot(full_page=whole))).convert("RGB")


def _join(shots: Sequence[Image.Image]) -> Image.Image:
    width = sum(shot.width for shot in shots) + GAP * (len(shots) - 1)
    picture = Image.new("RGB", (width, max(shot.height for shot in shots)), "white")
    left = 0
    for shot in shots:
        picture.paste(shot, (left, 0))
        left += shot.width + GAP
    return picture


def _save(picture: Image.Image, target: Path) -> None:
    picture.save(target, quality=90)
    print(f"{target}: {picture.width}×{picture.height}")


def main() -> None:
    """Open the browser and draw what was asked for."""
    pages: dict[str, Any] = {"report": shoot_report, "demo": shoot_demo, "web": shoot_web_page}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", choices=pages)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("error: no Chromium on this machine: apt install chromium")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=sandbox)
        pages[arguments.page](browser, arguments.source, arguments.target)
        browser.close()


if __name__ == "__main__":
    main()
