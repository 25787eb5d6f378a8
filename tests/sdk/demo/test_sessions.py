"""Each page has its own files and photo, and they go when it is closed or rests."""

from __future__ import annotations

import threading

import pytest

from srflow_sdk._demo import sessions as module
from srflow_sdk._demo.live import LivePhoto
from srflow_sdk.errors import ArgumentError, ImageError


def with_photo(sessions, key, upscaler, uploaded):
    session = sessions.get(key)
    session.photo = LivePhoto(upscaler, uploaded, max_pixels=10**8)
    session.photo.show(left=0, top=0, side=24)
    return session


def test_pages_share_nothing(sessions) -> None:
    one, other = sessions.get("one"), sessions.get("other")
    assert one is sessions.get("one")
    assert one is not other
    assert one.folder != other.folder
    assert one.new_file("photo.png").parent != one.new_file("photo.png").parent


def test_ending_a_page_stops_its_work_and_deletes_its_files(sessions) -> None:
    session = sessions.get("page")
    path = session.new_file("photo.png")
    path.write_bytes(b"private")
    session.jobs["enlarge"] = threading.Event()
    sessions.end("page")
    assert session.jobs["enlarge"].is_set()
    assert session.strip.is_set()
    assert session.closed
    assert not session.folder.exists()
    assert len(sessions) == 0
    sessions.end("page")  # harmless


def test_an_upload_is_deleted_with_the_last_page_that_sent_it(sessions, tmp_path) -> None:
    upload = tmp_path / "pages" / "hash" / "photo.png"
    upload.parent.mkdir()
    upload.write_bytes(b"private")
    for key in ("one", "other"):
        assert sessions.get(key).take(str(upload)).read_bytes() == b"private"
    sessions.end("one")
    assert upload.exists()
    sessions.end("other")
    assert list((tmp_path / "pages").iterdir()) == []
    with pytest.raises(ArgumentError, match=r"photo\.png is gone, .*choose it again"):
        sessions.get("one").take(str(upload))


def test_a_page_that_rests_loses_its_photo_in_memory_and_later_its_files(sessions, clock, upscaler, uploaded) -> None:
    session = with_photo(sessions, "page", upscaler, uploaded)
    clock.now += module.ENCODING_IDLE_S - 1
    sessions.release_idle()
    assert session.photo.nbytes > 0
    clock.now += 2
    sessions.release_idle()
    assert session.photo.nbytes == 0
    assert session.folder.exists()
    clock.now += module.SESSION_IDLE_S
    sessions.release_idle()
    assert not session.folder.exists()
    assert sessions.get("page") is not session


def test_a_page_whose_work_runs_does_not_rest(sessions, clock) -> None:
    session = sessions.get("page")
    session.jobs["enlarge"] = threading.Event()
    clock.now += module.SESSION_IDLE_S + 1
    sessions.release_idle()
    assert sessions.get("page") is session


def test_photos_used_longest_ago_go_first_when_all_are_too_large(
    sessions, clock, upscaler, uploaded, monkeypatch
) -> None:
    pages = []
    for key in ("first", "second", "third"):
        clock.now += 1
        pages.append(with_photo(sessions, key, upscaler, uploaded))
    size = pages[0].photo.nbytes
    monkeypatch.setattr(module, "PHOTOS_BYTES", 2 * size)
    sessions.release_excess(pages[2])
    assert [page.photo.nbytes for page in pages] == [0, size, size]
    monkeypatch.setattr(module, "PHOTOS_BYTES", 1)
    sessions.release_excess(pages[2])
    assert [page.photo.nbytes for page in pages] == [0, 0, size]


def test_a_photo_in_use_stays(sessions, upscaler, uploaded, monkeypatch) -> None:
    busy = with_photo(sessions, "busy", upscaler, uploaded)
    monkeypatch.setattr(module, "PHOTOS_BYTES", 1)
    locked, done = threading.Event(), threading.Event()

    def use() -> None:
        with busy.lock:
            locked.set()
            done.wait(10)

    user = threading.Thread(target=use)
    user.start()
    locked.wait(10)
    sessions.release_excess(sessions.get("other"))
    assert busy.photo.nbytes > 0
    done.set()
    user.join()


def test_too_many_pages_are_refused_in_words(sessions) -> None:
    for number in range(module.MOST_SESSIONS):
        sessions.get(str(number))
    with pytest.raises(ArgumentError, match="close others first"):
        sessions.get("one more")
    assert sessions.get("0")


def test_messages_do_not_show_the_servers_folders(session) -> None:
    path = session.new_file("photo.png")
    assert session.in_words(f"{path} is damaged, {path}") == "photo.png is damaged, photo.png"


def test_messages_advise_the_visitor_and_not_who_started_the_server(session, uploaded, upscaler) -> None:
    with pytest.raises(ImageError) as refused:
        LivePhoto(upscaler, uploaded, max_pixels=10)
    assert session.in_words(str(refused.value)).endswith("exceed the limit of 10; choose a smaller picture")
