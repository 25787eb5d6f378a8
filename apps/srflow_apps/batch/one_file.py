"""Does one job, anywhere, with the model that suits it; or leaves it, for `resume`."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from srflow_apps.batch.jobs import FolderFile, Settings
from srflow_apps.batch.operations import Job
from srflow_apps.batch.storage import exists, reading, writing
from srflow_sdk.base_upscaler import BaseUpscaler
from srflow_sdk.drawing.options import OutputSize, Progress
from srflow_sdk.errors import (
    ArgumentError,
    CancelledError,
    ImageError,
    MissingExtraError,
    SRFlowError,
    UnavailableError,
)
from srflow_sdk.files import MAX_PIXELS, Provenance, open_image, read_provenance
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.model_choice import ModelChoice, choose_model
from srflow_sdk.system.interrupts import cancelled_by
from srflow_sdk.system.local_files import file_sha256
from srflow_sdk.system.plain_text import without_secrets
from srflow_sdk.system.raising import stop_if_set


def digest(models: Sequence[Manifest]) -> str:
    """One sha256 for all of these models; of one, its own."""
    digests = [manifest.digest for manifest in models]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


class Choices:
    """Which of these models draws a file: the only one, or the one that suits it. Looks at each file once. Thread-safe.

    bundles: one, or those of :meth:`Operation.needed`. scale: of the outputs, as that operation has it.
    """

    def __init__(
        self, bundles: Iterable[Bundle], scale: float | OutputSize | None = None, *, max_pixels: int = MAX_PIXELS
    ) -> None:
        self.bundles = {bundle.manifest.name: bundle for bundle in bundles}
        self._scale = scale
        self._max_pixels = max_pixels
        self._made: dict[Path, ModelChoice] = {}

    def of(self, source: Path, local: Path | None = None, *, cancel: threading.Event | None = None) -> ModelChoice:
        """The choice for a file; its reason is empty if there was none.

        local: where the file can be read; None fetches it. Raises: as :func:`~srflow_sdk.choose_model`.
        """
        if len(self.bundles) == 1:
            return ModelChoice(name=next(iter(self.bundles)), why="")
        if source not in self._made:
            choose = partial(choose_model, scale=self._scale, among=self.bundles.values(), cancel=cancel)
            with reading(source) if local is None else contextlib.nullcontext(local) as place:
                self._made[source] = choose(place, max_pixels=self._max_pixels)
        return self._made[source]

    def name(self, source: Path) -> str:
        """The model's name for a file; of several, the first for one that cannot be read, which fails later."""
        with contextlib.suppress(ImageError, OSError):
            return self.of(source).name
        return next(iter(self.bundles))


class Models:
    """The opened models of a batch: one for all files, or for each file the one that suits it. Thread-safe.

    choices: which of them draws which file. upscaler: has them. say: called with a line about each file that is drawn:
    its model, and why it was chosen.
    """

    def __init__(
        self, choices: Choices, upscaler: BaseUpscaler, *, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._choices = choices
        self.upscaler = upscaler
        self._say = say

    def suiting(self, source: Path, *, cancel: threading.Event | None = None) -> BaseUpscaler:
        """The Upscaler for a file. cancel: ends the call.

        Raises: ImageError if the file cannot be read; CancelledError; what :class:`Upscaler` raises.
        """
        return self.upscaler._only(self._choices.of(source, cancel=cancel).name)

    def drawing(
        self, source: Path, local: Path, *, cancel: threading.Event | None = None
    ) -> tuple[BaseUpscaler, str | None]:
        """The Upscaler for a file that is about to be drawn, and why it has this model; None if all have the same.

        local: where the file is read. Raises: as :meth:`suiting`.
        """
        choice = self._choices.of(source, local, cancel=cancel)
        if choice.why:
            self._say(explained(source, choice.name, choice.why))
        return self.upscaler._only(choice.name), choice.why or None


def explained(source: Path, name: str, why: str) -> str:
    """The line that says which model draws a file, and why."""
    return f"{source}: {name} ({why})"


_T = TypeVar("_T")

_ROWS = 128  # that are decoded at a time
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
    line, name = without_secrets(" ".join(reason.split())), without_secrets(str(source))
    if name not in line:
        line = f"{name}: {line}"
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
    hash, it must be that very file; otherwise it must be whole. Files are read whole only if their headers agree.

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
            if not _is_intact(output, settings.recorded.get(str(target)), raw=operation.raw):
                return False
    return True


def _is_intact(output: Path, recorded: tuple[int, str] | None, *, raw: bool) -> bool:
    try:
        if recorded is not None:
            return (output.stat().st_size, file_sha256(output)) == recorded
        with open_image(output, max_pixels=sys.maxsize, raw=raw) as reader:
            for row in range(0, reader.height, _ROWS):
                reader.read_rows(min(_ROWS, reader.height - row))
        return True
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
