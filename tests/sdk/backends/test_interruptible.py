from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.backends._interruptible import interruptible
from srflow_sdk.bundle import Bundle

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send itself these signals")


class LongCall:
    """In place of a session: a signal arrives in the middle of its run, which only ends once it is told to."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.ended_early = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
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
