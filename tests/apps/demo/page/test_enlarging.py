"""Enlarging on the page in a browser: sliders, samples, panes, crops, and the file."""

from __future__ import annotations

import io
import itertools
import re

import numpy as np
import pytest
from PIL import Image

from srflow_sdk import Upscaler
from tests.chromium import SCREENS, in_chromium

from ..visitor import wait_until
from .browser import PANEL, caption, changed, choose, choose_and_rest, download, of_url, shown, tab

pytestmark = in_chromium
PRESSED = "button[aria-pressed=true]"


def test_the_picture_follows_the_slider_and_the_seed(page, photos) -> None:
    choose_and_rest(page, photos / "large.png")
    assert not page.get_by_label("Model").is_visible()  # there is one
    assert caption(page) == "photo, bicubic | τ 0.8, seed 0, sample 0"
    first = shown(page)
    assert first.shape == (512, 512, 3)
    slider = page.get_by_label("Temperature τ")
    changed(page, lambda: slider.fill("0"))
    smooth = shown(page)
    assert caption(page).endswith("τ 0, seed 0, sample 0")
    assert np.abs(smooth.astype(int) - first).mean() > 0.5
    changed(page, lambda: slider.press("End"))
    changed(page, lambda: page.locator("#seed").fill("7"))
    assert "seed 7" in caption(page)
    changed(page, lambda: page.get_by_role("button", name="Another seed").click())
    assert page.locator("#seed").input_value() not in ("0", "7")
    changed(page, lambda: page.get_by_label("auto τ").check())
    assert "τ auto" in caption(page)
    changed(page, lambda: slider.press("ArrowLeft"))
    page.wait_for_function("() => !document.querySelector('#auto').checked")
    assert "τ auto" not in caption(page)


def test_a_sample_of_the_strip_is_shown_rendered_and_its_file_shown_beside_the_photo(
    page, photos, flow_bundle, tmp_path
) -> None:
    choose_and_rest(page, photos / "medium.png")
    changed(page, page.get_by_role("button", name="sample 3").click)
    assert page.locator(f".sf-strip {PRESSED}").inner_text() == "sample 3"
    assert "sample 3" in caption(page)
    part = shown(page)
    page.get_by_role("button", name="Render the whole photo").click()
    file = download(page, "enlarge", tmp_path)
    assert file.name == "medium_x4.png"
    with Upscaler(flow_bundle, device="cpu", threads=1, tile=32) as upscaler:
        upscaler.upscale_file(
            photos / "medium.png", tmp_path / "expected.png", tau=0.8, seed=0, sample=3
        )
    assert file.read_bytes() == (tmp_path / "expected.png").read_bytes()
    pixels = np.asarray(Image.open(file))
    top, left = (pixels.shape[0] - part.shape[0]) // 2, (pixels.shape[1] - part.shape[1]) // 2
    # The crop is one tile and the file several, whose halo this tiny flow with random weights
    # exceeds a little.
    difference = np.abs(
        pixels[top : top + part.shape[0], left : left + part.shape[1]].astype(int) - part
    )
    assert np.median(difference) <= 1

    whole = page.locator("#enlarge .sf-viewer").nth(1)
    assert (
        whole.locator("figcaption").first.inner_text()
        == "the whole photo | τ 0.8, seed 0, sample 3"
    )
    np.testing.assert_array_equal(of_url(whole.locator("img").nth(1).get_attribute("src")), pixels)
    box = whole.locator(".sf-view").first.bounding_box()
    assert box["width"] / box["height"] == pytest.approx(200 / 160, rel=0.01)
    assert box["height"] <= 0.8 * SCREENS["desktop"]["height"] + 1
    percent = int(whole.locator(".sf-zoom").inner_text().removesuffix(" %"))
    assert percent == pytest.approx(100 * box["width"] / 800, abs=1)
    page.get_by_role("button", name="Remove: Photo").first.click()
    whole.locator(".sf-view").first.wait_for(state="hidden")


def test_the_divider_uncovers_both_pictures(page, photos) -> None:
    choose_and_rest(page, photos / "cat.png")
    view = page.locator(".sf-view").first
    divider = page.get_by_label("Divider").first

    def seen() -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(view.screenshot())).convert("RGB")).astype(int)[
            8:-8, 8:-8
        ]

    divider.press("End")
    before = seen()
    divider.press("Home")
    after = seen()
    assert np.abs(before - after).mean() > 1
    box = view.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert divider.input_value() == "50"
    half = seen()
    middle = before.shape[1] // 2
    np.testing.assert_array_equal(half[:, : middle - 20], before[:, : middle - 20])
    np.testing.assert_array_equal(half[:, middle + 20 :], after[:, middle + 20 :])


