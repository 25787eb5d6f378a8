"""Commands handle the signals that ask to stop at safe moments, and put all handlers back."""

import os
import signal

import pytest

from srflow_apps.commands.signals import STOPPING, deferred_interrupts, kept_handlers

pytestmark = pytest.mark.not_on_windows("Windows cannot send itself these signals")


def test_an_interrupt_waits_for_the_check_or_the_end_and_a_second_one_does_not(press_ctrl_c):
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


def test_another_error_is_not_hidden_and_the_handler_is_restored_also_of_those_who_ignore_it(
    press_ctrl_c,
):
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
