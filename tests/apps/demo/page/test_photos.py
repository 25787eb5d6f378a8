"""Photos that are sent to the page: chosen, dropped, pasted, broken, too large, and deleted."""

from __future__ import annotations

import base64
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from tests.chromium import in_chromium

from ..visitor import Visitor, wait_until
from .browser import changed, choose_and_rest, error, files_of, leave

pytestmark = in_chromium


def test_a_file_is_not_offered_once_another_photo_is_chosen(page, photos, server) -> None:
    choose_and_rest(page, photos / "cat.png")
    page.get_by_role("button", name="Render the whole photo").click()
    page.wait_for_selector("#enlarge .sf-file:visible", timeout=120_000)
    page.get_by_role("button", name="Remove: Photo").first.click()
    page.wait_for_selector("#enlarge .sf-file", state="hidden")
    assert page.locator("#enlarge .sf-progress").inner_text().strip() == ""
    wait_until(lambda: not files_of(server, "cat_x4.png"))


def test_a_broken_file_is_an_error_in_words_and_the_next_one_works(
    open_page, photos, tmp_path
) -> None:
    page = open_page()
    open_page.refused.add(400)
    choose_and_rest(page, photos / "cat.png")
    (tmp_path / "broken.png").write_bytes((photos / "cat.png").read_bytes()[:2000])
    page.locator(".sf-photo input[type=file]").first.set_input_files(tmp_path / "broken.png")
    assert "broken.png" in error(page)
    assert "/tmp" not in error(page)
    assert page.locator(".sf-empty").first.is_visible()
    choose_and_rest(page, photos / "cat.png")
    assert not page.get_by_role("alert").is_visible()


def test_the_name_of_a_file_is_shown_as_text(open_page) -> None:
    page = open_page()
    open_page.refused.add(400)
    name = "<img src=x onerror=document.title='attacked'>.png"
    file = {"name": name, "mimeType": "image/png", "buffer": b"not a picture"}
    page.locator(".sf-photo input[type=file]").first.set_input_files(file)
    assert "onerror" in error(page)
    assert page.get_by_role("alert").locator("img").count() == 0
    assert page.title() == "srflow-demo"


def test_a_file_that_is_too_large_is_refused_in_words(page) -> None:
    file = {"name": "large.png", "mimeType": "image/png", "buffer": b"0" * 1_500_000}
    page.locator(".sf-photo input[type=file]").first.set_input_files(file)
    assert error(page) == "large.png is larger than the limit of 1 MB; choose a smaller one"


@pytest.mark.parametrize("by", ["paste", "drop"])
def test_a_pasted_or_dropped_photo_replaces_the_one_that_is_there(page, photos, by) -> None:
    choose_and_rest(page, photos / "large.png")
    page.evaluate(
        """([data, by]) => {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        const files = new DataTransfer();
        files.items.add(new File([bytes], "new.png", { type: "image/png" }));
        const event = by === "paste"
          ? new ClipboardEvent("paste", { clipboardData: files, bubbles: true })
          : new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
        const free = document.querySelector("body").dispatchEvent(event);
        if (free && by === "drop") throw new Error("the browser would show the file itself");
        }""",
        [base64.b64encode((photos / "cat.png").read_bytes()).decode(), by],
    )
    page.wait_for_function(
        "() => document.querySelector('.sf-where').innerText === 'The whole photo is shown.'"
    )


def test_leaving_the_page_deletes_its_files_and_no_others(open_page, photos, server) -> None:
    one = open_page()
    other = open_page()
    choose_and_rest(one, photos / "own.png")
    choose_and_rest(other, photos / "large.png")
    before = len(files_of(server, "large.png"))
    leave(one)
    wait_until(lambda: not files_of(server, "own.png"))
    assert len(files_of(server, "large.png")) == before
    changed(other, other.get_by_role("button", name="Another seed").click)


def test_a_page_whose_session_was_ended_says_so_and_goes_on_with_another_photo(
    open_page, photos, server
) -> None:
    page = open_page()
    open_page.refused.add(410)
    keys: list[str] = []
    page.on("request", lambda request: keys.extend(request.url.split("/pages/")[1:]))
    choose_and_rest(page, photos / "cat.png")
    visitor = Visitor(server.url)
    visitor.enter()
    assert visitor.ask("POST", f"/pages/{keys[0].partition('/')[0]}/close").status == 200
    page.get_by_role("button", name="Another seed").click()
    assert error(page) == "the page was closed, and its pictures were deleted; choose them again"
    page.wait_for_selector(".sf-empty:visible")
    page.get_by_role("button", name="Close this message").click()
    choose_and_rest(page, photos / "cat.png")


def test_a_browser_without_the_token_learns_where_the_address_is(chromium, server) -> None:
    context = chromium.new_context()
    page = context.new_page()
    assert page.goto(server.origin).status == 403
    assert "srflow-demo printed in its terminal" in page.inner_text("body")
    context.close()


def test_a_page_of_another_port_of_this_machine_changes_nothing(page, photos, server) -> None:
    # Browsers send SameSite cookies to all ports of a name. Suppose that it even knows the key of
    # the visitor's page.
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with page.expect_request("**/show") as asked:
        choose_and_rest(page, photos / "cat.png")
    with HTTPServer(("127.0.0.1", 0), Other) as listener:
        Thread(target=listener.serve_forever, daemon=True).start()
        other = page.context.new_page()
        other.goto(f"http://127.0.0.1:{listener.server_port}/")
        other.evaluate(
            """(url) =>
              fetch(url, { method: "POST", mode: "no-cors", credentials: "include" }).catch(() => 0)
            """,
            asked.value.url.replace("/show", "/close"),
        )
        listener.shutdown()
    changed(page, page.get_by_role("button", name="Another seed").click)
