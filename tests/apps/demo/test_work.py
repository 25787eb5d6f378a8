"""Long work tells how far it is, waits for its turn, and ends when it is cancelled, fails, or its page goes away."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from srflow_apps.demo.sessions import Job, PageGoneError
from srflow_sdk.errors import ImageError
from srflow_sdk.system.raising import stop_if_set


class Held:
    """Work that says that it has begun, and goes on when it is let, or is cancelled."""

    def __init__(self) -> None:
        self.begun, self.let = threading.Event(), threading.Event()

    def __call__(self, told: Any, cancel: threading.Event) -> str:
        told(1, 4)
        self.begun.set()
        while not self.let.wait(0.01):
            stop_if_set(cancel)
        return "finished"


def test_it_tells_how_far_it_is_and_what_it_made() -> None:
    held = Held()
    job = Job(held, turn=ThreadPoolExecutor(1))
    assert held.begun.wait(10)
    assert (job.state, job.fraction, job.runs) == ("running", 0.25, True)
    assert job.left_s >= 0
    held.let.set()
    job.join(10)
    assert (job.state, job.fraction, job.runs, job.left_s, job.result) == ("done", 1.0, False, None, "finished")


def test_only_one_of_a_turn_runs() -> None:
    turn, first, second = ThreadPoolExecutor(1), Held(), Held()
    one = Job(first, turn=turn)
    assert first.begun.wait(10)
    other = Job(second, turn=turn)
    assert not second.begun.wait(0.2)
    assert other.state == "waiting"
    first.let.set()
    second.let.set()
    for job in (one, other):
        job.join(10)
    assert (one.state, other.state) == ("done", "done")


@pytest.mark.parametrize("waits", [True, False])
def test_cancelling_ends_it(waits) -> None:
    turn, before, held = ThreadPoolExecutor(1), Held(), Held()
    if waits:
        Job(before, turn=turn)
    job = Job(held, turn=turn)
    if not waits:
        assert held.begun.wait(10)
    job.cancel()
    job.join(10)
    before.let.set()
    assert job.state == "cancelled"


def test_its_error_is_kept_for_the_page() -> None:
    def fail(told: Any, cancel: threading.Event) -> None:
        raise ImageError("the disk is full")

    job = Job(fail, turn=ThreadPoolExecutor(1))
    job.join(10)
    assert job.state == "failed"
    assert str(job.error) == "the disk is full"


def test_newer_work_of_a_tab_ends_the_older_and_what_it_wrote(session) -> None:
    targets = [session.new_file("large.png") for _ in range(2)]
    older, turn = Held(), ThreadPoolExecutor(1)
    targets[0].write_bytes(b"half")
    session.begin("enlarge", targets[0], older, turn=turn)
    assert older.begun.wait(10)
    first = session.jobs["enlarge"]
    session.begin("enlarge", targets[1], lambda told, cancel: targets[1].write_bytes(b"whole"), turn=turn)
    for job in (first, session.jobs["enlarge"]):
        job.join(10)
    assert (first.state, session.jobs["enlarge"].state) == ("cancelled", "done")
    assert not targets[0].parent.exists()
    assert session.result(targets[1].parent.name) == targets[1]


def test_work_that_ends_as_it_is_cancelled_leaves_no_file(session) -> None:
    target = session.new_file("large.png")

    def write(told: Any, cancel: threading.Event) -> None:
        target.write_bytes(b"whole")
        cancel.set()

    session.begin("enlarge", target, write, turn=ThreadPoolExecutor(1))
    session.jobs["enlarge"].join(10)
    assert session.jobs["enlarge"].state == "cancelled"
    assert not target.exists()


def test_closing_the_page_ends_it_and_nothing_begins_any_more(sessions) -> None:
    key, session = sessions.open()
    held = Held()
    session.begin("enlarge", session.new_file("large.png"), held, turn=ThreadPoolExecutor(1))
    assert held.begun.wait(10)
    sessions.close(key)
    sessions.release()
    assert session.jobs["enlarge"].state == "cancelled"
    assert not session.folder.exists()
    with pytest.raises(PageGoneError):
        session.begin("enlarge", session.folder / "a" / "large.png", held, turn=ThreadPoolExecutor(1))
