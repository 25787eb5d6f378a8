"""Jobs, an operation on an input each: doing one, or leaving it for `resume`."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from srflow_apps.batch.models import Models
from srflow_apps.batch.operations import Operation, Upscaling
from srflow_apps.batch.results import FolderFile, failure
from srflow_apps.batch.storage import exists, read_locally, write_locally
from srflow_sdk.clips import FrameUpscaler
from srflow_sdk.drawing.file_upscaling import FileOutput, FileResult, record_provenance
from srflow_sdk.drawing.options import Progress
from srflow_sdk.engine import Engine
from srflow_sdk.errors import (
    ArgumentError,
    CancelledError,
    ImageError,
    MissingExtraError,
    SRFlowError,
    UnavailableError,
)
from srflow_sdk.files import ImageReader, Provenance, WriteOptions, open_image, read_provenance
from srflow_sdk.files.animations import Animation
from srflow_sdk.files.formats import RAISE_LIMIT
from srflow_sdk.files.passed_images import AnyImage
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.model_choice import ModelChoice
from srflow_sdk.system.interrupts import cancelled_by, stop_if_set
from srflow_sdk.system.local_files import file_sha256
from srflow_sdk.upscaler import Upscaler

_ROWS = 128  # that are decoded at a time
_DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}  # Windows has no quotas


@dataclass(frozen=True, kw_only=True)
class Job:
    """One input file and the files of its samples, in order.

    name: its path inside the folder that was named. animation: that in it, if it is to be drawn as
        one.
    """

    source: Path
    name: PurePosixPath
    targets: tuple[Path, ...] = ()
    animation: Animation | None = None

    def open_source(
        self, local: Path, *, max_pixels: int = sys.maxsize, raw: bool = False
    ) -> AbstractContextManager[ImageReader | Animation]:
        """Open the input, of which `local` is a copy; what is opened has its size."""
        if self.animation is not None:
            return nullcontext(self.animation)
        return open_image(local, max_pixels=max_pixels, raw=raw)


@dataclass(frozen=True, kw_only=True)
class Settings(WriteOptions):
    """The operation on every file, and how files are read and written. Raises: ArgumentError.

    beside: nobody named the outputs, so an input fails rather than that it replaces a file. look:
    called instead of drawing. The others are those of commands.
    """

    operation: Operation = field(default_factory=Upscaling)
    resume: bool = False
    overwrite: bool = True
    beside: bool = False
    look: Callable[[Job, ImageReader | Animation, Manifest], None] | None = None


def do_job(
    job: Job,
    models: Models,
    *,
    settings: Settings,
    progress: Progress = lambda *_: None,
    cancel: threading.Event | None = None,
) -> FolderFile:
    """Make an input's targets, or leave it alone if the settings say so. A failure is a result.

    Raises: ArgumentError, MissingExtraError: these concern every file alike. CancelledError.
    """
    cancel = cancel or threading.Event()
    try:
        with cancelled_by(cancel):  # a store's silence, too
            return _make_or_skip(job, models, settings, progress, cancel)
    except (ArgumentError, MissingExtraError, CancelledError):
        raise
    except (SRFlowError, MemoryError, OSError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        if isinstance(error, MemoryError):
            reason = "out of memory; ask for smaller tiles (--tile 64) or fewer samples at a time"
        return dataclasses.replace(
            failure(job.source, reason, targets=job.targets),
            disk_full="the disk is full" in reason or _is_of_full_disk(error),
            server_lost=isinstance(error, UnavailableError),
        )


def _is_of_full_disk(error: BaseException | None) -> bool:
    """True if a full disk caused the error, or any of its causes."""
    return error is not None and (
        getattr(error, "errno", None) in _DISK_FULL or _is_of_full_disk(error.__cause__)
    )


def _make_or_skip(
    job: Job, models: Models, settings: Settings, progress: Progress, cancel: threading.Event
) -> FolderFile:
    # Many names, as the input is held open until its outputs are there.
    assert models.upscaler is not None  # for the type checker: it is set before jobs are done
    upscaler = models.upscaler
    operation = settings.operation
    skipped = FolderFile(source=job.source, targets=job.targets, status="skipped")
    looks = settings.resume or settings.beside or not settings.overwrite  # or no store is asked
    existing = [target for target in job.targets if looks and exists(target)]
    if existing and not settings.overwrite:
        return skipped
    with read_locally(job.source) as source:
        picture: AnyImage = source
        if job.animation is not None:
            _check_animation(job.animation, job.targets, settings.max_pixels)
            frames = job.animation.frames()
            picture, _ = next(itertools.islice(frames, job.animation.count // 2, None))
        choice = models.choose(job.source, picture, cancel=cancel)
        if job.animation is not None:
            choice = dataclasses.replace(choice, cleaner=None)  # frames are not cleaned
        complete = settings.resume and len(existing) == len(job.targets)
        if complete and _outputs_match(job, source, upscaler.engine, choice, operation, cancel):
            return skipped
        if existing and settings.beside:
            raise ImageError(
                f"{existing[0]} exists; remove it, or name it with -o, which may replace it"
            )
        first = f"first {choice.cleaner} at τ 0" if choice.cleaner else ""
        why = "; ".join(filter(None, (choice.why, first))) or None
        result = dataclasses.replace(skipped, status="done", model=choice.name, why=why)
        manifest = upscaler.engine.bundles[choice.name].manifest
        models.tell_choice(result, manifest, picture, cancel=cancel)
        if settings.look is not None:
            with job.open_source(source, max_pixels=settings.max_pixels) as reader:
                settings.look(job, reader, manifest)
            return result
        with write_locally(job.targets) as targets:
            if job.animation is None:
                file = operation.make_files(
                    upscaler.engine,
                    choice,
                    source,
                    targets,
                    settings,
                    progress=progress,
                    cancel=cancel,
                )
            else:
                file = _enlarge_animation(
                    job.animation, upscaler, choice, targets, settings, progress, cancel
                )
    if file.note:
        models.say(f"{job.source}: {file.note}")
    return dataclasses.replace(
        result,
        outputs=tuple(
            dataclasses.replace(output, path=target)
            for output, target in zip(file.outputs, job.targets, strict=True)
        ),
        size=file.size,
        seconds=file.seconds,
        note=file.note or None,
    )


def _enlarge_animation(
    animation: Animation,
    upscaler: Upscaler,
    choice: ModelChoice,
    targets: Sequence[Path],
    settings: Settings,
    progress: Progress,
    cancel: threading.Event,
) -> FileResult:
    """Enlarge an animation, frame by frame as a clip; the frames of one sample are held in memory.

    As :meth:`Operation.make_files`; `progress` gets frames. Raises: SRFlowError.
    """
    started = time.monotonic()
    outputs = list[FileOutput]()
    operation = settings.operation
    size = (animation.width, animation.height)
    sha256 = file_sha256(animation.path)
    painter, _ = upscaler.engine.open_painters(choice)
    for number, target in enumerate(targets, start=operation.sample):
        fields = operation.provenance_fields(painter.manifest, size, number)
        provenance = record_provenance(
            painter, source=animation.path, source_sha256=sha256, tile=None, **fields
        )
        options = dataclasses.replace(operation.options, sample=number, cancel=cancel)
        try:
            drawer = FrameUpscaler(upscaler, model=choice.name, **vars(options))
        except MissingExtraError as error:  # it would end the whole batch
            raise ImageError(f"{animation.path} is an animation: {error}") from error
        frames = list[Image.Image]()
        for rgba, _ in animation.frames():
            frames.append(Image.fromarray(drawer.draw(rgba, len(frames))))
            progress(len(outputs) * animation.count + len(frames), len(targets) * animation.count)
        animation.write(target, frames, made=provenance, options=settings)
        outputs.append(
            FileOutput(
                path=target,
                provenance=provenance,
                lr_psnr=None,
                size_bytes=target.stat().st_size,
                sha256=file_sha256(target),
            )
        )
    return FileResult(
        source=animation.path,
        size=size,
        outputs=tuple(outputs),
        seconds=time.monotonic() - started,
    )


def _check_animation(animation: Animation, targets: Sequence[Path], max_pixels: int) -> None:
    """Raises: ImageError if it has too many pixels, or an output's name is of another kind."""
    if animation.width * animation.height * animation.count > max_pixels:
        raise ImageError(
            f"{animation.path}: its {animation.count} frames have too many pixels; {RAISE_LIMIT}"
        )
    if {target.suffix.lower() for target in targets} != {animation.ending}:
        raise ImageError(
            f"{animation.path} is an animation; end {targets[0].name} in {animation.ending}, too"
        )


