"""Does one job, anywhere: what an executor calls in its threads, processes or machines. Or leaves it, for `resume`."""

from __future__ import annotations

import dataclasses
import errno
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from srflow_apps.batch.jobs import FolderFile, Settings
from srflow_apps.batch.opened_models import Models
from srflow_apps.batch.operations import Job
from srflow_apps.batch.storage import exists, reading, writing
from srflow_sdk.drawing.requests import Progress
from srflow_sdk.errors import (
    ArgumentError,
    CancelledError,
    ImageError,
    MissingExtraError,
    SRFlowError,
    UnavailableError,
)
from srflow_sdk.files import Provenance, is_as_written, open_image, read_provenance
from srflow_sdk.system.interruptible import cancelled_by
from srflow_sdk.system.local_files import file_sha256
from srflow_sdk.system.plain_text import without_secrets
from srflow_sdk.system.raising import stop_if_set

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
        if is_left_alone(job, models, settings=settings, cancel=cancel):
            return FolderFile(source=job.source, targets=job.targets, status="skipped")
        with reading(job.source) as source, writing(job.targets) as targets:
            upscaler, why = models.drawing(job.source, source, cancel=cancel)
            run = {"progress": progress, "cancel": cancel}
            file = settings.operation.on_file(upscaler, job, source, targets, run, **settings.writing)
        named = zip(file.outputs, job.targets, strict=True)
        return FolderFile(
            source=job.source,
            targets=job.targets,
            status="done",
            outputs=tuple(dataclasses.replace(output, path=target) for output, target in named),
            size=file.size,
            seconds=file.seconds,
            model=upscaler.bundle.manifest.name,
            why=why,
        )

    with cancelled_by(cancel):  # a store's silence, too
        return attempted(job, work)


def is_left_alone(job: Job, models: Models, *, settings: Settings, cancel: threading.Event) -> bool:
    """True if the settings say to skip a job.

    Raises: what :func:`is_done` raises; ImageError if it would replace a file of a name that nobody chose.
    """
    if settings.overwrite and not (settings.resume or settings.beside):
        return False  # so that no store is asked
    there = [target for target in job.targets if exists(target)]
    if there and not settings.overwrite:
        return True
    complete = len(there) == len(job.targets)
    if complete and settings.resume and is_done(job, models, settings=settings, cancel=cancel):
        return True
    if there and settings.beside:
        raise ImageError(f"{there[0]} exists; remove it, or name it with -o, which may replace it")
    return False


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


def is_done(job: Job, models: Models, *, settings: Settings, cancel: threading.Event) -> bool:
    """True if every output of a job exists and was made from the input as it is now, with these settings.

    The device, the tiles' size and the SDK's version do not count. If an earlier report has an output's length and
    hash, it must be that very file; otherwise it must be as it was written, by the hash that it has of itself. Files
    are read whole only if their headers agree.

    models: that which would draw it counts, and its precision.

    Raises: ImageError, OSError if the input cannot be read; CancelledError.
    """
    upscaler = models.suiting(job.source, cancel=cancel)
    operation, manifest = settings.operation, upscaler.bundle.manifest
    with reading(job.source) as source:
        found = [made for target in job.targets if (made := _provenance(target)) is not None]
        if len(found) < len(job.targets):
            return False
        with open_image(source, max_pixels=sys.maxsize, raw=operation.raw) as reader:
            size = reader.width, reader.height
            for number, made in enumerate(found, start=operation.sample):
                wanted = operation.provenance(job, manifest, size=size, number=number, source_sha256=made.source_sha256)
                if _what_matters(made) != _what_matters(dataclasses.replace(wanted, precision=upscaler.precision)):
                    return False
            if {made.source_sha256 for made in found} != {reader.sha256()}:
                return False
    for target in job.targets:
        stop_if_set(cancel)
        with reading(target) as output:
            if not _is_intact(output, str(target), settings=settings):
                return False
    return True


def _is_intact(output: Path, name: str, *, settings: Settings) -> bool:
    recorded = settings.recorded.get(name)
    try:
        if recorded is not None:
            return (output.stat().st_size, file_sha256(output)) == recorded
        return bool(is_as_written(output))
    except (ImageError, OSError):
        return False  # damaged: it is made again


def _provenance(target: Path) -> Provenance | None:
    try:
        with reading(target) as output:
            return read_provenance(output) if output.is_file() else None
    except (ImageError, OSError):
        return None  # unreadable: it is made again


def _what_matters(provenance: Provenance) -> Provenance:
    return dataclasses.replace(provenance, model="", sdk_version="", tile=None, source="", device=None)
