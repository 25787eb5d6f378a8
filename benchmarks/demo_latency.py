"""How quickly the picture of srflow-demo follows its slider: in the server alone, and in a browser on the same machine.

    python benchmarks/demo_latency.py PHOTO [--runs 15] [--browser /usr/bin/chromium]

Needs the extra [demo], playwright and Chromium. "server" is the time to draw the crop's window and to compress its
picture. "browser" is the time from a key on the slider until the new picture is decoded in the page: "sliding" with
0.1 s between keys, "from rest" with 3 s, by when the eight samples are drawn and all is idle.
"""

from __future__ import annotations

import argparse
import io
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from srflow_sdk import Upscaler

SIDES = (256, 512)
WATCH = """() => {
  window.marks = [];
  document.addEventListener("keydown", () => marks.push(["key", performance.now()]), true);
  const after = document.querySelectorAll(".sf-layer img")[1];
  after.addEventListener("load", () => marks.push(["shown", performance.now()]));
}"""


def server_seconds(photo: Path, side: int, runs: int) -> float:
    """Median time of one sample of a crop with its halo, and of its PNG."""
    with Upscaler("x4-small", tile=None) as upscaler:
        window = side // upscaler.scale + 2 * upscaler.bundle.manifest.halo
        encoding = upscaler.encode(Image.open(photo).convert("RGB").crop((0, 0, window, window)))
        times = []
        for run in range(runs + 1):
            started = time.perf_counter()
            encoding.sample(tau=run / (runs + 1)).crop((0, 0, side, side)).save(io.BytesIO(), "PNG", compress_level=1)
            times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def browser_seconds(page: Any, side: int, runs: int, *, pause_s: float) -> float:
    """Median time from a key on the slider to the picture."""
    page.get_by_label(f"{side} × {side}").check()
    page.wait_for_timeout(6000)
    slider = page.locator("#tau")
    slider.focus()
    times = []
    for run in range(runs + 1):
        page.evaluate("marks.length = 0")
        page.keyboard.press("ArrowLeft" if run % 2 else "ArrowRight")
        page.wait_for_function("() => marks.some((mark) => mark[0] === 'shown')", polling=5)  # no eval
        marks = dict(page.evaluate("marks"))
        times.append((marks["shown"] - marks["key"]) / 1000)
        page.wait_for_timeout(1000 * pause_s)
    return statistics.median(times[1:])


def main() -> None:
    """Serve the demo, drive a browser, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--browser", default=shutil.which("chromium"))
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright

    alone = {side: server_seconds(arguments.photo, side, arguments.runs) for side in SIDES}
    command = [Path(sys.executable).with_name("srflow-demo"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        assert server.stdout is not None
        address = server.stdout.readline().split()[1]
        browser = playwright.chromium.launch(executable_path=arguments.browser, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(address)
        page.locator(".sf-photo input[type=file]").first.set_input_files(arguments.photo)
        page.wait_for_selector(".sf-strip button")
        page.evaluate(WATCH)
        print("| crop, enlarged | server, s | browser, sliding, s | browser, from rest, s |\n|---|---|---|---|")
        for side in SIDES:
            sliding = browser_seconds(page, side, arguments.runs, pause_s=0.1)
            rest = browser_seconds(page, side, max(3, arguments.runs // 3), pause_s=3)
            print(f"| {side}×{side} | {alone[side]:.3f} | {sliding:.3f} | {rest:.3f} |", flush=True)
        browser.close()
        server.terminate()


if __name__ == "__main__":
    main()
