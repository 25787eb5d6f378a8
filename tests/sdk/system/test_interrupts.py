"""Signals and a caller's `cancel` end work at safe moments, native calls too."""

import os
import signal
import sys
import threading
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

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


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def pythons_own_handler():
    """Whatever this test run itself does with Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_waits_for_the_check_or_the_end_and_a_second_one_does_not():
    reached = []

    def work(presses, check_after):
        with deferred_interrupts() as check:
            check()
            for press in range(presses):
                press_ctrl_c()
                reached.append(press)
            if check_after:
                check()
            reached.append("end")

    for presses, check_after, expected in ((1, True, [0]), (1, False, [0, "end"]), (2, False, [0])):
        with pytest.raises(KeyboardInterrupt):
            work(presses, check_after)
        assert reached == expected
        reached.clear()


def test_another_error_is_not_hidden_and_the_handler_is_restored_also_of_those_who_ignore_it():
    with pytest.raises(ZeroDivisionError), deferred_interrupts():  # noqa: PT012
        press_ctrl_c()
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with deferred_interrupts() as check:
        press_ctrl_c()
        check()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize("number", STOPPING)
def test_other_signals_that_ask_to_stop_wait_too_and_say_which_they_are(number):
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    runners = signal.signal(number, default)  # pytest-xdist's processes have a handler of their own
    reached = []

    def work():
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


def test_handlers_that_a_library_sets_do_not_stay():
    before = {number: signal.getsignal(number) for number in STOPPING}
    with kept_handlers():
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
    assert {number: signal.getsignal(number) for number in STOPPING} == before


@pytest.mark.parametrize("how", ["ctrl-c", "cancel", "cancel in a thread"])
def test_a_run_ends_at_its_next_operator_and_the_backend_still_works(tiny_bundle, how):
    event, lr, ended_early = threading.Event(), np.ones((1, 3, 8, 8), np.float32), []

    class LongCall:
        """In place of a session: a run that only ends once it is told to."""

        def __getattr__(self, name):
            return getattr(session, name)

        def run_with_iobinding(self, binding, options):
            if how == "ctrl-c":
                threading.Event().wait(0.1)  # until the main thread waits
                press_ctrl_c()
            event.set()
            for _ in range(3000):
                if options.terminate:
                    threading.Event().wait(0.1)  # a native call needs a moment to stop
                    ended_early.append(True)
                    raise RuntimeError("Exiting due to terminate flag being set to true.")
                threading.Event().wait(0.01)

    with OnnxRuntimeBackend(Bundle.open(tiny_bundle), threads=1) as backend:
        session, backend._encoder = backend._encoder, LongCall()

        def encode():
            with cancelled_by(None if how == "ctrl-c" else event):
                backend.encode(lr)

        with pytest.raises(KeyboardInterrupt if how == "ctrl-c" else CancelledError), ThreadPoolExecutor(1) as pool:
            pool.submit(encode).result() if "thread" in how else encode()
        assert ended_early == [True], "it is raised once the call has ended, and not before"
        backend._encoder = session
        assert backend.encode(lr).nbytes == 64 * 32


def test_other_threads_make_the_call_themselves():
    found = []

    def caller():
        here = threading.current_thread()
        found.append(interruptible(lambda: threading.current_thread() is here, stop=lambda: None))

    thread = threading.Thread(target=caller)
    thread.start()
    thread.join()
    assert found == [True]
    assert interruptible(lambda: threading.current_thread() is not threading.main_thread(), stop=lambda: None)


def test_errors_of_the_call_are_the_callers_and_without_threads_it_is_made_here(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0, stop=lambda: None)

    def no_thread(_self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert interruptible(lambda: 5, stop=lambda: None) == 5


def test_a_call_that_waits_for_others_is_left_after_its_time_or_once_it_is_cancelled():
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
    threading.Timer(0.1, press_ctrl_c).start()
    with pytest.raises(KeyboardInterrupt):
        abandonable(silent.wait)
    silent.set()


def test_a_signal_whose_number_got_lost_on_the_way_keeps_its_exit_status(monkeypatch):
    monkeypatch.setattr(interrupts, "_raised", [])
    assert interrupts.exit_status() == 130
    with interrupts.raised_interrupts(signal.SIGTERM), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert interrupts.exit_status() == 143