def test_panes_zoom_and_move_together(page, photos) -> None:
    choose_and_rest(page, photos / "cat.png")
    views = page.locator(".sf-view:visible")

    def transforms() -> set[str]:
        return set(
            views.evaluate_all(
                "(all) => all.map((view) => view.querySelector('img').style.cssText)"
            )
        )

    for mode in ("Side by side", "Uncertainty"):
        page.get_by_role("button", name=mode).first.click()
        assert views.count() == 2
        assert not page.locator(".sf-divider:visible").count()
        page.get_by_role("button", name="Fit").first.click()
        flat = transforms()
        page.get_by_role("button", name="100 %").first.click()
        views.nth(1).press("+")
        views.nth(1).press("+")
        views.nth(0).press("ArrowRight")
        moved = transforms()
        assert len(flat) == len(moved) == 1
        assert moved != flat
        assert page.locator(".sf-zoom:visible").inner_text() == "225 %"
        box = views.nth(0).bounding_box()
        page.mouse.move(box["x"] + 50, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + 90, box["y"] + 70, steps=3)
        page.mouse.up()
        assert len(transforms()) == 1
        assert transforms() != moved
        page.get_by_role("button", name="Fit").first.click()
        assert transforms() == flat
    assert page.locator("figcaption:visible").nth(1).inner_text() == "uncertainty by 8 samples"
    assert "Light yellow: they deviate by" in page.locator(".sf-note:visible").inner_text()


def test_the_crop_moves_with_pointer_and_keys(open_page, photos) -> None:
    page = open_page("phone")
    choose_and_rest(page, photos / "large.png")
    board = page.locator(".sf-overview")
    where = page.locator(".sf-where")
    assert "128 × 128 of 400 × 300 pixels, from " in where.inner_text()
    box = board.bounding_box()
    changed(page, lambda: page.mouse.click(box["x"] + 2, box["y"] + 2))
    assert "from 0, 0." in where.inner_text()
    changed(page, lambda: board.press("ArrowRight"))
    assert "from 32, 0." in where.inner_text()
    changed(page, lambda: page.get_by_label("256 × 256").check())
    page.wait_for_function(
        "() => document.querySelector('.sf-where').innerText.includes('64 × 64')"
    )
    assert "from 64, 32." in where.inner_text()  # the same middle
    assert shown(page).shape == (256, 256, 3)


def test_a_render_can_be_cancelled(page, photos, server) -> None:
    choose_and_rest(page, photos / "huge.png")
    page.get_by_role("button", name="Render the whole photo").click()
    page.wait_for_function(
        "() => document.querySelector('#enlarge .sf-progress').innerText.includes('s left')"
    )
    page.locator(PANEL).get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled; nothing was written.").wait_for()
    assert not page.locator("#enlarge .sf-file").is_visible()
    page.wait_for_selector("#enlarge .sf-stop", state="hidden")
    wait_until(lambda: not [path for path in server.files() if path.name.startswith("huge_x4")])


def test_the_picture_is_that_of_the_frame_after_a_fast_drag(page, photos) -> None:
    """Half a second, 60 moves a second."""
    choose_and_rest(page, photos / "large.png")
    board = page.locator(".sf-overview")
    where = page.locator(".sf-where")
    with page.expect_response("**/samples"):  # it rests
        page.evaluate(
            """() => new Promise((done) => {
            const board = document.querySelector(".sf-overview");
            const box = board.getBoundingClientRect();
            const send = (kind, part) => board.dispatchEvent(new PointerEvent(kind, {
              pointerId: 1, buttons: 1, bubbles: true,
              clientX: box.left + (0.2 + 0.5 * part) * box.width,
              clientY: box.top + (0.8 - 0.4 * part) * box.height }));
            board.setPointerCapture = () => {};
            send("pointerdown", 0);
            let moves = 0;
            const timer = setInterval(() => {
              moves += 1;
              send("pointermove", moves / 30);
              if (moves === 30) { clearInterval(timer); done(); }
            }, 1000 / 60);
            })"""
        )
    left, top = map(int, re.search(r"from (\d+), (\d+)\.", where.inner_text()).groups())
    assert (left, top) == (
        pytest.approx(0.7 * 400 - 64, abs=4),
        pytest.approx(0.4 * 300 - 64, abs=4),
    )
    at_rest = shown(page)
    place = where.inner_text()
    changed(page, lambda: board.press("ArrowLeft"))
    changed(page, lambda: board.press("ArrowRight"))
    assert where.inner_text() == place
    np.testing.assert_array_equal(shown(page), at_rest)


