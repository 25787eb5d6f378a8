"""Long work of a page: it runs in a thread, tells how far it is, and stops when its page asks or goes away."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from srflow_sdk._demo.sessions import Session
from srflow_sdk.errors import CancelledError

Work = Callable[[Callable[[int, int], None], threading.Event], Any]
"""What is done: a function of `progress` and `cancel`, as every drawing method takes them."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """How far work is. fraction: 0 to 1. left_s: about how many seconds are left; None: not known yet."""

    fraction: float
    left_s: float | None


def run(session: Session, name: str, work: Work) -> Iterator[Step | Any]:
    """Do work in a thread. Yields steps, the last of them with fraction 1, and then what the work returned.

    name: of the page's part; :func:`cancel` stops by it. Only one work of a name runs: an older one is stopped.
    Raises: what the work raises. If the iterator is closed, the work stops before its next tile.
    """
    cancel = threading.Event()
    older = session.jobs.get(name)
    if older is not None:
        older.set()
    session.jobs[name] = cancel
    told: queue.Queue[tuple[str, Any]] = queue.Queue()

    def in_thread() -> None:
        try:
            told.put(("done", work(lambda done, total: told.put(("step", (done, total))), cancel)))
        except BaseException as error:  # whatever it is, the page gets it
            told.put(("failed", error))
        finally:
            session.threads.discard(threading.current_thread())

    thread = threading.Thread(target=in_thread, name=f"srflow-demo-{name}", daemon=True)
    session.threads.add(thread)
    thread.start()
    started = time.monotonic()
    try:
        if session.closed:
            raise CancelledError("the page was closed")
        yield Step(fraction=0.0, left_s=None)
        while True:
            kind, value = told.get()
            if kind == "failed":
                raise value
            if kind == "done":
                yield Step(fraction=1.0, left_s=0.0)
                yield value
                return
            done, total = value
            passed = time.monotonic() - started
            yield Step(fraction=done / total, left_s=passed / done * (total - done) if done else None)
    finally:
        cancel.set()
        if session.jobs.get(name) is cancel:
            del session.jobs[name]


def cancel(session: Session, name: str) -> bool:
    """Stop the work of this name; False if none runs."""
    running = session.jobs.get(name)
    if running is not None:
        running.set()
    return running is not None
