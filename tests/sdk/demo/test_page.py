"""The page in a browser, with a tiny real flow: what a visitor does, and what the browser asks for meanwhile."""

from __future__ import annotations

import base64
import io
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srflow_sdk import Upscaler, read_provenance
from srflow_sdk._files import write_image

from ..flow_bundle import write_flow_bundle
from .served import served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt install chromium"),
]

SCREENS = {"phone": {"width": 375, "height": 812}, "desktop": {"width": 1280, "height": 900}}
GRADIOS_OWN = "Method not implemented."  # it warns of itself after each upload
PANEL = "[role=tabpanel]:visible"
AFTER = ".sf-layer img >> nth=1"
PRESSED = "button[aria-pressed=true]"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_flow_bundle(tmp_path_factory.mktemp("bundles") / "flow.srflow")


@pytest.fixture(scope="module")
def server(bundle, tmp_path_factory):
    pytest.importorskip("gradio", reason='pip install "srflow-sdk[demo]"')
    options = ("--model", bundle, "--max-upload", "1M", "--tile", "32", "--threads", "1")
    with served(tmp_path_factory.mktemp("demo"), *options) as running:
        yield running


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, server):
    """Opens pages; at the end, none of them complained, and nothing but the server was asked for anything."""
    complaints: list[str] = []
    asked: list[str] = []
    contexts = []

    def open_one(screen: str = "desktop", scheme: str = "light"):
        touch = screen == "phone"
        contexts.append(chromium.new_context(viewport=SCREENS[screen], color_scheme=scheme, has_touch=touch))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)  # on a busy machine
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.url)
        page.wait_for_selector(".sf-empty")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert [line for line in complaints if line != f"warning: {GRADIOS_OWN}"] == []
    assert asked
    assert [url for url in asked if not url.startswith((server.url, "data:", f"blob:{server.url}"))] == []
    assert server.connected_to() == []


@pytest.fixture
def page(open_page):
    return open_page()


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """cat.png, 96×80, with a hint of noise; other.png, of another size; large.png, 400×300; huge.png, 1200×900.

    own.png, 96×80, is of one test at a time.
    """
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(3)
    y, x = np.mgrid[0:300, 0:400]
    waves = [np.sin(x / 7 + shift) * np.cos(y / 5 - shift) for shift in (0, 1, 2)]
    large = np.clip(np.rint(127 + 90 * np.stack(waves, -1) + random.normal(0, 6, (300, 400, 3))), 0, 255)
    large = large.astype(np.uint8)
    write_image(folder / "large.png", large)
    write_image(folder / "cat.png", large[:80, :96])
    write_image(folder / "own.png", large[100:180, :96])
    write_image(folder / "other.png", large[::-1, ::-1][:160, :200])
    write_image(folder / "huge.png", np.tile(large[:, :, :1], (3, 3, 3)) // 64 * 64)
    return folder


def copies_of(photo: Path, server) -> list[Path]:
    """Files of the server with the photo's contents, whatever their names are."""
    contents = photo.read_bytes()
    files = [path for path in server.connections.parent.rglob("*") if path.is_file()]
    return [path for path in files if path.stat().st_size == len(contents) and path.read_bytes() == contents]


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)


def tab(page, name: str):
    page.get_by_role("tab", name=name).click()
    return page.locator(PANEL)


def choose(page, photo: Path, *, number: int = 0):
    """Upload a photo to a field of the tab that is shown."""
    field = page.locator(f"{PANEL} .sf-photo").nth(number)
    field.locator("input[type=file]").set_input_files(photo)
    field.get_by_label(photo.name).wait_for()


def choose_and_rest(page, photo: Path):
    """Upload a photo and wait for its eight samples."""
    choose(page, photo)
    page.wait_for_selector(".sf-strip button >> nth=7")


def shown(page) -> np.ndarray:
    url = page.locator(AFTER).get_attribute("src")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))))


