"""Runs a list of jobs: one bad file does not stop the others, and what is already done is left alone."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Literal, Protocol

from srflow_sdk._batch.planning import Job
from srflow_sdk._drawing.file_upscaling import FileResult, provenance_of
from srflow_sdk._drawing.output_size import OutputSize
from srflow_sdk._drawing.requests import DrawOptions
from srflow_sdk._files import MAX_PIXELS, Provenance, is_whole, open_image, read_provenance, remove_stale_parts
from srflow_sdk._system.hashing import file_sha256
from srflow_sdk.errors import ArgumentError, CancelledError, ImageError, MissingExtraError, SRFlowError
from srflow_sdk.manifest import Manifest
from srflow_sdk.upscaler import Upscaler

Status = Literal["done", "skipped", "failed"]

_POLL_S = 0.2
_DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to do with every file, as in :meth:`Upscaler.upscale_file`.

    draw: with no array for `tau`, and without `progress` and `cancel`, which belong to the run. resume: skip inputs
    whose outputs all exist and were made from the same file with these settings. overwrite: replace files that exist;
    otherwise inputs with such an output are skipped. quality, lossless: they do not count for `resume`.
    """

    draw: DrawOptions = field(default_factory=DrawOptions)
    report: bool = False
    max_pixels: int = MAX_PIXELS
    resume: bool = False
    overwrite: bool = True
    quality: int | None = None
    lossless: bool = False


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """The outcome of a job.

    error: one line, if it failed. file: size, time and outputs, if it is done. disk_full: whether that made it fail.
    """

    job: Job
    status: Status
    error: str | None = None
    file: FileResult | None = None
    disk_full: bool = False


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The outcome of all jobs.

    results: in order, of jobs that were started and not interrupted. jobs: how many there are. interrupted: whether
    Ctrl-C or another signal ended the batch. disk_full: whether a full disk ended it.
    """

    results: tuple[JobResult, ...]
    jobs: int
    interrupted: bool
    disk_full: bool = False

    def count(self, status: Status) -> int:
        """How many jobs ended with this status."""
        return sum(result.status == status for result in self.results)

    @property
    def remaining(self) -> int:
        """How many jobs are neither done nor skipped."""
        return self.jobs - self.count("done") - self.count("skipped")

    def __str__(self) -> str:
        """One line: "5 done, 2 skipped, 1 failed"."""
        return ", ".join(f"{self.count(status)} {status}" for status in ("done", "skipped", "failed"))


class Watcher(Protocol):
    """Follows a batch. Called from any thread, but :meth:`finished` only from the one that runs the batch."""

    def progressed(self, number: int, done: int, total: int) -> None:
        """Called when `done` of `total` tiles of a job are drawn. Jobs are numbered from 1."""

    def finished(self, number: int, result: JobResult) -> None:
        """Called when the job has ended and its files are in place. Jobs end in order."""


def run_jobs(
    jobs: Sequence[Job],
    upscaler: Upscaler,
    *,
    settings: Settings,
    watcher: Watcher | None = None,
    check: Callable[[], None] = lambda: None,
) -> Summary:
    """Upscale every input; failures are part of the summary.

    check: called between files and between tiles, but not while files are being finished. A KeyboardInterrupt that it
    raises ends the batch: finished files stay, and nothing remains of the current one. A full disk ends it too, because
    the other files would also fail, after all the work. What killed runs left of these outputs is removed first.

    Raises: ArgumentError, MissingExtraError: these concern every file alike.
    """
    remove_stale_parts(*(target for job in jobs for target in job.targets))
    results: list[JobResult] = []
    begun: deque[Future[JobResult]] = deque()
    cancel = threading.Event()
    changed: SimpleQueue[None] = SimpleQueue()

    def end_first() -> None:
        results.append(begun.popleft().result())
        if watcher is not None:
            watcher.finished(len(results), results[-1])
        if results[-1].disk_full:
            raise _DiskFullError

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
                begun.append(pool.submit(work.run, upscaler))
                begun[-1].add_done_callback(lambda _: changed.put(None))
                wait_for(work)
            wait_for(None)
        except (KeyboardInterrupt, _DiskFullError) as error:
            cancel.set()
            while begun:
                with contextlib.suppress(KeyboardInterrupt, _DiskFullError, SRFlowError):
                    end_first()  # it may have been finishing its files
            full = isinstance(error, _DiskFullError)
            return Summary(results=tuple(results), jobs=len(jobs), interrupted=not full, disk_full=full)
        except BaseException:
            cancel.set()
            raise
    return Summary(results=tuple(results), jobs=len(jobs), interrupted=False)


def is_done(job: Job, upscaler: Upscaler, *, settings: Settings) -> bool:
    """Whether every output of a job exists and was made from the input as it is now, with these settings.

    The tiles' size and the SDK's version do not count. Files are read whole only if their headers agree.
    Raises: ImageError, OSError if the input cannot be read.
    """
    manifest, draw = upscaler.bundle.manifest, settings.draw
    tau = draw.tau_number(manifest)
    provenances = [found for target in job.targets if (found := _provenance(target)) is not None]
    if len(provenances) < len(job.targets):
        return False
    scale = _scale_for(job, manifest, settings)
    hashes = set()
    for number, found in enumerate(provenances, start=draw.sample):
        wanted = provenance_of(
            manifest,
            draw,
            tau=tau,
            sample=number,
            source=job.source,
            source_sha256=found.source_sha256,
            tile=None,
            scale=scale,
        )
        if _what_matters(found) != _what_matters(wanted):
            return False
        hashes.add(found.source_sha256)
    return all(map(is_whole, job.targets)) and hashes == {file_sha256(job.source)}  # copies may have been cut short


def _scale_for(job: Job, manifest: Manifest, settings: Settings) -> float | None:
    """The scale of a job's outputs; only a size in pixels needs a look at the input."""
    if not isinstance(settings.draw.scale, OutputSize):
        return settings.draw.scale_for(manifest, height=1, width=1)
    with open_image(job.source, max_pixels=settings.max_pixels) as reader:
        return settings.draw.scale_for(manifest, height=reader.height, width=reader.width)


