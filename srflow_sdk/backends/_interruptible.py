"""Runs long native calls so that Ctrl-C and other signals still reach Python."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


def interruptible(call: Callable[[], _T], *, stop: Callable[[], None]) -> _T:
    """Return call(). In the main thread it runs in another one, so that a signal's handler can run at once.

    Python runs handlers only between its own instructions, not inside a native call. stop: makes the call return soon;
    it is called if a handler raises, for example KeyboardInterrupt, which is raised on once the call has returned.
    """
    if threading.current_thread() is not threading.main_thread():
        return call()  # handlers only run in the main thread
    result: Future[_T] = Future()

    def work() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=work, name="srflow-run", daemon=True)
    try:
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            return call()
        thread.join()  # its end, not the result: the next call's thread then takes over its heap
    except BaseException:
        stop()
        with contextlib.suppress(RuntimeError):  # interrupted before the thread had started
            thread.join()
        raise
    return result.result()