def changed(page, act) -> None:
    """Do something, and wait until another picture is shown."""
    before = page.locator(AFTER).get_attribute("src")
    act()
    script = "(old) => { const i = document.querySelectorAll('.sf-layer img')[1]; return i.src !== old && i.complete; }"
    page.wait_for_function(script, arg=before)


def caption(page) -> str:
    return page.locator("figcaption").first.inner_text()


def download(page, name: str, folder: Path) -> Path:
    page.wait_for_selector(f"#{name}-file:visible", timeout=120_000)
    with page.expect_download() as started:
        page.locator(f"#{name}-file").click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def error(page) -> str:
    toast = page.locator("[data-testid=toast-body]")
    toast.wait_for()
    return toast.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_everything_fits_the_screen_and_has_a_name(open_page, photos, screen, scheme) -> None:
    page = open_page(screen, scheme)
    choose_and_rest(page, photos / "cat.png")
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    corner = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))[5, 5]
    assert corner < 60 if scheme == "dark" else corner > 200
    for name in ("Enlarge", "Restore", "Transfer"):
        tab(page, name)
        page.get_by_role("tabpanel", name=name).wait_for()  # an error unless it comes
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("input, button, canvas, select, [tabindex='0']")]
            .filter((e) => e.offsetParent && !(e.getAttribute("aria-label") || e.labels?.length || e.innerText?.trim()))
            .map((e) => e.outerHTML.slice(0, 200))"""
        )
        assert nameless == []


def test_the_picture_follows_the_slider_and_the_seed(page, photos) -> None:
    choose_and_rest(page, photos / "large.png")
    assert caption(page) == "photo, bicubic | τ 0.8, seed 0, sample 0"
    first = shown(page)
    assert first.shape == (256, 256, 3)
    slider = page.get_by_label("range slider for Temperature τ")
    changed(page, lambda: slider.fill("0"))
    smooth = shown(page)
    assert caption(page).endswith("τ 0, seed 0, sample 0")
    assert np.abs(smooth.astype(int) - first).mean() > 0.5
    changed(page, lambda: slider.press("End"))
    changed(page, lambda: page.get_by_label("Seed", exact=True).fill("7"))
    assert "seed 7" in caption(page)
    changed(page, lambda: page.get_by_role("button", name="Another seed").click())
    assert page.get_by_label("Seed", exact=True).input_value() not in ("0", "7")
    changed(page, lambda: page.get_by_label("auto τ").check())
    assert "τ auto" in caption(page)
    changed(page, lambda: slider.press("ArrowLeft"))
    page.wait_for_function("() => !document.querySelector('input[type=checkbox]').checked")
    assert "τ auto" not in caption(page)


@pytest.mark.parametrize("seed", ["-1", "99999999999", "1.5"])
def test_a_seed_that_is_none_is_refused_in_words(page, photos, seed) -> None:
    choose_and_rest(page, photos / "cat.png")
    page.get_by_label("Seed", exact=True).fill(seed)
    assert "the seed is a whole number from 0 to 4294967295; enter one" in error(page)


def test_a_file_is_not_offered_once_another_photo_is_chosen(page, photos) -> None:
    choose_and_rest(page, photos / "cat.png")
    page.get_by_role("button", name="Render the whole photo").click()
    page.wait_for_selector("#enlarge-file:visible", timeout=120_000)
    page.locator(PANEL).get_by_label("Clear").first.click()
    page.wait_for_selector("#enlarge-file", state="hidden")
    page.wait_for_function("() => !document.querySelector('#enlarge-status').innerText.includes('ready')")


def test_a_small_photo_is_enlarged_to_paint_on_it(page, photos) -> None:
    panel = tab(page, "Transfer")
    choose(page, photos / "cat.png")
    choose(page, photos / "other.png", number=1)
    panel.locator("canvas").wait_for()
    box = panel.locator("canvas").bounding_box()
    assert box["width"] > 300
    assert box["height"] <= 0.7 * SCREENS["desktop"]["height"] + 1
    assert box["width"] / box["height"] == pytest.approx(96 / 80, rel=0.01)


def test_a_sample_of_the_strip_is_shown_and_rendered(page, photos, bundle, tmp_path) -> None:
    choose_and_rest(page, photos / "cat.png")
    changed(page, page.get_by_role("button", name="sample 3").click)
    assert page.locator(f".sf-strip {PRESSED}").inner_text() == "sample 3"
    assert "sample 3" in caption(page)
    part = shown(page)
    page.get_by_role("button", name="Render the whole photo").click()
    file = download(page, "enlarge", tmp_path)
    assert file.name == "cat_x4.png"
    with Upscaler(bundle, device="cpu", threads=1, tile=32) as upscaler:
        upscaler.upscale_file(photos / "cat.png", tmp_path / "expected.png", tau=0.8, seed=0, sample=3)
    assert file.read_bytes() == (tmp_path / "expected.png").read_bytes()
    made = read_provenance(file)
    assert (made.tau, made.seed, made.sample, made.source) == (0.8, 0, 3, "cat.png")
    whole = np.asarray(Image.open(file)).astype(int)
    top, left = (whole.shape[0] - part.shape[0]) // 2, (whole.shape[1] - part.shape[1]) // 2
    # The crop is one tile and the file several, whose halo this tiny flow with random weights exceeds a little.
    difference = np.abs(whole[top : top + part.shape[0], left : left + part.shape[1]] - part)
    assert np.median(difference) <= 1


def test_the_divider_uncovers_both_pictures(page, photos) -> None:
    choose_and_rest(page, photos / "cat.png")
    view, divider = page.locator(".sf-view").first, page.get_by_label("Divider")

    def seen() -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(view.screenshot())).convert("RGB")).astype(int)[8:-8, 8:-8]

    divider.press("End")
    before = seen()
    divider.press("Home")
    after = seen()
    assert np.abs(before - after).mean() > 1
    box = view.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert divider.input_value() == "50"
    half, middle = seen(), before.shape[1] // 2
    np.testing.assert_array_equal(half[:, : middle - 20], before[:, : middle - 20])
    np.testing.assert_array_equal(half[:, middle + 20 :], after[:, middle + 20 :])


@pytest.mark.parametrize("mode", ["Side by side", "Uncertainty"])
def test_panes_zoom_and_move_together(page, photos, mode) -> None:
    choose_and_rest(page, photos / "cat.png")
    page.get_by_role("button", name=mode).first.click()
    views = page.locator(".sf-view:visible")
    assert views.count() == 2

    def transforms() -> set[str]:
        return set(views.evaluate_all("(all) => all.map((view) => view.querySelector('img').style.transform)"))

    flat = transforms()
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


def test_the_deviation_is_shown_with_its_scale(page, photos) -> None:
    choose_and_rest(page, photos / "cat.png")
    page.get_by_role("button", name="Uncertainty").click()
    assert page.locator("figcaption:visible").nth(1).inner_text() == "deviation of 8 samples"
    assert "Light yellow: they deviate by" in page.locator(".sf-note:visible").inner_text()


@pytest.mark.parametrize("screen", SCREENS)
def test_the_crop_moves_with_pointer_and_keys(open_page, photos, screen) -> None:
    page = open_page(screen)
    choose_and_rest(page, photos / "large.png")
    board, where = page.locator(".sf-overview"), page.locator(".sf-where")
    assert "64 × 64 of 400 × 300 pixels, from 168, 118" in where.inner_text()
    box = board.bounding_box()
    changed(page, lambda: page.mouse.click(box["x"] + 2, box["y"] + 2))
    assert "from 0, 0." in where.inner_text()
    changed(page, lambda: board.press("ArrowRight"))
    assert "from 16, 0." in where.inner_text()
    changed(page, lambda: page.get_by_label("512 × 512").check())
    page.wait_for_function("() => document.querySelector('.sf-where').innerText.includes('128 × 128')")
    assert shown(page).shape == (512, 512, 3)


def test_a_render_can_be_cancelled(page, photos, server) -> None:
    choose_and_rest(page, photos / "huge.png")
    page.get_by_role("button", name="Render the whole photo").click()
    page.wait_for_function("() => document.querySelector('#enlarge-status').innerText.includes('s left')")
    page.locator(PANEL).get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled; nothing was written.").wait_for()
    assert not page.locator("#enlarge-file").is_visible()
    assert not list(server.connections.parent.rglob("huge_x4*"))
    page.wait_for_selector("#enlarge-stop[disabled]")


def test_a_broken_file_is_an_error_in_words_and_the_next_one_works(page, photos, tmp_path) -> None:
    choose_and_rest(page, photos / "cat.png")
    page.locator(PANEL).get_by_label("Clear").first.click()
    page.wait_for_selector(".sf-empty:visible")
    (tmp_path / "broken.png").write_bytes((photos / "cat.png").read_bytes()[:2000])
    choose(page, tmp_path / "broken.png")
    assert "broken.png" in error(page)
    assert "/tmp" not in error(page)
    assert page.locator(".sf-empty").first.is_visible()
    page.locator("[data-testid=toast-close]").click()
    page.locator(PANEL).get_by_label("Clear").first.click()
    choose_and_rest(page, photos / "cat.png")


def test_the_name_of_a_file_is_shown_as_text(page) -> None:
    name = "<img src=x onerror=document.title='attacked'>.png"
    file = {"name": name, "mimeType": "image/png", "buffer": b"not a picture"}
    page.locator(".sf-photo input[type=file]").first.set_input_files(file)
    assert "onerror" in error(page)
    assert page.locator("[data-testid=toast-body] img").count() == 0
    assert page.title() == "srflow-demo"


def test_a_file_that_is_too_large_is_refused_in_words(page) -> None:
    file = {"name": "large.png", "mimeType": "image/png", "buffer": b"0" * 1_500_000}
    page.locator(".sf-photo input[type=file]").first.set_input_files(file)
    assert "exceed the maximum allowed size" in error(page)


def test_a_pasted_photo_replaces_the_one_that_is_there(page, photos) -> None:
    choose_and_rest(page, photos / "large.png")
    page.evaluate(
        """(data) => {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        const clipboardData = new DataTransfer();
        clipboardData.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
        document.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
        }""",
        base64.b64encode((photos / "cat.png").read_bytes()).decode(),
    )
    page.wait_for_function("() => document.querySelector('.sf-where').innerText.includes('of 96 × 80')")


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


def test_a_transfer_without_a_mask_is_refused_in_words(page, photos) -> None:
    panel = tab(page, "Transfer")
    choose(page, photos / "cat.png")
    choose(page, photos / "other.png", number=1)
    panel.locator("canvas").wait_for()
    panel.get_by_role("button", name="Transfer", exact=True).click()
    assert "the mask is empty; paint" in error(page)


def test_two_pages_show_two_photos_and_closing_one_deletes_its_files(open_page, photos, server) -> None:
    one, other = open_page(), open_page()
    choose_and_rest(one, photos / "own.png")
    assert copies_of(photos / "own.png", server)
    choose_and_rest(other, photos / "large.png")
    first, second = shown(one), shown(other)
    changed(other, lambda: other.get_by_label("range slider for Temperature τ").press("Home"))
    np.testing.assert_array_equal(shown(one), first)
    changed(one, lambda: one.get_by_label("range slider for Temperature τ").press("Home"))
    changed(one, lambda: one.get_by_label("range slider for Temperature τ").fill("0.8"))
    np.testing.assert_array_equal(shown(one), first)
    assert (shown(other) != second).any()

    before = len(list(server.connections.parent.rglob("large.png")))
    one.close()
    wait_until(lambda: not copies_of(photos / "own.png", server))
    assert len(list(server.connections.parent.rglob("large.png"))) == before


def test_a_photo_that_was_only_chosen_is_deleted_with_its_page(open_page, photos, server) -> None:
    page = open_page()
    tab(page, "Restore")
    with page.expect_response(lambda response: "/run/" in response.url):  # the server knows whose it is
        choose(page, photos / "own.png")
    assert copies_of(photos / "own.png", server)
    page.close()
    wait_until(lambda: not copies_of(photos / "own.png", server))
