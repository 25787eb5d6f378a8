from __future__ import annotations

import os
import signal
import sys
import time
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


def test_an_interrupt_during_an_import_is_raised_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_module.py").write_text(
        "import os, signal, time\n"
        "for _ in range(2):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(0.1)\n"
        "complete = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def work() -> None:
        with raised_interrupts(*STOPPING):
            import slow_module  # type: ignore[import-not-found]

            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                time.sleep(0.01)
            pytest.fail(f"nothing was raised after {slow_module}")

    with pytest.raises(KeyboardInterrupt) as raised:
        work()
    assert raised.value.args == (signal.SIGINT,)
    assert sys.modules.pop("slow_module").complete
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_of_an_import_that_fails_is_raised_at_the_end_of_the_block_and_not_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise ImportError('initialization failed')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def work() -> None:
        with raised_interrupts(*STOPPING):
            import broken_module  # type: ignore[import-not-found]

            pytest.fail(f"{broken_module} was imported")

    with pytest.raises(KeyboardInterrupt) as raised:
        work()
    assert raised.value.args == (signal.SIGINT,)
    again: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: again.append(number))
    time.sleep(0.1)  # five times as long as a signal is put off
    assert again == []


def test_without_a_thread_to_put_it_off_an_interrupt_is_raised_during_the_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("srflow_sdk.system.interrupts._thread.start_new_thread", none_left)
    (tmp_path / "slow_module.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), raised_interrupts(*STOPPING):
            import slow_module  # noqa: F401


def test_handlers_that_a_library_sets_do_not_stay() -> None:
    before = {number: signal.getsignal(number) for number in STOPPING}
    with kept_handlers():
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
    assert {number: signal.getsignal(number) for number in STOPPING} == before
