"""The report's page in a browser: it opens from disk without a network, and its sliders move."""

import io

import numpy as np
import pytest
from PIL import Image

from srflow_evaluation.options import Options
from srflow_evaluation.page import report
from tests.chromium import SCREENS, in_chromium, running_chromium

pytestmark = in_chromium


@pytest.fixture(scope="module")
def report_page(photos, checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "out"
    chosen = {
        "models": [str(checkpoint)],
        "hr": photos,
        "output": out,
        "centre": 64,
        "most": 2,
        "metrics": ("psnr", "gmsd"),
    }
    report(Options(**chosen, only=["tau-sweep", "best-of-n"]))
    return out / "report.html"


@pytest.fixture(scope="module")
def chromium():
    with running_chromium() as browser:
        yield browser


# Each screen and each scheme; what they have in common stands in the style sheet once.
@pytest.fixture(params=[("phone", "dark"), ("desktop", "light")], ids="-".join)
def opened(request, chromium, report_page):
    """The page, open; at the end, nothing was asked of a network and nothing went wrong."""
    screen, scheme = request.param
    context = chromium.new_context(
        viewport=SCREENS[screen], color_scheme=scheme, has_touch=screen == "phone"
    )
    page = context.new_page()
    complaints = []
    asked = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report_page.as_uri())
    yield page
    assert complaints == []
    assert [url for url in asked if not url.startswith("data:")] == [report_page.as_uri()]
    context.close()


def pixels(locator):
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB")).astype(int)


def inner(canvas):
    """A crop's pixels without the names and the round corners."""
    return pixels(canvas)[60:-8, 8:-8]


def left(crop):
    return crop[:, : crop.shape[1] // 2 - 4]


def right(crop):
    return crop[:, crop.shape[1] // 2 + 4 :]


def test_everything_fits_the_screen_and_every_image_loads(opened):
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tables = opened.evaluate(
        "[...document.querySelectorAll('table')].map((table) => [table.scrollWidth, "
        "table.parentElement.clientWidth])"
    )
    assert len(tables) == 3
    if opened.viewport_size["width"] < 500:
        assert all(width <= seen for width, seen in tables), "nothing is cut off on a phone"
        cell = opened.locator("td").first
        assert cell.evaluate("cell => getComputedStyle(cell, '::before').content") == '"PSNR, dB ↑"'
    images = opened.evaluate(
        "[...document.images].map((image) => image.complete && image.naturalWidth)"
    )
    assert len(images) > 10
    assert all(width >= 64 for width in images)
    dark = opened.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    paper = pixels(opened.locator("h1"))[0, -1].mean()
    assert paper < 60 if dark else paper > 200


def test_the_slider_uncovers_one_picture_with_keys_and_the_other_with_a_finger_or_a_mouse(opened):
    figure = opened.locator(".compare").first
    canvas = figure.locator(".canvas")
    slider = figure.locator("input[type=range]")
    half = inner(canvas)
    slider.focus()
    opened.keyboard.press("Home")
    after = inner(canvas)
    opened.keyboard.press("End")
    before = inner(canvas)
    assert np.abs(before - after).mean() > 1
    np.testing.assert_array_equal(left(half), left(before))
    np.testing.assert_array_equal(right(half), right(after))
    box = slider.bounding_box()
    press = opened.touchscreen.tap if opened.viewport_size["width"] < 500 else opened.mouse.click
    press(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    assert 20 <= int(slider.input_value()) <= 30
    assert slider.get_attribute("aria-valuetext").endswith(" % τ 0.8")
    box = canvas.bounding_box()
    opened.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
    opened.mouse.down()
    opened.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2)
    opened.mouse.up()
    assert slider.input_value() == "75"
