"""A caller's `cancel` and signals end native calls."""

import threading
from concurrent.futures import CancelledError as FutureCancelledError, ThreadPoolExecutor

import numpy as np
import pytest

from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.errors import CancelledError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.interrupts import abandonable, cancelled_by, interruptible

pytestmark = pytest.mark.not_on_windows("Windows cannot send itself these signals")


@pytest.mark.parametrize("how", ["ctrl-c", "cancel", "cancel in a thread"])
def test_a_run_ends_at_its_next_operator_and_the_backend_still_works(
    press_ctrl_c, tiny_bundle, how
):
    event = threading.Event()
    lr = np.ones((1, 3, 8, 8), np.float32)
    ended_early = []

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
        session = backend._encoder
        backend._encoder = LongCall()

        def encode():
            with cancelled_by(None if how == "ctrl-c" else event):
                backend.encode(lr)

        with (
            pytest.raises(KeyboardInterrupt if how == "ctrl-c" else CancelledError),
            ThreadPoolExecutor(1) as pool,
        ):
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
    assert interruptible(
        lambda: threading.current_thread() is not threading.main_thread(), stop=lambda: None
    )


def test_errors_of_the_call_are_the_callers():
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0, stop=lambda: None)


def test_a_call_that_waits_for_others_is_left_after_its_time_or_once_it_is_cancelled(press_ctrl_c):
    silent = threading.Event()
    cancel = threading.Event()
    stopped = []
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
