"""Runs jobs in threads of this process: one bad file does not stop the others."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from srflow_apps.batch.jobs import FolderFile, FolderResult, Settings
from srflow_apps.batch.one_file import Models, do_one
from srflow_apps.batch.operations import Job
from srflow_apps.batch.storage import remove_leftovers
from srflow_apps.batch.url_paths import UrlPath
from srflow_sdk.errors import SRFlowError
from srflow_sdk.files import count_pixels

_POLL_S = 0.2
UNKNOWN_PIXELS = 1_000_000
"""The pixels that an input with a URL counts for."""


class Watcher(Protocol):
    """Follows a batch. Called from any thread, but :meth:`finished` only from the one that runs the batch."""

    def progressed(self, number: int, done: int, total: int) -> None:
        """Called when `done` of `total` tiles of a job are drawn. Jobs are numbered from 1."""

    def finished(self, number: int, file: FolderFile) -> None:
        """Called when the job has ended and its files are in place. Jobs end in order."""


class Pixels:
    """How far a batch is, in the pixels of its inputs. Only grows.

    max_pixels: larger inputs fail, and count nothing. check: called between files, whose headers are read; may raise.
    work: how much each job is, instead.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        max_pixels: int,
        check: Callable[[], None] = lambda: None,
        work: Sequence[int] | None = None,
    ) -> None:
        self._of_each: list[int] = [] if work is None else list(work)
        for job in jobs if work is None else ():
            check()
            of_url = isinstance(job.source, UrlPath)  # not fetched only to be counted
            self._of_each.append(UNKNOWN_PIXELS if of_url else count_pixels(job.source, max_pixels=max_pixels))
        self._reached = [0] * len(self._of_each)

    @property
    def done(self) -> int:
        return sum(self._reached)

    @property
    def total(self) -> int:
        return sum(self._of_each)

    def reach(self, number: int, part: float) -> int:
        """Count a part, 0 … 1, of a job, numbered from 1, as done. Returns how many pixels that adds."""
        step = round(self._of_each[number - 1] * part) - self._reached[number - 1]
        self._reached[number - 1] += max(step, 0)
        return max(step, 0)

    def leave_out(self, number: int) -> int:
        """Forget what a job has not reached: it takes no time. Returns how many pixels that are."""
        rest = self._of_each[number - 1] - self._reached[number - 1]
        self._of_each[number - 1] -= rest
        return rest


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
    run = _Run(models, settings, watcher, check)
    ended: dict[str, Any] = {}
    # Two: while a file's last rows are encoded and written, the next is opened and drawn.
    with ThreadPoolExecutor(2, thread_name_prefix="srflow-file") as pool:
        try:
            for number, job in enumerate(jobs, start=1):
                check()
                run.wait_for(run.begin(number, job, pool))
            run.wait_for(None)
        except (KeyboardInterrupt, _HopelessError) as error:
            run.end_all()
            ended = {
                "interrupted": not isinstance(error, _HopelessError),
                "disk_full": any(file.disk_full for file in run.results),
                "server_lost": any(file.server_lost for file in run.results),
            }
        except BaseException:
            run.cancel.set()
            raise
    device, precision = models.upscaler.device, str(models.upscaler.precision)
    return FolderResult(files=tuple(run.results), total=len(jobs), device=device, precision=precision, **ended)


class _HopelessError(Exception):
    """A job failed because the disk is full or the server is lost: all others would, too."""


class _Run:
    """The jobs that threads do now, and the results of those that have ended."""

    def __init__(self, models: Models, settings: Settings, watcher: Watcher | None, check: Callable[[], None]) -> None:
        self.results: list[FolderFile] = []
        self.cancel = threading.Event()
        self._models, self._settings, self._watcher, self._check = models, settings, watcher, check
        self._begun: deque[Future[FolderFile]] = deque()
        self._changed: SimpleQueue[None] = SimpleQueue()

    def begin(self, number: int, job: Job, pool: ThreadPoolExecutor) -> threading.Event:
        """Begin a job in a thread. Returns what is set when only finishing its files is left."""
        drawn = threading.Event()

        def progressed(done: int, total: int) -> None:
            if self._watcher is not None:
                self._watcher.progressed(number, done, total)
            if done < total:
                self._check()
            else:  # the files get finished even if interrupted
                drawn.set()
                self._changed.put(None)

        def work() -> FolderFile:
            try:
                return do_one(job, self._models, settings=self._settings, progress=progressed, cancel=self.cancel)
            finally:
                drawn.set()

        self._begun.append(pool.submit(work))
        self._begun[-1].add_done_callback(lambda _: self._changed.put(None))
        return drawn

    def wait_for(self, drawn: threading.Event | None) -> None:
        """Wait until the last job is drawn and all others have ended; None: until all have. Reports each at once."""
        while True:
            while self._begun and self._begun[0].done():
                self._end_first()
            if not self._begun or (drawn is not None and drawn.is_set() and len(self._begun) == 1):
                return
            with contextlib.suppress(Empty):
                self._changed.get(timeout=_POLL_S)
            self._check()

    def end_all(self) -> None:
        """End the batch; a job that is finishing its files counts."""
        self.cancel.set()
        while self._begun:
            with contextlib.suppress(KeyboardInterrupt, _HopelessError, SRFlowError):
                self._end_first()

    def _end_first(self) -> None:
        self.results.append(self._begun.popleft().result())
        if self._watcher is not None:
            self._watcher.finished(len(self.results), self.results[-1])
        if self.results[-1].disk_full or self.results[-1].server_lost:
            raise _HopelessError
