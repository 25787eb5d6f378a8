"""Each page has its own files, photo and long work, and they go when it is closed or falls
silent."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from srflow_apps.demo import sessions as module
from srflow_apps.demo.live import LivePhoto
from srflow_apps.demo.sessions import Job, RefusedError, plain_name
from srflow_apps.demo.tabs import Tabs
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.system.interrupts import stop_if_set

from .conftest import copied, sent
from .visitor import CONTROLS


class Held:
    """Work that says that it has begun, and goes on when it is let, or is cancelled."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let = threading.Event()

    def __call__(self, told: Any, cancel: threading.Event) -> str:
        told(1, 4)
        self.begun.set()
        while not self.let.wait(0.01):
            stop_if_set(cancel)
        return "finished"


def test_closing_a_page_ends_its_work_and_deletes_its_files(sessions, uploaded) -> None:
    key, session = asyncio.run(sessions.open())
    sent(session, "enlarge", uploaded)
    held = Held()
    job = session.begin("enlarge", session.new_file("large.png"), held, turn=ThreadPoolExecutor(1))
    assert held.begun.wait(10)
    asyncio.run(sessions.close(key))
    assert session.samples.is_set()
    assert session.closed
    assert job.state == "cancelled"
    assert not session.folder.exists()
    for gone in (key, "", "../etc", "é"):
        with pytest.raises(RefusedError):
            sessions.get(gone)
    asyncio.run(sessions.close(key))  # harmless


def test_a_picture_takes_the_place_of_the_older_one_and_withdraws_what_its_tab_made(
    session, uploaded
) -> None:
    first = sent(session, "enlarge", uploaded)
    target = session.new_file("large.png")
    job = session.begin(
        "enlarge", target, lambda told, cancel: target.write_bytes(b"0"), turn=ThreadPoolExecutor(1)
    )
    job.join(10)
    sent(session, "restore", uploaded)  # of another tab
    assert target.exists()
    second = sent(session, "enlarge", uploaded)
    assert not first.parent.exists()
    assert not target.exists()
    assert (session.pictures["enlarge"], session.jobs) == (second, {})
    session.put("enlarge", None)
    session.put("restore", None)
    assert list(session.folder.iterdir()) == []


def test_a_page_that_falls_silent_is_ended(sessions, clock) -> None:
    (_, silent), (key, heard) = asyncio.run(sessions.open()), asyncio.run(sessions.open())
    clock.now += module.SILENT_S - 1
    sessions.get(key)
    asyncio.run(sessions.close_silent())
    assert silent.folder.exists()
    clock.now += 2
    asyncio.run(sessions.close_silent())
    assert not silent.folder.exists()
    assert sessions.get(key) is heard


def test_only_so_many_pages_hold_their_photo_in_memory_and_the_others_read_it_again(
    sessions, upscaler, uploaded, monkeypatch
) -> None:
    monkeypatch.setattr(module, "MOST_PHOTOS", 2)
    tabs = Tabs(upscaler, max_pixels=10**8)
    pages = [asyncio.run(sessions.open()) for _ in range(3)]

    def held() -> list[bool]:
        return [page.photo is not None for _, page in pages]

    for key, page in pages:
        tabs.take(sessions.get(key), "enlarge", copied(page, uploaded))
    assert held() == [False, True, True]
    shown = [tabs.show(sessions.get(key), CONTROLS)["after"] for key, _ in pages]
    assert shown == [shown[0]] * 3
    assert held() == [False, True, True]
    tabs.show(sessions.get(pages[0][0]), CONTROLS)
    assert held() == [True, False, True]


def test_so_many_pages_may_be_open(sessions) -> None:
    keys = [asyncio.run(sessions.open())[0] for _ in range(module.MOST_SESSIONS)]
    with pytest.raises(ArgumentError, match="close others first"):
        asyncio.run(sessions.open())
    asyncio.run(sessions.close(keys[0]))
    another, _ = asyncio.run(sessions.open())
    assert all(map(sessions.get, [*keys[1:], another]))


def test_messages_show_no_folders_of_the_server_and_advise_the_visitor(
    session, uploaded, upscaler
) -> None:
    path = session.new_file("photo.png")
    assert session.in_words(f"{path} is damaged, {path}") == "photo.png is damaged, photo.png"
    with pytest.raises(ImageError) as refused:
        LivePhoto(upscaler.engine.painter, uploaded, max_pixels=10)
    assert session.in_words(str(refused.value)).endswith(
        "exceed the limit of 10; choose a smaller picture"
    )


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Ein Foto – schön.jpeg", "Ein Foto – schön.jpeg"),
        ("../../etc/passwd", "_.._etc_passwd"),
        (".hidden", "hidden"),
        ("..", "picture"),
        ("", "picture"),
        ("a\x00b\n.png", "a_b_.png"),
        ("a\u202egnp.exe", "a_gnp.exe"),
        ("é" * 500 + ".png", "é" * 58 + ".png"),
        ("." * 300 + "y" * 300, "y" * 120),
        ("\ud800.png", "_.png"),
    ],
)
def test_names_of_files_are_no_paths_and_short_enough_for_a_disk(name, plain) -> None:
    assert plain_name(name) == plain


def test_work_tells_how_far_it_is_and_why_it_failed_and_only_one_of_a_turn_runs(session) -> None:
    turn = ThreadPoolExecutor(1)
    first = Held()
    second = Held()
    one, other = (Job(session.new_file("a.png"), work, turn=turn) for work in (first, second))
    assert first.begun.wait(10)
    assert (one.state, one.fraction, other.state, other.left_s) == (
        "running",
        0.25,
        "waiting",
        None,
    )
    assert one.left_s >= 0
    first.let.set()
    second.let.set()
    for job in (one, other):
        job.join(10)
        assert (job.state, job.fraction, job.left_s, job.shown) == ("done", 1.0, None, "finished")
    failed = Job(session.new_file("a.png"), lambda told, cancel: told(1, 0), turn=turn)
    failed.join(10)
    assert (failed.state, type(failed.error)) == ("failed", ZeroDivisionError)


@pytest.mark.parametrize("when", ["before it begins", "while it runs", "as it ends"])
def test_work_that_is_cancelled_leaves_no_file(session, when) -> None:
    turn = ThreadPoolExecutor(1)
    before = Held()
    held = Held()
    target = session.new_file("large.png")

    def write(told: Any, cancel: threading.Event) -> None:
        target.write_bytes(b"whole")
        (cancel.set if when == "as it ends" else lambda: held(told, cancel))()

    if when == "before it begins":
        Job(session.new_file("a.png"), before, turn=turn)
    job = Job(target, write, turn=turn)
    if when == "while it runs":
        assert held.begun.wait(10)
    if when != "as it ends":
        job.cancel()
    job.join(10)
    before.let.set()
    assert job.state == "cancelled"
    assert not target.exists()


def test_newer_work_of_a_tab_ends_the_older_and_what_it_wrote(session) -> None:
    older = Held()
    turn = ThreadPoolExecutor(1)
    targets = [session.new_file("large.png") for _ in range(2)]
    targets[0].write_bytes(b"half")
    first = session.begin("enlarge", targets[0], older, turn=turn)
    assert older.begun.wait(10)
    second = session.begin(
        "enlarge", targets[1], lambda told, cancel: targets[1].write_bytes(b"whole"), turn=turn
    )
    for job in (first, second):
        job.join(10)
    assert (first.state, second.state) == ("cancelled", "done")
    assert not targets[0].parent.exists()
    assert second.target.read_bytes() == b"whole"
