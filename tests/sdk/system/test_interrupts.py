"""Signals and a caller's `cancel` end work at safe moments, native calls too."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srflow_sdk import Upscaler
from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.errors import CancelledError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system import interrupts
from srflow_sdk.system.interrupts import (
    STOPPING,
    abandonable,
    cancelled_by,
    deferred_interrupts,
    interruptible,
    kept_handlers,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send itself these signals")


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def pythons_own_handler() -> Iterator[None]:
    """Whatever this test run itself does with Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_waits_for_the_check() -> None:
    reached = []

    def work() -> None:
        with deferred_interrupts() as check:
            check()
            press_ctrl_c()
            reached.append("not interrupted here")
            check()
            reached.append("but there")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["not interrupted here"]


def test_an_interrupt_that_nobody_checked_for_is_raised_at_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), deferred_interrupts():
        press_ctrl_c()


def test_a_second_interrupt_does_not_wait() -> None:
    reached = []

    def work() -> None:
        with deferred_interrupts():
            press_ctrl_c()
            press_ctrl_c()
            reached.append("too far")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not reached


def test_another_error_is_not_hidden_and_the_handler_is_restored() -> None:
    def work() -> None:
        with deferred_interrupts():
            press_ctrl_c()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ignored_interrupts_stay_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with deferred_interrupts() as check:
        press_ctrl_c()
        check()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize("number", STOPPING)
def test_other_signals_that_ask_to_stop_wait_too_and_say_which_they_are(number: int) -> None:
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    runners = signal.signal(number, default)  # pytest-xdist's processes have a handler of their own
    reached = []

    def work() -> None:
        with deferred_interrupts(*STOPPING) as interrupts:
            os.kill(os.getpid(), number)
            reached.append(interrupts.number)
            interrupts()

    try:
        with pytest.raises(KeyboardInterrupt) as raised:
            work()
        assert (reached, raised.value.args) == ([number], (number,))
        assert signal.getsignal(number) is default
    finally:
        signal.signal(number, runners)


def test_in_another_thread_nothing_is_held_back() -> None:
    def work() -> bool:
        with deferred_interrupts() as check:
            check()
            return signal.getsignal(signal.SIGINT) is signal.default_int_handler

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result()


def test_handlers_that_a_library_sets_do_not_stay() -> None:
    before = {number: signal.getsignal(number) for number in STOPPING}
    with kept_handlers():
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
    assert {number: signal.getsignal(number) for number in STOPPING} == before


class LongCall:
    """In place of a session: a signal arrives in the middle of its run, which only ends once it is told to."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.ended_early = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        threading.Event().wait(0.2)  # until the main thread waits
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(3000):
            if options is not None and options.terminate:
                self.ended_early = True
                return
            threading.Event().wait(0.01)


def test_ctrl_c_ends_a_run_at_its_next_operator_and_the_backend_still_works(tiny_bundle: Path) -> None:
    lr = np.ones((1, 3, 8, 8), np.float32)
    with OnnxRuntimeBackend(Bundle.open(tiny_bundle), threads=1) as backend:
        expected = backend.encode(lr).nbytes
        session = backend._encoder
        backend._encoder = long = LongCall(session)
        with pytest.raises(KeyboardInterrupt):
            backend.encode(lr)
        assert long.ended_early
        backend._encoder = session
        assert backend.encode(lr).nbytes == expected


def test_other_threads_make_the_call_themselves() -> None:
    found: list[bool] = []

    def caller() -> None:
        here = threading.current_thread()
        found.append(interruptible(lambda: threading.current_thread() is here, stop=lambda: None))

    thread = threading.Thread(target=caller)
    thread.start()
    thread.join()
    assert found == [True]
    assert interruptible(lambda: threading.current_thread() is not threading.main_thread(), stop=lambda: None)


def test_errors_of_the_call_are_the_callers_and_without_threads_it_is_made_here(monkeypatch) -> None:
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0, stop=lambda: None)

    def no_thread(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert interruptible(lambda: 5, stop=lambda: None) == 5


@pytest.mark.parametrize("in_main_thread", [True, False])
def test_a_callers_cancel_ends_a_run_at_its_next_operator(tiny_bundle: Path, in_main_thread: bool) -> None:
    class Waiting(LongCall):
        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            event.set()  # in the middle of the run
            for _ in range(3000):
                if options.terminate:
                    self.ended_early = True
                    raise RuntimeError("Exiting due to terminate flag being set to true.")
                threading.Event().wait(0.01)

    event = threading.Event()
    lr = np.ones((1, 3, 8, 8), np.float32)
    with OnnxRuntimeBackend(Bundle.open(tiny_bundle), threads=1) as backend:
        backend._encoder = long = Waiting(backend._encoder)

        def encode() -> None:
            with cancelled_by(event), pytest.raises(CancelledError):
                backend.encode(lr)

        if in_main_thread:
            encode()
        else:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(encode).result()
        assert long.ended_early


def test_a_cancelled_picture_of_a_single_tile_does_not_wait_for_the_tile() -> None:
    event = threading.Event()
    picture = np.zeros((700, 700, 3), np.uint8)
    with Upscaler(device="cpu", threads=1, tile=None) as upscaler, ThreadPoolExecutor(1) as pool:
        upscaler.upscale(picture[:16, :16])  # nothing is loaded later
        drawing = pool.submit(upscaler.upscale, picture, cancel=event)
        threading.Timer(0.5, event.set).start()
        begun = time.monotonic()
        with pytest.raises(CancelledError):
            drawing.result()
        assert time.monotonic() - begun < 10  # half a second, and an operator; the picture would take half a minute


def test_an_interrupt_is_raised_once_the_call_has_ended_and_not_before() -> None:
    ended = []

    def call() -> None:
        threading.Event().wait(0.2)  # until the main thread waits
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(0.5)  # a native call that needs a moment to stop
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        interruptible(call, stop=lambda: None)
    assert ended == [True]


def test_a_call_that_waits_for_others_is_left_after_its_time_or_once_it_is_cancelled() -> None:
    silent, cancel, stopped = threading.Event(), threading.Event(), []
    assert abandonable(lambda: 5, seconds=30) == 5
    with pytest.raises(ZeroDivisionError):
        abandonable(lambda: 1 // 0, stop=lambda: stopped.append("failed"))
    with pytest.raises(TimeoutError):
        abandonable(silent.wait, seconds=0.05, stop=lambda: stopped.append("late"))
    cancel.set()
    with cancelled_by(cancel):
        with pytest.raises(FutureCancelledError):
            abandonable(silent.wait, stop=lambda: stopped.append("cancelled"))
        assert abandonable(lambda: threading.Event().wait(0.05), grace=30) is False
    assert stopped == ["failed", "late", "cancelled"]
    silent.set()


def test_ctrl_c_leaves_a_call_that_waits_for_others() -> None:
    silent = threading.Event()
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        abandonable(silent.wait)
    silent.set()


def test_a_signal_whose_number_got_lost_on_the_way_keeps_its_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_raised", [])
    assert interrupts.exit_status() == 130
    with interrupts.raised_interrupts(signal.SIGTERM), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert interrupts.exit_status() == 143
