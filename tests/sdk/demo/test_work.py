"""Long work tells how far it is, and ends when it is cancelled, fails, or its page goes away."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from srflow_sdk._demo import work
from srflow_sdk._raising import stop_if_set
from srflow_sdk.errors import CancelledError, ImageError


def until_cancelled(ended: threading.Event | None = None) -> work.Work:
    def run(told: Any, cancel: threading.Event) -> None:
        told(1, 10)
        assert cancel.wait(10)
        if ended is not None:
            ended.set()
        stop_if_set(cancel)

    return run


def test_steps_come_in_order_and_the_result_last(session) -> None:
    def count(told: Any, cancel: threading.Event) -> str:
        for done in (1, 2, 4):
            told(done, 4)
        return "finished"

    *steps, result = work.run(session, "enlarge", count)
    assert [step.fraction for step in steps] == [0, 0.25, 0.5, 1, 1]
    assert steps[1].left_s >= 0
    assert steps[3].left_s == 0
    assert result == "finished"
    assert session.jobs == {}


def test_cancelling_ends_it_with_the_sdks_error(session) -> None:
    steps = work.run(session, "enlarge", until_cancelled())
    assert next(steps).fraction == 0
    assert work.cancel(session, "enlarge")
    with pytest.raises(CancelledError):
        list(steps)
    assert not work.cancel(session, "enlarge")


def test_a_page_that_goes_away_ends_it(session) -> None:
    ended = threading.Event()
    steps = work.run(session, "enlarge", until_cancelled(ended=ended))
    next(steps)
    steps.close()
    assert ended.wait(10)


def test_closing_the_session_ends_it(session, sessions) -> None:
    steps = work.run(session, "enlarge", until_cancelled())
    next(steps)
    (thread,) = session.threads
    sessions.end("page")
    assert not thread.is_alive()
    with pytest.raises(CancelledError):
        list(steps)


def test_newer_work_of_the_same_name_ends_the_older(session) -> None:
    older = work.run(session, "enlarge", until_cancelled())
    next(older)
    newer = work.run(session, "enlarge", lambda told, cancel: "newer")
    assert list(newer)[-1] == "newer"
    with pytest.raises(CancelledError):
        list(older)


def test_its_error_reaches_the_page(session) -> None:
    def fail(told: Any, cancel: threading.Event) -> None:
        raise ImageError("the disk is full")

    with pytest.raises(ImageError, match="the disk is full"):
        list(work.run(session, "enlarge", fail))
    assert session.jobs == {}
