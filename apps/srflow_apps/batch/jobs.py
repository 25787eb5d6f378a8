"""Jobs, an input and its outputs each: doing one, or leaving it for `resume`, and its result. All can be pickled."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar, cast

from srflow_apps.batch.operations import Operation, Upscaling
from srflow_apps.batch.storage import exists, reading, writing
from srflow_sdk.drawing.file_upscaling import FileOutput
from srflow_sdk.drawing.options import OutputSize, Progress
from srflow_sdk.errors import (
    ArgumentError,
    CancelledError,
    ImageError,
    MissingExtraError,
    SRFlowError,
    UnavailableError,
)
from srflow_sdk.files import MAX_PIXELS, ImageReader, Provenance, WriteOptions, open_image, read_provenance
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.model_choice import ModelChoice, choose_model
from srflow_sdk.system.interrupts import cancelled_by
from srflow_sdk.system.local_files import file_sha256
from srflow_sdk.system.plain_text import without_secrets
from srflow_sdk.system.raising import stop_if_set
from srflow_sdk.upscaler import Upscaler

_T = TypeVar("_T")
_ROWS = 128  # that are decoded at a time
_DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}  # Windows has no quotas

Status = Literal["done", "skipped", "failed"]

Recorded = Mapping[str, tuple[int, str]]
"""Lengths in bytes and sha256 of files that were written, by their paths."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One input file and the files of its samples, in order. name: its path inside the folder that was named."""

    source: Path
    targets: tuple[Path, ...]
    name: PurePosixPath


@dataclass(frozen=True, kw_only=True)
class Settings(WriteOptions):
    """The operation on every file, and how files are read and written. Raises: ArgumentError.

    beside: nobody named the outputs, so an input fails rather than that it replaces a file. look: called instead of
    drawing. recorded: an earlier report's outputs; `resume` holds them to it. The others are those of commands.
    """

    operation: Operation = field(default_factory=Upscaling)
    resume: bool = False
    overwrite: bool = True
    beside: bool = False
    look: Callable[[Job, ImageReader, Upscaler], None] | None = None
    recorded: Recorded = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FolderFile:
    """The result of one input.

    source: the input; a folder if that could not be used.
    targets: the paths of its outputs, in the order of the samples.
    status: "done", "skipped" (`resume` or `overwrite=False` left it alone) or "failed".
    error: one line, if it failed.
    outputs, size, seconds, model: if it is done; size is the input's width and height in pixels, model a name.
    why: what was seen in it, if the model was chosen for it.
    note: what was decided about it beyond that, such as how it is restored; None if nothing was.
    disk_full, server_lost: True if that made it fail.
    """

    source: Path
    targets: tuple[Path, ...]
    status: Status
    error: str | None = None
    outputs: tuple[FileOutput, ...] = ()
    size: tuple[int, int] | None = None
    seconds: float | None = None
    model: str | None = None
    why: str | None = None
    note: str | None = None
    disk_full: bool = False
    server_lost: bool = False


@dataclass(frozen=True, kw_only=True)
class FolderResult:
    """The result of a folder, or of several inputs.

    files: in the order of the inputs, without those that were not reached.
    total: how many inputs there are.
    interrupted: True if a signal or `cancel` ended the run.
    disk_full, server_lost: True if a full disk, or a server that is not available any more, ended it; on a Ray cluster,
    the death of its raylet on this machine.
    unread: how many images were left out because their formats are not read, by the formats' names.
    device, precision: what they were drawn on, such as "cpu", and what its encoder computed in, "bundle", "bf16" or
    "int8"; on a cluster, of the last file that ended.
    """

    files: tuple[FolderFile, ...]
    total: int
    interrupted: bool = False
    disk_full: bool = False
    server_lost: bool = False
    unread: Mapping[str, int] = field(default_factory=dict)
    device: str = ""
    precision: str = "bundle"

    def count(self, status: Status) -> int:
        """How many inputs ended with this status."""
        return sum(file.status == status for file in self.files)

    @property
    def remaining(self) -> int:
        """How many inputs are neither done nor skipped."""
        return self.total - self.count("done") - self.count("skipped")

    def __str__(self) -> str:
        """One line: "5 done, 2 skipped, 1 failed"."""
        return ", ".join(f"{self.count(status)} {status}" for status in ("done", "skipped", "failed"))


class Models:
    """The models of a batch: one for all files, or for each file the one that suits it, which is looked at once.

    upscaler: has them open; set before jobs are done. say: gets a line about each file that is drawn. Thread-safe.
    """

    say: Callable[[str], None] = staticmethod(lambda _: None)

    def __init__(
        self,
        bundles: Iterable[Bundle],
        scale: float | OutputSize | None = None,
        *,
        max_pixels: int = MAX_PIXELS,
        upscaler: Upscaler | None = None,
    ) -> None:
        self.bundles = {bundle.manifest.name: bundle for bundle in bundles}
        self.upscaler, self._scale, self._max_pixels = upscaler, scale, max_pixels
        self._made: dict[Path, ModelChoice] = {}

    def of(self, source: Path, local: Path | None = None, *, cancel: threading.Event | None = None) -> ModelChoice:
        """The choice for a file, with no reason if there was none. local: where it can be read; None fetches it."""
        if len(self.bundles) == 1:
            return ModelChoice(name=next(iter(self.bundles)), why="")
        if source not in self._made:
            limits: dict[str, Any] = {"max_pixels": self._max_pixels, "cancel": cancel}
            with reading(source) if local is None else contextlib.nullcontext(local) as place:
                self._made[source] = choose_model(place, scale=self._scale, among=self.bundles.values(), **limits)
        return self._made[source]

    def name(self, source: Path) -> str:
        """The model's name for a file; of several, the first for one that cannot be read, which fails later."""
        with contextlib.suppress(ImageError, OSError):
            return self.of(source).name
        return next(iter(self.bundles))

    def drawing(
        self, source: Path, local: Path | None = None, *, cancel: threading.Event | None = None
    ) -> tuple[Upscaler, str | None]:
        """The Upscaler for a file, and why it has this model; None if all have the same. local: as for :meth:`of`."""
        assert self.upscaler is not None  # for the type checker: it is set before jobs are done
        choice = self.of(source, local, cancel=cancel)
        return self.upscaler._only(choice.name), choice.why or None


