"""Each page has its own files and photo, and they go when it is closed or falls silent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from srflow_apps.demo import sessions as module
from srflow_apps.demo.live import LivePhoto
from srflow_apps.demo.sessions import PageGoneError, plain_name
from srflow_apps.demo.tabs import Tabs
from srflow_sdk.errors import ArgumentError, ImageError

from .conftest import sent
from .visitor import CONTROLS


def test_pages_share_nothing(sessions) -> None:
    (key, one), (other_key, other) = sessions.open(), sessions.open()
    assert sessions.get(key) is one
    assert key != other_key
    assert one.folder != other.folder
    assert one.new_file("photo.png").parent != one.new_file("photo.png").parent


@pytest.mark.parametrize("key", ["", "page", "../etc", "é"])
def test_a_key_that_was_not_given_is_no_page(sessions, key) -> None:
    sessions.open()
    for ask in (sessions.get, sessions.heard):
        with pytest.raises(PageGoneError):
            ask(key)


def test_closing_a_page_deletes_its_files_and_stops_its_samples(sessions, uploaded) -> None:
    key, session = sessions.open()
    sent(session, "enlarge", uploaded)
    sessions.close(key)
    assert session.strip.is_set()
    assert session.closed
    sessions.release()
    assert not session.folder.exists()
    assert len(sessions) == 0
    with pytest.raises(PageGoneError):
        sessions.get(key)
    sessions.close(key)  # harmless


def test_another_picture_takes_the_place_of_the_older_one(session, uploaded) -> None:
    first = sent(session, "photo", uploaded)
    second = sent(session, "photo", uploaded)
    assert not first.parent.exists()
    assert session.pictures["photo"] == second
    session.put("photo", None)
    assert list(session.folder.iterdir()) == []


def test_a_picture_of_a_tab_withdraws_what_the_tab_made(session, uploaded) -> None:
    sent(session, "photo", uploaded)
    target = session.new_file("both.png")
    session.begin("transfer", target, lambda told, cancel: target.write_bytes(b"0"), turn=ThreadPoolExecutor(1))
    session.jobs["transfer"].join(10)
    assert session.result(target.parent.name) == target
    sent(session, "restore", uploaded)  # of another tab
    assert session.result(target.parent.name) == target
    sent(session, "other", uploaded)
    assert session.result(target.parent.name) is None
    assert not target.exists()


@pytest.mark.parametrize("key", ["", "large.png", "../large.png", "0" * 32])
def test_only_the_key_of_a_result_gives_it(session, key) -> None:
    target = session.new_file("large.png")
    session.begin("enlarge", target, lambda told, cancel: target.write_bytes(b"0"), turn=ThreadPoolExecutor(1))
    session.jobs["enlarge"].join(10)
    assert session.result(key) is None


def test_a_page_that_falls_silent_is_ended(sessions, clock) -> None:
    _, silent = sessions.open()
    key, heard = sessions.open()
    clock.now += module.SILENT_S - 1
    sessions.heard(key)
    sessions.release()
    assert silent.folder.exists()
    clock.now += 2
    sessions.release()
    assert not silent.folder.exists()
    assert sessions.get(key) is heard


def test_only_so_many_pages_hold_their_photo_in_memory_and_the_others_read_it_again(
    sessions, upscaler, uploaded, monkeypatch
) -> None:
    monkeypatch.setattr(module, "MOST_PHOTOS", 2)
    tabs, pages = Tabs(upscaler, sessions, max_pixels=10**8), [sessions.open()[1] for _ in range(3)]
    for page in pages:
        tabs.open(page, sent(page, "enlarge", uploaded))
    assert [page.photo is None for page in pages] == [True, False, False]
    shown = [tabs.show(page, CONTROLS)["after"] for page in pages]
    assert shown == [shown[0]] * 3
    assert [page.photo is None for page in pages] == [True, False, False]
    tabs.show(pages[0], CONTROLS)
    assert [page.photo is None for page in pages] == [False, True, False]


def test_only_pages_that_live_are_too_many(sessions) -> None:
    keys = []
    for _ in range(module.MOST_SESSIONS):
        keys.append(sessions.open()[0])
        sessions.heard(keys[-1])
    with pytest.raises(ArgumentError, match="close others first"):
        sessions.open()
    sessions.close(keys[0])
    silent = [sessions.open()[0] for _ in range(3 * module.MOST_SESSIONS)]  # each takes the silent one's place
    key, _ = sessions.open()
    sessions.heard(key)
    assert len(sessions) == module.MOST_SESSIONS
    assert all(sessions.get(key) for key in keys[1:])
    with pytest.raises(PageGoneError):
        sessions.get(silent[0])


def test_messages_do_not_show_the_servers_folders(session) -> None:
    path = session.new_file("photo.png")
    assert session.in_words(f"{path} is damaged, {path}") == "photo.png is damaged, photo.png"


def test_messages_advise_the_visitor_and_not_who_started_the_server(session, uploaded, upscaler) -> None:
    with pytest.raises(ImageError) as refused:
        LivePhoto(upscaler, uploaded, max_pixels=10)
    assert session.in_words(str(refused.value)).endswith("exceed the limit of 10; choose a smaller picture")


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("photo.png", "photo.png"),
        ("Ein Foto – schön.jpeg", "Ein Foto – schön.jpeg"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("/etc/shadow", "_etc_shadow"),
        (".hidden", "hidden"),
        ("..", "picture"),
        ("", "picture"),
        ("a\x00b\n.png", "a_b_.png"),
        ("a\u202egnp.exe", "a_gnp.exe"),
    ],
)
def test_names_of_files_are_no_paths(name, plain) -> None:
    assert plain_name(name) == plain


@pytest.mark.parametrize("name", ["é" * 500 + ".png", "x" * 500, "." * 300 + "y" * 300, "\ud800.png"])
def test_names_of_files_are_short_enough_for_a_disk(name) -> None:
    plain = plain_name(name)
    assert 0 < len(plain.encode()) <= 125
    assert plain.endswith(".png") == name.endswith(".png")
