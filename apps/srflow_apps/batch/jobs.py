"""Jobs, an operation on an input each: doing one, or leaving it for `resume`, its result, and the
report of all.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import itertools
import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_apps.batch.storage import exists, folders_for, reading, remove_leftovers, shown, writing
from srflow_sdk._version import __version__
from srflow_sdk.clips import FrameUpscaler
from srflow_sdk.drawing.file_upscaling import (
    INTERVAL_SAMPLES,
    FileOutput,
    FileResult,
    interval_fields,
    record_provenance,
)
from srflow_sdk.drawing.low_resolution import LowResolution
from srflow_sdk.drawing.options import DrawOptions, Progress, make_request
from srflow_sdk.errors import (
    ArgumentError,
    CancelledError,
    ImageError,
    MissingExtraError,
    SRFlowError,
    UnavailableError,
)
from srflow_sdk.files import (
    MAX_PIXELS,
    ImageReader,
    Provenance,
    WriteOptions,
    open_image,
    read_image,
    read_provenance,
)
from srflow_sdk.files.animations import Animation
from srflow_sdk.files.formats import RAISE_LIMIT
from srflow_sdk.files.passed_images import AnyImage
from srflow_sdk.files.provenance import RESTORE, TRANSFER, UPSCALE
from srflow_sdk.flow.options import RestoreOptions, TransferOptions
from srflow_sdk.flow.transferring import transfer_file
from srflow_sdk.geometry.sizes import OutputSize
from srflow_sdk.geometry.tiles import Window
from srflow_sdk.model.bundle import Bundle, check_inverts
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.model_choice import (
    BY_PICTURE,
    NO_DAMAGE,
    STAYS_SOFT,
    ModelChoice,
    choose_model,
    needed,
    see_damage,
)
from srflow_sdk.pixels.in_memory import luma, to_unit
from srflow_sdk.plain_text import without_secrets
from srflow_sdk.system.interrupts import cancelled_by
from srflow_sdk.system.local_files import file_sha256, write_atomically
from srflow_sdk.system.raising import stop_if_set
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from srflow_apps.batch.plan import Plan

_EXACT = 200.0  # dB, as JSON has no infinity
_ROWS = 128  # that are decoded at a time
_DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}  # Windows has no quotas

Status = Literal["done", "skipped", "failed"]

Take = Callable[[int, "FolderFile"], None]
"""Takes what became of a job, by its number from 1."""


class Operation:
    """An operation on every input of a batch. name: the verb, as provenance has it.

    interval: a coverage; outputs are then a picture and the bounds of its interval.
    """

    options: Any
    name: ClassVar[str]
    interval: float | None = None

    @property
    def sample(self) -> int:
        """Number of the first output."""
        return getattr(self.options, "sample", 0)

    @property
    def scale(self) -> float | OutputSize | None:
        """How large the outputs were asked to be."""
        return getattr(self.options, "scale", None)

    @property
    def raw(self) -> bool:
        """True if files are of values in their own units: TIFF, and no pictures by which a model
        could be chosen.
        """
        return getattr(self.options, "value_range", None) is not None

    def needed(self, bundles: Sequence[Bundle]) -> list[Bundle]:
        """Those of the models that inputs may need, that for clean ones first. Raises: as
        :meth:`check`.
        """
        found = needed(bundles, self.scale)[: 1 if self.raw else None]
        for bundle in found:
            self.check(bundle)
        return found

    def check(self, bundle: Bundle) -> None:
        """Raises: ArgumentError, BundleError if this model cannot do it to any picture."""

    def named(self, manifest: Manifest) -> dict[str, Any]:
        """What names of outputs may tell of the options: None for what is not one number for all
        pictures.

        suffix: the end of names that nobody chose.
        """
        raise NotImplementedError

    def output_size(self, size: tuple[int, int], manifest: Manifest) -> tuple[int, int]:
        """Size of the outputs of an input. Raises: ArgumentError, ImageError if the model cannot
        make them.
        """
        return size

    def recorded(self, recipe: Provenance) -> Operation:
        """The operation by which a picture was made. Raises: ArgumentError if nothing can be made
        with it.
        """
        raise NotImplementedError

    def fields_of(self, manifest: Manifest, size: tuple[int, int], number: int) -> dict[str, Any]:
        """The fields of sample `number`'s provenance that the options decide. Raises: ImageError,
        OSError.
        """
        raise NotImplementedError

    def described(self, manifest: Manifest) -> dict[str, Any]:
        """The settings, as JSON values, for a report."""
        raise NotImplementedError

    def on_file(
        self,
        upscaler: Upscaler,
        choice: ModelChoice,
        source: Path,
        targets: Sequence[Path],
        **how: Any,
    ) -> FileResult:
        """Make local targets of a local source, as :meth:`Upscaler.upscale_file` does with these
        keywords.

        choice: what draws the source.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Upscaling(Operation):
    """Enlarging, as in :meth:`Upscaler.upscale_file`. options: without `progress` and `cancel`.

    tau_map: a picture, by whose brightness, the mask, H×W in [0, 1], the temperature of every input
    is multiplied.
    Raises: ImageError if it cannot be read.
    """

    options: DrawOptions = field(default_factory=DrawOptions)
    interval: float | None = None
    tau_map: Path | None = None
    mask: NDArray[np.float32] | None = field(init=False, default=None)

    name = UPSCALE

    def __post_init__(self) -> None:
        if isinstance(self.options.tau, np.ndarray):
            raise ArgumentError(
                "tau is a map, which fits one image only; give a number, or use upscale_file"
            )
        if self.tau_map is not None:
            with reading(self.tau_map) as path:
                pixels = to_unit(read_image(path).pixels)
            vars(self)["mask"] = (
                pixels[..., 0] if pixels.shape[2] < 3 else luma(pixels[..., :3])[..., 0]
            )

    def check(self, bundle: Bundle) -> None:
        if self.interval is not None:
            self.options.band(bundle.manifest, n=INTERVAL_SAMPLES, coverage=self.interval)

    def named(self, manifest: Manifest) -> dict[str, Any]:
        scale = self.options.scale
        tau = self.options.tau
        number = self.options.named_scale(manifest)
        if not isinstance(scale, OutputSize):
            end = f"x{number:g}"
        elif scale.max_side is not None:
            end = f"max{scale.max_side}"
        else:
            end = f"{scale.width or ''}x{scale.height or ''}"
        end += "" if tau is None or isinstance(tau, (str, np.ndarray)) else f"_tau{tau:g}"
        seed = self.options.seed
        recorded = self.options.recorded_tau(manifest)[0]
        return {"seed": seed, "tau": recorded, "scale": number, "suffix": end}

    def output_size(self, size: tuple[int, int], manifest: Manifest) -> tuple[int, int]:
        width, height = size
        if self.mask is not None and self.mask.shape != (height, width):
            rows, columns = self.mask.shape
            raise ImageError(
                f"it has {width}×{height} pixels, and --tau-map {columns}×{rows}; make the map as "
                "large"
            )
        _, height, width = self.options.output_of(manifest, height=height, width=width)
        return width, height

    def recorded(self, recipe: Provenance) -> Upscaling:
        return Upscaling(options=DrawOptions.from_provenance(recipe))

    def fields_of(self, manifest: Manifest, size: tuple[int, int], number: int) -> dict[str, Any]:
        scale, _, _ = self.options.output_of(manifest, height=size[1], width=size[0])
        sample = number if self.interval is None else self.sample
        fields = self.options.provenance_fields(manifest, sample=sample, scale=scale)
        return {**fields, **interval_fields(manifest, self.interval, number - self.sample)}

    def described(self, manifest: Manifest) -> dict[str, Any]:
        own = {"interval": self.interval, "tau_map": self.tau_map and str(self.tau_map)}
        return {**self.options.described(manifest), **own}

    def on_file(
        self,
        upscaler: Upscaler,
        choice: ModelChoice,
        source: Path,
        targets: Sequence[Path],
        **how: Any,
    ) -> FileResult:
        draw = dataclasses.replace(
            self.options, progress=how.pop("progress"), cancel=how.pop("cancel")
        )
        writing = WriteOptions(**how)
        if self.mask is not None:
            painter, _ = upscaler._open_painters(choice)
            draw = dataclasses.replace(
                draw, tau=self._masked_tau(source, painter.manifest, writing.max_pixels)
            )
        return upscaler._upscale_file(
            choice, source, targets, draw, writing, interval=self.interval
        )

    def _masked_tau(self, source: Path, manifest: Manifest, max_pixels: int) -> NDArray[np.float32]:
        """The temperature at each of a photo's pixels, H×W: what was asked for, times the mask."""
        assert self.mask is not None  # for the type checker: only called with one
        with open_image(source, max_pixels=max_pixels) as reader:
            size: Any = {"height": reader.height, "width": reader.width}
            self.output_size((reader.width, reader.height), manifest)
            lr = LowResolution.of(
                reader.read_rows(reader.height), reader.kind, multiple=1, reach=manifest.halo
            )
        temperature = make_request(self.options, manifest, **size).temperature.for_rows(
            lr, 0, lr.height
        )
        masked: NDArray[np.float32] = self.mask * temperature.within(Window(top=0, left=0, **size))
        return masked


