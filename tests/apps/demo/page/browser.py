"""What a visitor does on the page, and what the page shows."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

PANEL = "[role=tabpanel]:visible"
AFTER = ".sf-layer img >> nth=1"


def files_of(server, name: str) -> list[Path]:
    """The server's files with this name."""
    return [path for path in server.files() if path.name == name]


def leave(page) -> None:
    """Close the page as a visitor does."""
    page.close(run_before_unload=True)


def tab(page, name: str):
    page.get_by_role("tab", name=name).click()
    return page.locator(PANEL)


def choose(page, photo: Path):
    """Upload a photo to the tab that is shown."""
    field = page.locator(f"{PANEL} .sf-photo")
    field.locator("input[type=file]").set_input_files(photo)
    field.get_by_text(f"{photo.name} (").wait_for()  # its size, once it was sent


def choose_and_rest(page, photo: Path):
    """Upload a photo and wait for its eight samples."""
    choose(page, photo)
    page.wait_for_selector(".sf-strip button >> nth=7")


def of_url(url: str) -> np.ndarray:
    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
    )


def shown(page) -> np.ndarray:
    return of_url(page.locator(AFTER).get_attribute("src"))


def changed(page, act) -> None:
    """Do something, and wait until another picture is shown."""
    before = page.locator(AFTER).get_attribute("src")
    act()
    script = (
        "(old) => { const i = document.querySelectorAll('.sf-layer img')[1]; return i.src !== old "
        "&& i.complete; }"
    )
    page.wait_for_function(script, arg=before)


def caption(page) -> str:
    return page.locator("figcaption").first.inner_text()


def download(page, name: str, folder: Path) -> Path:
    page.wait_for_selector(f"#{name} .sf-file:visible", timeout=120_000)
    with page.expect_download() as started:
        page.locator(f"#{name} .sf-file").click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def error(page) -> str:
    shown = page.get_by_role("alert")
    shown.wait_for()
    return shown.locator("p").inner_text()
