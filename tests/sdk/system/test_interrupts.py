from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from srflow_sdk.system.interrupts import STOPPING, deferred_interrupts, kept_handlers, raised_interrupts


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


@pytest.mark.parametrize("swallowed", [False, True])
def test_an_interrupt_that_an_import_reports_as_its_own_failure_is_raised_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swallowed: bool
) -> None:
    (tmp_path / "broken_module.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt:\n    raise ImportError('initialization failed')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    reached = []

    def work() -> None:
        with raised_interrupts(*STOPPING), contextlib.suppress(ImportError if swallowed else ZeroDivisionError):
            import broken_module  # type: ignore[import-not-found]  # noqa: F401

    with pytest.raises(KeyboardInterrupt) as raised:
        work()
    assert raised.value.args == (signal.SIGINT,)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with raised_interrupts(*STOPPING):
        reached.append("the end")
    assert reached


def test_handlers_that_a_library_sets_do_not_stay() -> None:
    before = {number: signal.getsignal(number) for number in STOPPING}
    with kept_handlers():
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
    assert {number: signal.getsignal(number) for number in STOPPING} == before
