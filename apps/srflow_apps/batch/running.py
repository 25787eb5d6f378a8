"""Runs jobs in threads of this process: one bad file does not stop the others."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Protocol

from srflow_apps.batch.jobs import FolderFile, FolderResult, Job, Settings
from srflow_apps.batch.models import Models
from srflow_apps.batch.one_file import do_one
from srflow_apps.batch.storage import remove_leftovers
from srflow_sdk.errors import SRFlowError

_POLL_S = 0.2


class Watcher(Protocol):
    """Follows a batch. Called from any thread, but :meth:`finished` only from the one that runs the batch."""

    def progressed(self, number: int, done: int, total: int) -> None:
        """Called when `done` of `total` tiles of a job are drawn. Jobs are numbered from 1."""

    def finished(self, number: int, file: FolderFile) -> None:
        """Called when the job has ended and its files are in place. Jobs end in order."""


class Executor(Protocol):
    """Runs the jobs of a plan, wherever it likes, by :func:`~srflow_apps.batch.one_file.do_one`."""

    def __call__(
        self, jobs: Sequence[Job], *, settings: Settings, watcher: Watcher | None, check: Callable[[], None]
    ) -> FolderResult:
        """Run them as :func:`run_jobs` does: a file that fails is a result, and check() may end the batch."""


def run_jobs(
    jobs: Sequence[Job],
    models: Models,
    *,
    settings: Settings,
    watcher: Watcher | None = None,
    check: Callable[[], None] = lambda: None,
) -> FolderResult:
    """Do every job; failures are part of the result.

    check: called between files and between tiles, but not while files are being finished. A KeyboardInterrupt that it
    raises ends the batch: finished files stay, and nothing remains of the current one. A full disk ends it too, and so
    does a server that is lost, because the other files would also fail, after all the work. What killed runs left of
    these outputs is removed first.

    Raises: ArgumentError, MissingExtraError: these concern every file alike.
    """
    remove_leftovers([target for job in jobs for target in job.targets])
    results: list[FolderFile] = []
    begun: deque[Future[FolderFile]] = deque()
    cancel = threading.Event()
    changed: SimpleQueue[None] = SimpleQueue()

    def result(**ended: bool) -> FolderResult:
        device, precision = models.any.device, str(models.any.precision)
        return FolderResult(files=tuple(results), total=len(jobs), device=device, precision=precision, **ended)

    def end_first() -> None:
        results.append(begun.popleft().result())
        if watcher is not None:
            watcher.finished(len(results), results[-1])
        if results[-1].disk_full or results[-1].server_lost:
            raise _HopelessError

    def wait_for(last: _Work | None) -> None:
        """Wait until `last` is drawn and all others have ended; None: until all have ended. Reports each at once."""
        while True:
            while begun and begun[0].done():
                end_first()
            if not begun or (last is not None and last.drawn.is_set() and len(begun) == 1):
                return
            with contextlib.suppress(Empty):
                changed.get(timeout=_POLL_S)
            check()

    # Two: while a file's last rows are encoded and written, the next is opened and drawn.
    with ThreadPoolExecutor(2, thread_name_prefix="srflow-file") as pool:
        try:
            for number, job in enumerate(jobs, start=1):
                check()
                work = _Work(
                    number=number,
                    job=job,
                    settings=settings,
                    watcher=watcher,
                    check=check,
                    cancel=cancel,
                    changed=changed,
                )
                begun.append(pool.submit(work.run, models))
                begun[-1].add_done_callback(lambda _: changed.put(None))
                wait_for(work)
            wait_for(None)
        except (KeyboardInterrupt, _HopelessError) as error:
            cancel.set()
            while begun:
                with contextlib.suppress(KeyboardInterrupt, _HopelessError, SRFlowError):
                    end_first()  # it may have been finishing its files
            return result(
                interrupted=not isinstance(error, _HopelessError),
                disk_full=any(file.disk_full for file in results),
                server_lost=any(file.server_lost for file in results),
            )
        except BaseException:
            cancel.set()
            raise
    return result()


class _HopelessError(Exception):
    """A job failed because the disk is full or the server is lost: all others would, too."""


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One job in a thread of its own. drawn: set when only finishing its files is left."""

    number: int
    job: Job
    settings: Settings
    watcher: Watcher | None
    check: Callable[[], None]
    cancel: threading.Event
    changed: SimpleQueue[None]
    drawn: threading.Event = field(default_factory=threading.Event)

    def run(self, models: Models) -> FolderFile:
        try:
            return do_one(
                self.job,
                models,
                settings=self.settings,
                progress=self._progress,
                cancel=self.cancel,
            )
        finally:
            self.drawn.set()

    def _progress(self, done: int, total: int) -> None:
        if self.watcher is not None:
            self.watcher.progressed(self.number, done, total)
        if done < total:
            self.check()
        else:  # the files get finished even if interrupted
            self.drawn.set()
            self.changed.put(None)
