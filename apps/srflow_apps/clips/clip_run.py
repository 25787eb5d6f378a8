"""A run on clip files: looks through each, draws its segments, and joins them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from srflow_apps.batch.command import FAILED, about, measure_speed, ray_executor, seconds_for
from srflow_apps.batch.display import Display
from srflow_apps.batch.jobs import Settings
from srflow_apps.batch.one_file import Choices, Models, explained
from srflow_apps.batch.operations import Job
from srflow_apps.batch.run import Executor, run_jobs
from srflow_apps.batch.storage import make_folders, remove_leftovers
from srflow_apps.clips import segments
from srflow_apps.clips.reading import Clip, is_clip, look_through
from srflow_apps.clips.writing import WRITTEN, chosen_encoding, join, kept_streams, record_in
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import write_image
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.model_choice import choose_model
from srflow_sdk.system.interrupts import STOPPING, deferred_interrupts, exit_status
from srflow_sdk.system.local_files import file_sha256, real_path, write_atomically
from srflow_sdk.upscaler import Upscaler

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from srflow_apps.batch.choices import FileChoices, MachineChoices

_SETTINGS = "settings.json"
_OURS = re.compile(r"\.?(\d{6}\.(mkv|state|sha256)|settings\.json)(\..*)?")


class ClipDisplay(Display):
    """Shows how many frames of a clip are drawn, and names no parts."""

    def printed(self, target: Path) -> None:
        """Print the name of a clip that is finished."""
        if not self._quiet:
            self._print(target)

    def progressed(self, number: int, done: int, total: int) -> None:
        with self._lock:
            if self._bar is not None and self._pixels is not None:
                self._move(number, done / total)
                name = self._jobs[number - 1].source.name
                self._bar.label = f"{name} frame {self._pixels.done}/{self._pixels.total}"
                self._render()


@dataclass(frozen=True)
class ClipRun:
    """A run of the command on clips. operation: with the options of drawing alone. bundles: as of Batch."""

    operation: segments.ClipUpscaling
    bundles: Sequence[Bundle]
    codec: str | None
    files: FileChoices
    machine: MachineChoices
    display: ClipDisplay

    def make_all(self, sources: Sequence[Path], output: str | None) -> None:
        """Make every clip. Exits with a status other than 0 if something failed or was interrupted."""
        failed = False
        for source, target in zip(sources, self.targets(sources, output), strict=True):
            try:
                if self.files.overwrite or not os.path.lexists(target):
                    failed |= not self._make(source, target, beside=output is None)
                else:
                    self.display.tell(f"{source}: {target} exists: skipped")
            except ImageError as error:
                line = str(error)
                self.display.say(f"error: {line if str(source) in line else f'{source}: {line}'}")
                failed = True
        if failed or self.display.names_lost:
            sys.exit(FAILED)

    def targets(self, sources: Sequence[Path], output: str | None) -> list[Path]:
        """The output of each clip or folder of frames: a file, in a directory, or, for None, beside it.

        Raises: ArgumentError, ImageError.
        """
        suffix, out = f"_{self.operation.suffix(self.bundles[0].manifest)}" * (output is None), Path(output or "")
        ends = [path.suffix if path.suffix.lower() in WRITTEN else ".mp4" * is_clip(path) for path in sources]
        targets = [
            (path.parent if output is None else out) / f"{path.stem}{suffix}{end}"
            for path, end in zip(sources, ends, strict=True)
        ]
        folder = is_clip(sources[0]) and (out.is_dir() or (output or "").endswith(("/", os.sep)))
        if output is not None and len(sources) == 1 and not folder:
            targets = [out]
        real, inputs = [real_path(target) for target in targets], {real_path(source) for source in sources}
        for target in real:
            if real.count(target) > 1 or inputs & {target, *target.parents}:
                raise ArgumentError(f"{target} would overwrite an input, or another output; name each with -o")
        return targets

    def bundle_for(self, name: str, sample: NDArray[Any]) -> Bundle:
        """The model of a whole clip: the only one, or the one that suits this frame of it."""
        choice = choose_model(sample, scale=self.operation.scale, among=self.bundles)
        if choice.why:
            self.display.tell(explained(Path(name), choice.name, choice.why))
        return next(bundle for bundle in self.bundles if bundle.manifest.name == choice.name)

    def opened(self, bundle: Bundle) -> Upscaler:
        """The model, opened on this machine."""
        options = {name: getattr(self.machine, name) for name in ("device", "tile", "threads", "precision")}
        return Upscaler([bundle], **options)

    def estimate(self, upscaler: Upscaler, sample: NDArray[Any], frames: int) -> str:
        """How long so many frames take here, by a piece of one."""
        with tempfile.TemporaryDirectory(prefix="srflow-") as folder:
            write_image(path := Path(folder) / "frame.png", sample)
            speed = measure_speed(upscaler, path, path, settings=Settings(operation=self.operation))
        samples = 2 if self.operation.latents == "motion" else 1  # it needs the detail apart
        each = seconds_for(upscaler, speed, width=sample.shape[1], height=sample.shape[0], samples=samples)
        return f"{about(each * frames)}, {each:.1f} s a frame"

    def _make(self, source: Path, target: Path, *, beside: bool) -> bool:
        """Make one clip, or this run's part of it. Returns whether nothing is wrong with it."""
        files, say, parts = self.files, self.display.say, target.with_name(f"{target.name}.parts")
        clip = look_through(source, max_pixels=self.machine.max_pixels)
        bundle = self.bundle_for(str(source), clip.sample)
        operation = self._on(clip, target, bundle)
        record, count = operation.record(bundle.manifest), operation.frames
        if clip.interlaced:
            say(f"warning: {source} is interlaced: its combs stay; ffmpeg -vf bwdif removes them")
        if clip.damage:
            say(f"error: {source} is damaged: {clip.damage}; what can be decoded, {count} frames, is made")
        of_this = (files.resume or files.shard is not None) and is_of(record_in(target), record)
        if of_this and _is_finished(target, record, count):
            self.display.tell(f"{target} is finished: skipped")
            return not clip.damage
        if of_this:
            self.display.tell(f"{target} is damaged: it is made again")
        elif beside and os.path.lexists(target):
            raise ImageError(f"{target} exists; remove it, or name it with -o, which may replace it")
        assert operation.encoding is not None
        kept, lost = kept_streams(clip, target, operation.encoding)
        for what in lost:
            say(f"warning: {source}: {what}")
        every = [parts / f"{number:06}.mkv" for number in range(-(-count // segments.SEGMENT))]
        block = segments.KEYFRAMES // segments.SEGMENT
        blocks = [every[first : first + block] for first in range(0, len(every), block)]
        mine = blocks if files.shard is None else blocks[files.shard.index - 1 :: files.shard.count]
        same = files.resume and _read(parts / _SETTINGS) == record
        left = [tuple(path for path in paths if not (same and segments.is_whole(path))) for paths in mine]
        todo = [Job(source=source, targets=paths, name=PurePosixPath(paths[0].stem)) for paths in left if paths]
        frames = [sum(len(operation.frame_numbers(path)) for path in job.targets) for job in todo]
        now = "" if sum(frames) == count else f" ({sum(frames)} of them now)"
        look, how = operation.encoding.look, [operation.encoding.codec]
        how += [f"quality {operation.encoding.quality}"] * (operation.encoding.quality is not None)
        line = f"{source}: {count} frames{now} -> {target} ({look.width}×{look.height}, {', '.join(how)})"
        execute: Executor
        with contextlib.ExitStack() as stack:
            if files.ray is not None and not files.dry_run:
                execute = ray_executor(files, self.machine, [bundle], self.machine.tile, self.display)
            else:
                upscaler = stack.enter_context(self.opened(bundle))
                stack.callback(segments.forget, upscaler)
                execute = partial(run_jobs, models=Models(Choices([bundle]), upscaler))
                line += f"; {self.estimate(upscaler, clip.sample, sum(frames))}" * bool(frames)
            if files.dry_run:
                self.display.answer(f"dry run, nothing was written: {line}")
                return not clip.damage
            self.display.tell(line)
            stack.enter_context(self._begun(parts, record))
            settings = Settings(operation=operation, max_pixels=self.machine.max_pixels)
            with deferred_interrupts(*STOPPING) as interrupts:
                with self.display.progress(todo, max_pixels=0, check=interrupts, work=frames):
                    done = execute(todo, settings=settings, watcher=self.display, check=interrupts)
                if done.interrupted:
                    say("interrupted: the parts that are done stay; the same command with --resume goes on")
                    sys.exit(exit_status(interrupts.number))
            there = [path for path in every if segments.is_whole(path)]
            remove_leftovers([target])
            if len(there) < len(every) and not _is_finished(target, record, count):
                how_on = "the same command with --resume goes on" if done.remaining else "the last run of all makes it"
                say(f"{target}: {len(there)} of {len(every)} parts are in {parts}; {how_on}")
                return not done.remaining
            try:
                lost = join(there, clip, target, record=record, kept=kept) if len(there) == len(every) else []
            except ImageError:  # another run may have joined and removed them meanwhile
                if not _is_finished(target, record, count):
                    raise
                lost = []
            for what in lost:
                say(f"warning: {source}: {what}")
            with contextlib.suppress(OSError):
                _remove(parts.iterdir())
                parts.rmdir()
        self.display.printed(target)
        return not clip.damage

    def _on(self, clip: Clip, target: Path, bundle: Bundle) -> Any:
        """The operation on a clip. Raises: ArgumentError, ImageError if the output cannot be made so."""
        width, height = self.operation.output_size((clip.look.width, clip.look.height), bundle.manifest)
        look = dataclasses.replace(clip.look, width=width, height=height, turns=0)
        encoding = chosen_encoding(target, look, codec=self.codec, quality=self.files.quality)
        settings = {name: getattr(encoding, name) for name in ("codec", "quality", "pixel_format")}
        settings["precision"] = self.machine.precision
        of = dataclasses.replace(self.operation, frames=len(clip.times), source_sha256=file_sha256(clip.path))
        return dataclasses.replace(of, encoding=encoding, settings=settings)

    @contextlib.contextmanager
    def _begun(self, parts: Path, record: str) -> Iterator[None]:
        """Make the folder of the parts, and hold it; what it has of another clip, model or settings goes.

        Raises: ImageError, also if another run has it, but for shards, which share it.
        """
        make_folders([parts])
        with contextlib.ExitStack() as stack:
            if fcntl is not None:
                stack.callback(os.close, descriptor := os.open(parts, os.O_RDONLY))
                try:
                    fcntl.flock(
                        descriptor, (fcntl.LOCK_EX if self.files.shard is None else fcntl.LOCK_SH) | fcntl.LOCK_NB
                    )
                except BlockingIOError as error:
                    in_use = f"{parts} is in use: another run makes this clip"
                    raise ImageError(f"{in_use}; wait for it, or share the clip by --shard") from error
                except OSError:  # this file system has no locks
                    pass
            self._cleared(parts, record)
            yield

    def _cleared(self, parts: Path, record: str) -> None:
        try:
            found, same = list(parts.iterdir()), _read(parts / _SETTINGS) == record
            if not all(_OURS.fullmatch(path.name) for path in found):
                raise ImageError(f"{parts} is the folder of the clip's parts, and has other files; move them away")
            if found and not same:
                line = f"{parts} has parts of another clip, model or settings"
                if self.files.shard is not None:
                    raise ImageError(f"{line}; remove it")
                self.display.tell(f"{line}: beginning anew")
            if not same or not (self.files.resume or self.files.shard):
                _remove(found)
                write_atomically(parts / _SETTINGS, record.encode())
        except OSError as error:
            raise ImageError(f"{parts} cannot be written: {error.strerror or error}") from error


def _is_finished(target: Path, record: str, count: int) -> bool:
    """True if a clip is of this record, and can be decoded from its first frame to its last."""
    with contextlib.suppress(ImageError):
        if not is_of(record_in(target), record):
            return False
        made = look_through(target, max_pixels=sys.maxsize)
        return len(made.times) == count and not made.damage
    return False


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        path.unlink(missing_ok=True)


def _read(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return path.read_text("utf-8")
    return ""


def is_of(found: str, record: str) -> bool:
    """True if a record says the same as another, but for the SDK's version."""
    with contextlib.suppress(ValueError, TypeError):
        return {**json.loads(found), "sdk_version": ""} == {**json.loads(record), "sdk_version": ""}
    return False
