"""Restoring on the page in a browser."""

from __future__ import annotations

from srflow_sdk import Upscaler, read_provenance
from tests.chromium import in_chromium

from .browser import choose, download, tab

pytestmark = in_chromium


def test_restoring_gives_the_file_that_the_sdk_writes(page, photos, flow_bundle, tmp_path) -> None:
    panel = tab(page, "Restore")
    choose(page, photos / "cat.png")
    panel.get_by_label("noise everywhere").check()
    panel.get_by_role("button", name="Restore", exact=True).click()
    file = download(page, "restore", tmp_path)
    with Upscaler(flow_bundle, device="cpu", threads=1, tile=32) as upscaler:
        upscaler.restore_file(photos / "cat.png", tmp_path / "expected.png", over="spatial")
    assert file.read_bytes() == (tmp_path / "expected.png").read_bytes()
    assert read_provenance(file).operation == "restore"
    assert panel.locator("figcaption").first.inner_text() == "noisy | restored"