@dataclass(frozen=True, kw_only=True)
class Restoring(Operation):
    """Restoring, as in :meth:`Upscaler.restore_file`. options: without `progress` and `cancel`."""

    options: RestoreOptions = field(default_factory=RestoreOptions)

    name = RESTORE

    def named(self, manifest: Manifest) -> dict[str, Any]:
        return {"tau": self.options.number, "suffix": "restored"}

    def check(self, bundle: Bundle) -> None:
        check_inverts(bundle)

    def recorded(self, recipe: Provenance) -> Restoring:
        return Restoring(options=RestoreOptions.from_record(recipe.settings or ""))

    def fields_of(self, manifest: Manifest, size: tuple[int, int], number: int) -> dict[str, Any]:
        return self.options.provenance_fields()

    def described(self, manifest: Manifest) -> dict[str, Any]:
        return {"operation": RESTORE, **json.loads(self.options.recorded())}

    def on_file(
        self,
        upscaler: Upscaler,
        choice: ModelChoice,
        source: Path,
        targets: Sequence[Path],
        **how: Any,
    ) -> FileResult:
        return upscaler.restore_file(source, targets[0], **{**vars(self.options), **how})


@dataclass(frozen=True, kw_only=True)
class Transferring(Operation):
    """Putting parts of another picture into the inputs, as in :meth:`Upscaler.transfer_file`.

    source, mask, lr: files, for all inputs.
    """

    options: TransferOptions = field(default_factory=TransferOptions)
    source: Path
    mask: Path
    lr: Path | None = None

    name = TRANSFER

    def named(self, manifest: Manifest) -> dict[str, Any]:
        return {
            "seed": self.options.seed,
            "tau": self.options.number(manifest),
            "suffix": "transferred",
        }

    def check(self, bundle: Bundle) -> None:
        check_inverts(bundle)
        self.options.taus(bundle.manifest)

    def fields_of(self, manifest: Manifest, size: tuple[int, int], number: int) -> dict[str, Any]:
        paths = {"source": self.source, "mask": self.mask, "lr": self.lr}
        others = {
            what: None if path is None else (path, file_sha256(path))
            for what, path in paths.items()
        }
        return self.options.provenance_fields(manifest, others)

    def described(self, manifest: Manifest) -> dict[str, Any]:
        settings = json.loads(self.options.provenance_fields(manifest, {})["settings"])
        return {"operation": TRANSFER, "seed": self.options.seed, **settings}

    def on_file(
        self,
        upscaler: Upscaler,
        choice: ModelChoice,
        source: Path,
        targets: Sequence[Path],
        **how: Any,
    ) -> FileResult:
        options = dataclasses.replace(
            self.options, progress=how.pop("progress"), cancel=how.pop("cancel")
        )
        made: Any = {"output": targets[0], "options": options, "writing": WriteOptions(**how)}
        return transfer_file(upscaler._painter, source, self.source, self.mask, lr=self.lr, **made)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One input file and the files of its samples, in order.

    name: its path inside the folder that was named. animation: that in it, if it is to be drawn as
        one.
    """

    source: Path
    targets: tuple[Path, ...]
    name: PurePosixPath
    animation: Animation | None = None

    def opened(self, source: Path, **how: Any) -> AbstractContextManager[ImageReader | Animation]:
        """What has the size of the input, which is read at `source`. how: as of
        :class:`ImageReader`.
        """
        return nullcontext(self.animation) if self.animation else open_image(source, **how)


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


@dataclass(frozen=True, kw_only=True)
class FolderFile:
    """The result of one input.

    source: the input; a folder if that could not be used.
    targets: the paths of its outputs, in the order of the samples.
    status: "done", "skipped" (`resume` or `overwrite=False` left it alone) or "failed".
    error: one line, if it failed.
    outputs, size, seconds, model: if it is done; size is the input's width and height in pixels,
    model a name.
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

    @property
    def drawn_by(self) -> str:
        """A line: the model that was chosen for it, and why."""
        return f"{self.source}: {self.model} ({self.why})"