def test_a_crop_opens_at_100_percent_with_a_pixel_for_a_pixel_of_the_screen(
    open_page, photos
) -> None:
    # a whole one: others are exact on real screens only, where layout is in their pixels
    page = open_page(ratio=2)
    choose_and_rest(page, photos / "large.png")
    page.get_by_label("Divider").first.press("Home")  # only the sample
    assert page.locator(".sf-zoom:visible").inner_text() == "100 %"
    drawn = shown(page)
    view = page.locator(".sf-view").first
    for _ in range(2):
        seen = np.asarray(Image.open(io.BytesIO(view.screenshot())).convert("RGB"))
        # parts of pixels are added
        offsets = itertools.product(*(range(size - 512 + 1) for size in seen.shape[:2]))
        parts = [seen[top : top + 512, left : left + 512][20:-20, 20:-20] for top, left in offsets]
        assert 1 <= len(parts) <= 9
        assert any(np.array_equal(part, drawn[20:-20, 20:-20]) for part in parts)
        page.get_by_role("button", name="Zoom in").first.click()
        assert page.locator(".sf-zoom:visible").inner_text() == "150 %"
        page.get_by_role("button", name="100 %").first.click()


def test_the_example_is_drawn_without_a_photo_of_ones_own(page) -> None:
    page.get_by_role("button", name="Try the example").click()
    page.wait_for_selector(".sf-strip button >> nth=7")
    assert "cat.jpg" in page.locator(".sf-chosen:visible").inner_text()
    assert "of 225 × 150 pixels" in page.locator(".sf-where").inner_text()


@pytest.mark.parametrize(("name", "offered"), [("Enlarge", ["Try the example"]), ("Restore", [])])
def test_before_there_is_a_picture_there_is_nothing_to_set_to_render_or_to_cancel(
    page, photos, name, offered
) -> None:
    panel = tab(page, name)
    controls = panel.locator("button, select, input, canvas, a, [tabindex='0']").filter(
        visible=True
    )
    assert {one.get_attribute("type") or one.inner_text() for one in controls.all()} <= {
        "file",
        "button",
    }
    assert [
        button.inner_text() for button in panel.locator("button").filter(visible=True).all()
    ] == offered
    choose(page, photos / "cat.png")
    assert panel.locator(".sf-start").is_visible()
    assert not panel.locator(".sf-stop").is_visible()
    panel.get_by_role("button", name="Remove: ").click()
    panel.locator(".sf-start").wait_for(state="hidden")


@pytest.mark.parametrize(("screen", "scheme"), [("phone", "dark"), ("desktop", "light")])
def test_everything_fits_the_screen_has_a_name_and_can_be_read_and_one_button_stands_out(
    open_page, photos, screen, scheme
) -> None:
    page = open_page(screen, scheme)

    def standing_out() -> list[str]:
        return page.evaluate(
            """() => {
            const colour = document.createElement("i");
            colour.style.color = "var(--accent)";
            document.body.append(colour);
            const accent = getComputedStyle(colour).color;
            colour.remove();
            return [...document.querySelectorAll("button, label, a")]
              .filter((one) => one.offsetParent && getComputedStyle(one).backgroundColor === accent)
              .map((one) => one.innerText.trim());
            }"""
        )

    def contrasts() -> list[float]:
        return page.evaluate(
            """() => {
            const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
            const light = (colour) => parts(colour).slice(0, 3).map((c) => c / 255)
              .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
              .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
            const ground = (one) => {
              const colour = getComputedStyle(one).backgroundColor;
              const clear = parts(colour)[3] === 0;
              return clear && one.parentElement ? ground(one.parentElement) : colour;
            };
            const kinds = "p, label, button, span, h1, a, legend, figcaption";
            return [...document.querySelectorAll(kinds)]
              .filter((one) => one.offsetParent && one.innerText.trim())
              .map((one) => [light(getComputedStyle(one).color), light(ground(one))])
              .map((both) => both.sort((a, b) => b - a))
              .map(([brighter, darker]) => (brighter + 0.05) / (darker + 0.05));
            }"""
        )

    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    corner = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))[5, 5]
    assert corner < 60 if scheme == "dark" else corner > 200
    assert standing_out() == ["Choose a photo"]
    assert min(contrasts()) >= 4.5
    choose_and_rest(page, photos / "cat.png")
    assert standing_out() == ["Render the whole photo"]
    page.get_by_role("button", name="Render the whole photo").click()
    page.wait_for_selector("#enlarge .sf-file:visible", timeout=120_000)
    assert standing_out() == ["Download"]
    assert min(contrasts()) >= 4.5
    for name in ("Enlarge", "Restore"):
        tab(page, name)
        page.get_by_role("tabpanel", name=name).wait_for()  # an error unless it comes
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("input, button, select, [tabindex='0']")]
            .filter((e) => e.offsetParent && !e.getAttribute("aria-label"))
            .filter((e) => !(e.labels?.length || e.innerText?.trim()))
            .map((e) => e.outerHTML.slice(0, 200))"""
        )
        assert nameless == []
