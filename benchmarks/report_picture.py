"""Photograph the page of `srflow-eval report -o OUT` as a browser shows it: its crops, wide and in the dark on a phone.

    python benchmarks/report_picture.py OUT/report.html docs/images/report.jpg

It needs Chromium (`apt install chromium`) and the developers' tools.
"""

import io
import os
import shutil
import sys
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

HEIGHT = 720
GAP = 24


def main() -> None:
    """Write the picture."""
    page, target = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("error: no Chromium on this machine: apt install chromium")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=sandbox)
        shots = [_shot(browser, page, 1100, "light"), _shot(browser, page, 390, "dark")]
        browser.close()
    picture = Image.new("RGB", (sum(shot.width for shot in shots) + GAP, HEIGHT), "white")
    left = 0
    for shot in shots:
        picture.paste(shot, (left, 0))
        left += shot.width + GAP
    picture.save(target, quality=90)
    print(f"{target}: {picture.width}×{picture.height}")


def _shot(browser: Browser, page: Path, width: int, scheme: Literal["light", "dark"]) -> Image.Image:
    tab = browser.new_page(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)
    tab.goto(page.as_uri())
    tab.evaluate("document.querySelector('.crops').scrollIntoView()")
    return Image.open(io.BytesIO(tab.screenshot())).convert("RGB")


if __name__ == "__main__":
    main()