@dataclass(frozen=True, kw_only=True)
class FolderResult:
    """The result of a folder, or of several inputs.

    files: in the order of the inputs, without those that were not reached.
    total: how many inputs there are.
    interrupted: True if a signal or `cancel` ended the run.
    disk_full, server_lost: True if a full disk, or a server that is not available any more, ended
    it; on a Ray cluster, the death of its raylet on this machine.
    """

    files: tuple[FolderFile, ...]
    total: int
    interrupted: bool = False
    disk_full: bool = False
    server_lost: bool = False

    def count(self, status: Status) -> int:
        """How many inputs ended with this status."""
        return sum(file.status == status for file in self.files)

    @property
    def remaining(self) -> int:
        """How many inputs are neither done nor skipped."""
        return self.total - self.count("done") - self.count("skipped")

    def __str__(self) -> str:
        """One line: "5 done, 2 skipped, 1 failed"."""
        return ", ".join(
            f"{self.count(status)} {status}" for status in ("done", "skipped", "failed")
        )


class EndedError(Exception):
    """The run ends early; the message is the field of :class:`FolderResult` that says why."""


class Models:
    """The models of a batch: one for all files, or for each file the one that suits it, which is
    looked at once.

    upscaler: has them open; set before jobs are done. say: gets a line about each file that is
    drawn. named: whether someone named the model, and hears where a picture does not need it.
    Thread-safe.
    """

    say: Callable[[str], None] = staticmethod(lambda _: None)
    named: bool = False

    def __init__(
        self,
        bundles: Iterable[Bundle],
        scale: float | OutputSize | None = None,
        *,
        max_pixels: int = MAX_PIXELS,
        upscaler: Upscaler | None = None,
    ) -> None:
        self.bundles = {bundle.manifest.name: bundle for bundle in bundles}
        self.upscaler = upscaler
        self._scale = scale
        self._max_pixels = max_pixels
        self.choices: dict[Path, ModelChoice] = {}

    def of(
        self, source: Path, local: AnyImage, *, cancel: threading.Event | None = None
    ) -> ModelChoice:
        """The choice for a file, with no reason if there was none. local: where it can be read, or
        a frame.
        """
        if len(self.bundles) == 1 and next(iter(self.bundles.values()))._cleaner is None:
            return ModelChoice(name=next(iter(self.bundles)), why="")
        if source not in self.choices:
            limits: Any = {"max_pixels": self._max_pixels, "cancel": cancel}
            self.choices[source] = choose_model(
                local, scale=self._scale, among=self.bundles.values(), **limits
            )
        return self.choices[source]

    def tell_of(
        self, file: FolderFile, local: AnyImage, *, cancel: threading.Event | None = None
    ) -> None:
        """Say what draws a file, and why; or that the model that someone named removes damage which
        is not there.
        """
        if file.why is not None:
            self.say(file.drawn_by)
        elif self.named and self.bundles[str(file.model)].manifest.removes_damage:
            seen, _ = see_damage(local, max_pixels=self._max_pixels, cancel=cancel)
            if not seen:
                self.say(
                    f"{file.source}: {NO_DAMAGE}: without --model, a model for clean pictures "
                    "keeps more detail"
                )
            elif seen.endswith(STAYS_SOFT):
                self.say(f"{file.source}: {seen}")