def digest(models: Sequence[Manifest]) -> str:
    """One sha256 for all of these models; of one, its own."""
    digests = [manifest.digest for manifest in models]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


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
    try:
        with cancelled_by(cancel):  # a store's silence, too
            return _done(job, models, settings, progress, cancel)
    except (ArgumentError, MissingExtraError, CancelledError):
        raise
    except (SRFlowError, MemoryError, OSError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        if isinstance(error, MemoryError):
            reason = "out of memory; ask for smaller tiles (--tile 64) or fewer samples at a time"
        causes, cause = list[int | None](), cast("BaseException | None", error)
        while cause is not None:
            causes.append(getattr(cause, "errno", None))
            cause = cause.__cause__
        full = "the disk is full" in reason or not _DISK_FULL.isdisjoint(causes)
        failed = failure(job.source, reason, targets=job.targets)
        return dataclasses.replace(failed, disk_full=full, server_lost=isinstance(error, UnavailableError))


def _done(
    job: Job, models: Models, settings: Settings, progress: Progress | None, cancel: threading.Event
) -> FolderFile:
    result = FolderFile(source=job.source, targets=job.targets, status="skipped")
    looks = settings.resume or settings.beside or not settings.overwrite  # or no store is asked
    there = [target for target in job.targets if looks and exists(target)]
    complete = settings.resume and len(there) == len(job.targets)
    if (there and not settings.overwrite) or (complete and is_done(job, models, settings=settings, cancel=cancel)):
        return result
    if there and settings.beside:
        raise ImageError(f"{there[0]} exists; remove it, or name it with -o, which may replace it")
    with reading(job.source) as source:
        upscaler, why = models.drawing(job.source, source, cancel=cancel)
        manifest = upscaler.bundle.manifest
        result = dataclasses.replace(result, status="done", model=manifest.name, why=why)
        if why is not None:
            models.say(f"{job.source}: {manifest.name} ({why})")
        if settings.look is not None:
            with open_image(source, max_pixels=settings.max_pixels) as reader:
                settings.look(job, reader, upscaler)
            return result
        how = {each.name: getattr(settings, each.name) for each in dataclasses.fields(WriteOptions)}
        with writing(job.targets) as targets:
            how.update(progress=progress, cancel=cancel)
            file = settings.operation.on_file(upscaler, job, source, targets, **how)
    if file.note:
        models.say(f"{job.source}: {file.note}")
    outputs = tuple(map(lambda one, to: dataclasses.replace(one, path=to), file.outputs, job.targets))
    note = file.note or None
    return dataclasses.replace(result, outputs=outputs, size=file.size, seconds=file.seconds, note=note)


def failure(source: Path, reason: str, *, targets: tuple[Path, ...] = ()) -> FolderFile:
    """The result of an input that failed. reason: becomes one line, which names the input."""
    line, name = without_secrets(" ".join(reason.split())), without_secrets(str(source))
    line = line if name in line else f"{name}: {line}"
    return FolderFile(source=source, targets=targets, status="failed", error=line)


def is_done(job: Job, models: Models, *, settings: Settings, cancel: threading.Event) -> bool:
    """True if every output exists and was made from the input as it is now, with these settings, but for the device.

    If an earlier report has an output's length and hash, it must be that very file; otherwise it must be whole.
    Raises: ImageError, OSError if the input cannot be read; CancelledError.
    """

    def read(use: Callable[[Path], _T], target: Path) -> _T | None:
        with contextlib.suppress(ImageError, OSError), reading(target) as output:
            return use(output)
        return None  # it is damaged, or a folder: it is made again

    def intact(target: Path) -> bool:
        stop_if_set(cancel)
        if (recorded := settings.recorded.get(str(target))) is not None:
            return read(lambda output: (output.stat().st_size, file_sha256(output)), target) == recorded
        return bool(read(lambda output: _decoded(output, raw=operation.raw), target))

    upscaler, _ = models.drawing(job.source, cancel=cancel)
    operation, manifest = settings.operation, upscaler.bundle.manifest
    with reading(job.source) as source:
        found = [made for target in job.targets if (made := read(read_provenance, target)) is not None]
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
    return all(map(intact, job.targets))


def _decoded(output: Path, *, raw: bool) -> bool:
    with open_image(output, max_pixels=sys.maxsize, raw=raw) as reader:
        for row in range(0, reader.height, _ROWS):
            reader.read_rows(min(_ROWS, reader.height - row))
    return True


def _what_matters(provenance: Provenance) -> Provenance:
    return dataclasses.replace(provenance, model="", sdk_version="", tile=None, source="", device=None)
