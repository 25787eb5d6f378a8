"""The choice of a model on a page whose server has both."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from srflow_sdk import Bundle
from tests.chromium import in_chromium
from tests.sdk.clean_and_noisy import smooth

from ..served import served
from .browser import changed, choose_and_rest, shown

pytestmark = in_chromium


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    pytest.importorskip("uvicorn", reason='pip install "srflow-sdk[demo]"')
    with served(tmp_path_factory.mktemp("demo"), "--threads", "1") as running:
        yield running


def default_tau(name: str) -> str:
    return str(Bundle.embedded(name).manifest.default_tau)


def test_the_page_says_which_model_suits_the_photo_and_takes_another(
    both, chromium, tmp_path
) -> None:
    Image.fromarray(smooth(64)).save(tmp_path / "small.jpg", quality=60)
    page = chromium.new_page()
    page.set_default_timeout(60_000)
    page.goto(both.url)
    choose_and_rest(page, tmp_path / "small.jpg")
    said = page.locator(".sf-model [role=status]")
    assert said.inner_text() == "x4-photo, ×4: JPEG of quality 60"
    assert page.get_by_label("Model").locator("option").all_inner_texts() == [
        *("what suits the photo", *Bundle.embedded_names())
    ]
    shown_tau, tau = page.locator("output[for=tau]"), page.locator("#tau")
    assert shown_tau.inner_text() == tau.input_value() == default_tau("x4-photo")
    first = shown(page)
    changed(page, lambda: page.get_by_label("Model").select_option("x4-small"))
    assert said.inner_text() == "x4-small, ×4"
    assert tau.input_value() == default_tau("x4-small")
    assert not np.array_equal(shown(page), first)
    page.wait_for_selector(".sf-strip button >> nth=7")
    changed(page, lambda: page.get_by_label("Model").select_option("auto"))
    np.testing.assert_array_equal(shown(page), first)
    page.close()
    assert both.connected_to() == []