def digest(models: Sequence[Manifest]) -> str:
    """One sha256 for all of these models; of one, its own."""
    digests = [manifest.digest for manifest in models]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def do_one(
    job: Job,
    models: Models,
    *,
    settings: Settings,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> FolderFile:
    """Make an input's targets, or leave it alone if the settings say so. A failure is a result.

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
        causes = list[int | None]()
        cause = cast("BaseException | None", error)
        while cause is not None:
            causes.append(getattr(cause, "errno", None))
            cause = cause.__cause__
        full = "the disk is full" in reason or not _DISK_FULL.isdisjoint(causes)
        failed = failure(job.source, reason, targets=job.targets)
        return dataclasses.replace(
            failed, disk_full=full, server_lost=isinstance(error, UnavailableError)
        )


def _done(
    job: Job, models: Models, settings: Settings, progress: Progress | None, cancel: threading.Event
) -> FolderFile:
    assert models.upscaler is not None  # for the type checker: it is set before jobs are done
    skipped = FolderFile(source=job.source, targets=job.targets, status="skipped")
    looks = settings.resume or settings.beside or not settings.overwrite  # or no store is asked
    there = [target for target in job.targets if looks and exists(target)]
    if there and not settings.overwrite:
        return skipped
    with reading(job.source) as source:
        seen: AnyImage = source
        if (animation := job.animation) is not None:
            _check_animation(animation, job.targets, settings.max_pixels)
            seen, _ = next(itertools.islice(animation.frames(), animation.count // 2, None))
        choice = models.of(job.source, seen, cancel=cancel)
        if animation is not None:
            choice = dataclasses.replace(choice, cleaner=None)  # frames are not cleaned
        manifest = models.bundles[choice.name].manifest
        complete = settings.resume and len(there) == len(job.targets)
        if complete and _is_done(job, source, models.upscaler, choice, manifest, settings, cancel):
            return skipped
        if there and settings.beside:
            raise ImageError(
                f"{there[0]} exists; remove it, or name it with -o, which may replace it"
            )
        first = f"first {choice.cleaner} at τ 0" if choice.cleaner else ""
        why = "; ".join(filter(None, (choice.why, first))) or None
        result = dataclasses.replace(skipped, status="done", model=manifest.name, why=why)
        models.tell_of(result, seen, cancel=cancel)
        if settings.look is not None:
            with job.opened(source, max_pixels=settings.max_pixels) as reader:
                settings.look(job, reader, manifest)
            return result
        how = {each.name: getattr(settings, each.name) for each in dataclasses.fields(WriteOptions)}
        with writing(job.targets) as targets:
            how.update(progress=progress, cancel=cancel)
            if animation is None:
                file = settings.operation.on_file(models.upscaler, choice, source, targets, **how)
            else:
                file = _on_animation(
                    settings.operation, models.upscaler, choice, animation, targets, **how
                )
    if file.note:
        models.say(f"{job.source}: {file.note}")
    outputs = tuple(
        map(lambda one, to: dataclasses.replace(one, path=to), file.outputs, job.targets)
    )
    note = file.note or None
    return dataclasses.replace(
        result, outputs=outputs, size=file.size, seconds=file.seconds, note=note
    )


def _on_animation(
    operation: Operation,
    upscaler: Upscaler,
    choice: ModelChoice,
    animation: Animation,
    targets: Sequence[Path],
    **how: Any,
) -> FileResult:
    """Enlarge an animation, frame by frame as a clip; the frames of one sample are held in memory.

    As :meth:`Operation.on_file`; `progress` gets frames. Raises: SRFlowError.
    """
    started = time.monotonic()
    outputs = list[FileOutput]()
    source = animation.path
    size = (animation.width, animation.height)
    sha256 = file_sha256(source)
    progress = how.pop("progress")
    cancel = how.pop("cancel")
    painter, _ = upscaler._open_painters(choice)
    for number, target in enumerate(targets, start=operation.sample):
        fields = operation.fields_of(painter.manifest, size, number)
        made = record_provenance(painter, source=source, source_sha256=sha256, tile=None, **fields)
        one = dataclasses.replace(operation.options, sample=number, cancel=cancel)
        try:
            drawer = FrameUpscaler(upscaler, _painter=painter, **vars(one))
        except MissingExtraError as error:  # it would end the whole batch
            raise ImageError(f"{source} is an animation: {error}") from error
        frames = list[Image.Image]()
        for rgba, _ in animation.frames():
            frames.append(Image.fromarray(drawer.draw(rgba, len(frames))))
            progress(len(outputs) * animation.count + len(frames), len(targets) * animation.count)
        animation.write(target, frames, made=made, options=WriteOptions(**how))
        outputs.append(
            FileOutput(
                path=target,
                provenance=made,
                lr_psnr=None,
                size_bytes=target.stat().st_size,
                sha256=file_sha256(target),
            )
        )
    return FileResult(
        source=source, size=size, outputs=tuple(outputs), seconds=time.monotonic() - started
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


def failure(source: Path, reason: str, *, targets: tuple[Path, ...] = ()) -> FolderFile:
    """The result of an input that failed. reason: becomes one line, which names the input."""
    line = without_secrets(" ".join(reason.split()))
    name = without_secrets(str(source))
    line = line if name in line else f"{name}: {line}"
    return FolderFile(source=source, targets=targets, status="failed", error=line)


def _is_done(
    job: Job,
    source: Path,
    upscaler: Upscaler,
    choice: ModelChoice,
    manifest: Manifest,
    settings: Settings,
    cancel: threading.Event,
) -> bool:
    """True if every output is whole, and was made from the input as it is now, with these settings
    but the device.
    """
    operation = settings.operation
    others: Any = {"model": "", "sdk_version": "", "tile": None, "source": "", "device": None}
    with job.opened(source, max_pixels=sys.maxsize, raw=operation.raw) as reader:
        size = reader.width, reader.height
    record: Any = {"source": Path(), "source_sha256": file_sha256(source), "tile": None}
    painter, cleaner = upscaler._open_painters(choice)
    record["cleaner"] = cleaner
    for number, target in enumerate(job.targets, start=operation.sample):
        stop_if_set(cancel)
        wanted = record_provenance(painter, **record, **operation.fields_of(manifest, size, number))
        try:
            with reading(target) as output:
                made = read_provenance(output)
                if made is None or dataclasses.replace(made, **others) != dataclasses.replace(
                    wanted, **others
                ):
                    return False
                if job.animation is not None:
                    for _ in dataclasses.replace(job.animation, path=output).frames():
                        stop_if_set(cancel)
                    continue
                with open_image(output, max_pixels=sys.maxsize, raw=operation.raw) as reader:
                    for row in range(
                        0, reader.height, _ROWS
                    ):  # it is whole if all of it can be decoded
                        reader.read_rows(min(_ROWS, reader.height - row))
        except (ImageError, OSError):  # it is damaged, or a folder
            return False
    return True


def batch_report(plan: Plan, result: FolderResult) -> dict[str, Any]:
    """The record of a batch, as JSON values; settings in which the models differ are null."""
    settings = plan.settings
    upscaler = plan.models.upscaler
    models = [bundle.manifest for bundle in plan.bundles]
    first, *others = [settings.operation.described(manifest) for manifest in models]
    same = {
        each: value if all(one[each] == value for one in others) else None
        for each, value in first.items()
    }
    name = BY_PICTURE if others else models[0].name
    return {
        "schema": 1,  # the version of these fields
        "model": {"name": name, "sha256": digest(models), "scale": models[0].scale},
        "settings": {
            **same,
            **{
                each: getattr(settings, each)
                for each in ("max_pixels", "resume", "overwrite", "quality", "lossless")
            },
            "tile": "none" if plan.tile is None else plan.tile,
            "device": upscaler.device if upscaler else "ray",
            "precision": upscaler and upscaler.precision,
            "sdk_version": __version__,
        },
        "summary": {
            "inputs": result.total,
            **{status: result.count(status) for status in get_args(Status)},
            "interrupted": result.interrupted,
        },
        "files": [_row(file, settings.operation) for file in result.files],
    }


def _row(file: FolderFile, operation: Operation) -> dict[str, Any]:
    def said(what: object) -> str:  # of URLs that are misspelt, too
        return without_secrets(shown(str(what)))

    outputs: list[dict[str, Any]] = []
    for place, target in enumerate(() if file.status == "failed" else file.targets):
        made = file.outputs[place] if file.outputs else None
        psnr = (
            None
            if made is None or made.lr_psnr is None or math.isnan(made.lr_psnr)
            else min(made.lr_psnr, _EXACT)
        )
        number = operation.sample + (place if operation.interval is None else 0)
        content = {"bytes": made and made.size_bytes, "sha256": made and made.sha256}
        outputs.append({"path": said(target), "sample": number, "lr_psnr": psnr, **content})
    return {
        "source": said(file.source),
        "status": file.status,
        "error": file.error and said(file.error),
        **{each: getattr(file, each) for each in ("model", "why", "note", "size")},
        "seconds": None if file.seconds is None else round(file.seconds, 3),
        "outputs": outputs,
    }


def write_report(plan: Plan, result: FolderResult) -> None:
    """Write the report of a batch, if it is to have one, completely or not at all. Raises:
    ImageError.
    """
    if (path := plan.report) is None:
        return
    report = batch_report(plan, result)
    remove_leftovers([path])
    try:
        with folders_for([path]), writing([path]) as (local,):
            write_atomically(local, (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise ImageError(
            f"the report {path} cannot be written: {error.strerror or error}"
        ) from error