def _provenance(target: Path) -> Provenance | None:
    try:
        return read_provenance(target) if target.is_file() else None
    except (ImageError, OSError):
        return None  # unreadable: it is made again


def _what_matters(provenance: Provenance) -> Provenance:
    return dataclasses.replace(provenance, model="", sdk_version="", tile=None, source="")


class _DiskFullError(Exception):
    """A job failed because the disk is full."""


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

    def run(self, upscaler: Upscaler) -> JobResult:
        try:
            return self._run(upscaler)
        finally:
            self.drawn.set()

    def _run(self, upscaler: Upscaler) -> JobResult:
        job, settings = self.job, self.settings
        try:
            if not settings.overwrite and any(os.path.lexists(target) for target in job.targets):
                return JobResult(job=job, status="skipped")
            if settings.resume and is_done(job, upscaler, settings=settings):
                return JobResult(job=job, status="skipped")
            file = upscaler.upscale_file(
                job.source,
                job.targets,
                report=settings.report,
                max_pixels=settings.max_pixels,
                quality=settings.quality,
                lossless=settings.lossless,
                **dataclasses.replace(settings.draw, progress=self._progress, cancel=self.cancel).keywords,
            )
        except (ArgumentError, MissingExtraError, CancelledError):
            raise
        except SRFlowError as error:
            return _failed(job, str(error), cause=error)
        except MemoryError as error:
            why = "out of memory; ask for smaller tiles (--tile 64) or fewer samples at a time"
            return _failed(job, why, cause=error)
        except OSError as error:
            return _failed(job, error.strerror or str(error), cause=error)
        return JobResult(job=job, status="done", file=file)

    def _progress(self, done: int, total: int) -> None:
        if self.watcher is not None:
            self.watcher.progressed(self.number, done, total)
        if done < total:
            self.check()
        else:  # the files get finished even if interrupted
            self.drawn.set()
            self.changed.put(None)


def _failed(job: Job, reason: str, *, cause: BaseException) -> JobResult:
    line = " ".join(reason.split())
    if str(job.source) not in line:
        line = f"{job.source}: {line}"
    codes = _error_numbers(cause)
    if codes & {errno.EMFILE, errno.ENFILE}:
        line += "; ask for fewer samples at a time"
    full = "the disk is full" in line or bool(codes & _DISK_FULL)
    return JobResult(job=job, status="failed", error=line, disk_full=full)


def _error_numbers(error: BaseException | None) -> set[int | None]:
    """The system error numbers of an error and of its causes."""
    found: set[int | None] = set()
    while error is not None:
        if isinstance(error, OSError):
            found.add(error.errno)
        error = error.__cause__
    return found
