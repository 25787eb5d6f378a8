"""Does one job, anywhere: what an executor calls in its threads, processes or machines."""

from __future__ import annotations

import dataclasses
import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from srflow_apps.batch.jobs import FolderFile, Job, Settings
from srflow_apps.batch.models import Models
from srflow_apps.batch.operations import Files
from srflow_apps.batch.resuming import is_done
from srflow_apps.batch.storage import exists, reading, writing
from srflow_sdk.drawing.requests import Progress
from srflow_sdk.errors import ArgumentError, CancelledError, MissingExtraError, SRFlowError, UnavailableError
from srflow_sdk.system.interruptible import cancelled_by
from srflow_sdk.system.urls import without_secrets

_T = TypeVar("_T")

_DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def do_one(
    job: Job,
    models: Models,
    *,
    settings: Settings,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> FolderFile:
    """Make an input's targets, or leave it alone if the settings say so. A failure is a result.

    progress, cancel: as in :meth:`Upscaler.upscale`.
    Raises: ArgumentError, MissingExtraError: these concern every file alike. CancelledError.
    """
    cancel = cancel or threading.Event()

    def work() -> FolderFile:
        with cancelled_by(cancel):  # a store's silence, too
            return done()

    def done() -> FolderFile:
        if is_left_alone(job, models, settings=settings, cancel=cancel):
            return FolderFile(source=job.source, targets=job.targets, status="skipped")
        with reading(job.source) as source, writing(job.targets) as targets:
            upscaler = models.drawing(job.source, source, cancel=cancel)
            files = Files(
                job=job, source=source, targets=targets, writing=settings.writing, progress=progress, cancel=cancel
            )
            file = settings.operation.on_file(upscaler, files)
        named = zip(file.outputs, job.targets, strict=True)
        return FolderFile(
            source=job.source,
            targets=job.targets,
            status="done",
            outputs=tuple(dataclasses.replace(output, path=target) for output, target in named),
            size=file.size,
            seconds=file.seconds,
            model=upscaler.bundle.manifest.name,
            why=models.reason(job.source),
        )

    return attempted(job, work)


def is_left_alone(job: Job, models: Models, *, settings: Settings, cancel: threading.Event) -> bool:
    """True if the settings say to skip a job. Raises: what :func:`is_done` raises."""
    if not settings.overwrite and any(map(exists, job.targets)):
        return True
    if not settings.resume or not all(map(exists, job.targets)):
        return False  # so that it need not be looked at
    upscaler = models.suiting(job.source, cancel=cancel)
    manifest, precision = upscaler.bundle.manifest, upscaler.precision
    return is_done(job, manifest, precision=precision, settings=settings, cancel=cancel)


def attempted(job: Job, work: Callable[[], _T]) -> _T | FolderFile:
    """Return work(), or a failed result if it raises an error that concerns this job alone."""
    try:
        return work()
    except (ArgumentError, MissingExtraError, CancelledError):
        raise
    except SRFlowError as error:
        return _failed(job, str(error), cause=error)
    except MemoryError as error:
        why = "out of memory; ask for smaller tiles (--tile 64) or fewer samples at a time"
        return _failed(job, why, cause=error)
    except OSError as error:
        return _failed(job, error.strerror or str(error), cause=error)


def failure(source: Path, reason: str, *, targets: tuple[Path, ...] = ()) -> FolderFile:
    """The result of an input that failed. reason: becomes one line, which names the input."""
    line = without_secrets(" ".join(reason.split()))
    if str(source) not in line:
        line = f"{source}: {line}"
    return FolderFile(source=source, targets=targets, status="failed", error=line)


def _failed(job: Job, reason: str, *, cause: BaseException) -> FolderFile:
    codes = _error_numbers(cause)
    if codes & {errno.EMFILE, errno.ENFILE}:
        reason += "; ask for fewer samples at a time"
    full = "the disk is full" in reason or bool(codes & _DISK_FULL)
    failed = failure(job.source, reason, targets=job.targets)
    return dataclasses.replace(failed, disk_full=full, server_lost=isinstance(cause, UnavailableError))


def _error_numbers(error: BaseException | None) -> set[int | None]:
    """The system error numbers of an error and of its causes."""
    found: set[int | None] = set()
    while error is not None:
        if isinstance(error, OSError):
            found.add(error.errno)
        error = error.__cause__
    return found
