"""Photos that are uploaded to the page, pasted, broken, too large, and deleted."""

from __future__ import annotations

import base64

import numpy as np

from tests.chromium import in_chromium

from .browser import PANEL, changed, choose, choose_and_rest, copies_of, error, shown, tab, wait_until

pytestmark = in_chromium


def test_a_file_is_not_offered_once_another_photo_is_chosen(page, photos) -> None:
    choose_and_rest(page, photos / "cat.png")
    page.get_by_role("button", name="Render the whole photo").click()
    page.wait_for_selector("#enlarge-file:visible", timeout=120_000)
    page.locator(PANEL).get_by_label("Clear").first.click()
    page.wait_for_selector("#enlarge-file", state="hidden")
    page.wait_for_function("() => !document.querySelector('#enlarge-status').innerText.includes('ready')")


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