def _outputs_match(
    job: Job,
    source: Path,
    engine: Engine,
    choice: ModelChoice,
    operation: Operation,
    cancel: threading.Event,
) -> bool:
    """True if every output is whole, and was made from the input as it is now, by this operation.

    The device may be another.
    """
    with job.open_source(source, raw=operation.raw) as reader:
        size = reader.width, reader.height
    sha256 = file_sha256(source)
    painter, cleaner = engine.open_painters(choice)
    for number, target in enumerate(job.targets, start=operation.sample):
        stop_if_set(cancel)
        wanted = record_provenance(
            painter,
            source=source,
            source_sha256=sha256,
            tile=None,
            cleaner=cleaner,
            **operation.provenance_fields(painter.manifest, size, number),
        )
        try:
            with read_locally(target) as output:
                made = read_provenance(output)
                if made is None or _without_circumstances(made) != _without_circumstances(wanted):
                    return False
                if job.animation is not None:
                    for _ in dataclasses.replace(job.animation, path=output).frames():
                        stop_if_set(cancel)
                    continue
                with open_image(output, max_pixels=sys.maxsize, raw=operation.raw) as reader:
                    # It is whole if all of it can be decoded.
                    for row in range(0, reader.height, _ROWS):
                        reader.read_rows(min(_ROWS, reader.height - row))
        except (ImageError, OSError):  # it is damaged, or a folder
            return False
    return True


def _without_circumstances(made: Provenance) -> Provenance:
    """The record without what does not decide the picture."""
    return dataclasses.replace(made, model="", sdk_version="", tile=None, source="", device=None)
