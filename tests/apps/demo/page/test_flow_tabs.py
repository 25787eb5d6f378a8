"""Restoring and transferring on the page in a browser."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from srflow_sdk import Upscaler, read_provenance
from tests.chromium import SCREENS, in_chromium

from .browser import choose, download, tab

pytestmark = in_chromium


def test_a_small_photo_is_enlarged_to_paint_on_it(page, photos) -> None:
    panel = tab(page, "Transfer")
    choose(page, photos / "cat.png")
    choose(page, photos / "other.png", number=1)
    panel.locator("canvas").wait_for()
    box = panel.locator("canvas").bounding_box()
    assert box["width"] > 300
    assert box["height"] <= 0.7 * SCREENS["desktop"]["height"] + 1
    assert box["width"] / box["height"] == pytest.approx(96 / 80, rel=0.01)


def test_restoring_gives_the_file_that_the_sdk_writes(page, photos, bundle, tmp_path) -> None:
    panel = tab(page, "Restore")
    choose(page, photos / "cat.png")
    panel.get_by_label("noise everywhere").check()
    panel.get_by_role("button", name="Restore", exact=True).click()
    file = download(page, "restore", tmp_path)
    with Upscaler(bundle, device="cpu", threads=1, tile=32) as upscaler:
        upscaler.restore_file(photos / "cat.png", tmp_path / "expected.png", over="spatial")
    assert file.read_bytes() == (tmp_path / "expected.png").read_bytes()
    assert read_provenance(file).operation == "restore"
    assert panel.locator("figcaption").first.inner_text() == "noisy | restored"


@pytest.mark.parametrize("by", ["mouse", "keys"])
def test_a_transfer_puts_what_was_painted_into_the_photo(page, photos, tmp_path, by) -> None:
    panel = tab(page, "Transfer")
    choose(page, photos / "cat.png")
    choose(page, photos / "other.png", number=1)
    canvas = panel.locator("canvas")
    canvas.wait_for()
    panel.get_by_label("Size of the brush").fill("10")
    if by == "mouse":
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] / 2, steps=4)
        page.mouse.up()
    else:
        canvas.press("Space")
        canvas.press("ArrowLeft")
        canvas.press("Space")
    panel.get_by_role("button", name="Transfer", exact=True).click()
    file = download(page, "transfer", tmp_path)
    result, photo = np.asarray(Image.open(file)).astype(int), np.asarray(Image.open(photos / "cat.png")).astype(int)
    assert np.abs(result - photo)[38:42, 46:50].mean() > 3
    np.testing.assert_array_equal(result[:, :10], photo[:, :10])
    np.testing.assert_array_equal(result[:10], photo[:10])
    assert read_provenance(file).operation == "transfer"
    assert panel.locator("figcaption").first.inner_text() == "photo | with the content"
