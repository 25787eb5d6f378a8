"""Runs srflow-upscale on clips: files, YUV4MPEG2 on standard input and output, and folders of numbered frames."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srflow_apps.batch.command import FAILED, STANDARD, about, measure_speed, ray_executor, seconds_for
from srflow_apps.batch.display import Display
from srflow_apps.batch.find import find_inputs
from srflow_apps.batch.jobs import Settings
from srflow_apps.batch.one_file import Choices, Models, explained
from srflow_apps.batch.operations import Job
from srflow_apps.batch.run import Executor, run_jobs
from srflow_apps.batch.storage import make_folders, remove_leftovers
from srflow_apps.batch.url_paths import UrlPath, as_path
from srflow_apps.clips import segments
from srflow_apps.clips.reading import (
    Y4M,
    Clip,
    Decoded,
    Piped,
    ahead,
    av_errors,
    guessed_matrix,
    is_clip,
    look_through,
)
from srflow_apps.clips.segments import ClipUpscaling
from srflow_apps.clips.writing import WRITTEN, Encoding, chosen_encoding, join, kept_streams, record_in
from srflow_sdk.clips.optical_flow import opencv
from srflow_sdk.errors import ArgumentError, CancelledError, ImageError
from srflow_sdk.files import Metadata, Provenance, check_writable, open_image, read_image, read_provenance, write_image
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.model_choice import bundles_of, choose_model
from srflow_sdk.system.interrupts import STOPPING, Interrupts, deferred_interrupts, exit_status
from srflow_sdk.system.local_files import check_replaceable, file_sha256, real_path, write_atomically
from srflow_sdk.upscaler import Upscaler

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from srflow_apps.batch.choices import FileChoices, MachineChoices
    from srflow_sdk.clips.frame_upscaler import LatentsOfClip
    from srflow_sdk.drawing.options import DrawOptions

_INPUT = "stdin"
_SETTINGS = "settings.json"
_OURS = re.compile(r"\.?(\d{6}\.(mkv|state|sha256)|settings\.json)(\..*)?")


def run_clips(
    inputs: Sequence[str],
    output: str | None,
    draw: DrawOptions,
    latents: LatentsOfClip | None,
    model: str | None,
    codec: str | None,
    files: FileChoices,
    machine: MachineChoices,
) -> None:
    """Enlarge clips: files, folders of frames, or standard input. Exits as :meth:`ClipRun.make_all` does.

    model: as of run_command, for a whole clip. Raises: SRFlowError for what concerns all clips; KeyboardInterrupt.
    """
    operation = ClipUpscaling(options=draw, latents=latents or "motion")
    if operation.latents == "motion":
        opencv()
    with ClipDisplay(quiet=machine.quiet) as display:
        display.shows_names = False
        run = ClipRun(operation, operation.needed(bundles_of(model)), codec, files, machine, display)
        paths = [as_path(path) for path in inputs]
        if any(isinstance(path, UrlPath) for path in [*paths, as_path(output or "")]):
            raise ArgumentError("a clip is a file on this machine, and so is its output: copy it here first")
        if STANDARD in (*inputs, output):
            if len(inputs) > 1 or output is None:
                raise ArgumentError("- is one clip; name one INPUT, and the output with -o")
            run_pipe(run, inputs[0], output)
        elif paths[0].is_dir():
            if len(paths) > 1:
                raise ArgumentError("--latents takes one folder of frames at a time; name one")
            run_frames(run, paths[0], output)
        else:
            run.make_all(paths, output)


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
        with av_errors(target, "cannot be written"):  # now, not when all is drawn
            check_replaceable(target)
        clip = look_through(source, max_pixels=self.machine.max_pixels)
        bundle = self.bundle_for(str(source), clip.sample)
        operation, encoding = self._on(clip, target, bundle)
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
        with deferred_interrupts(*STOPPING):  # FFmpeg calls Python to write, and drops what a signal raises there
            kept, lost = kept_streams(clip, target, encoding)
        for what in lost:
            say(f"warning: {source}: {what}")
        every = [parts / f"{number:06}.mkv" for number in range(-(-count // segments.SEGMENT))]
        block = segments.KEYFRAMES // segments.SEGMENT
        blocks = [every[first : first + block] for first in range(0, len(every), block)]
        mine = blocks if files.shard is None else blocks[files.shard.index - 1 :: files.shard.count]
        same = files.resume and _has_record(parts, record)
        left = [tuple(path for path in paths if not (same and segments.is_whole(path))) for paths in mine]
        todo = [Job(source=source, targets=paths, name=PurePosixPath(paths[0].stem)) for paths in left if paths]
        frames = [sum(len(operation.frame_numbers(path)) for path in job.targets) for job in todo]
        now = "" if sum(frames) == count else f" ({sum(frames)} of them now)"
        look, how = encoding.look, f"{encoding.codec}, quality {encoding.quality}".removesuffix(", quality None")
        line = f"{source}: {count} frames{now} -> {target} ({look.width}×{look.height}, {how})"
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
            remove_leftovers([target])
            there = sum(map(segments.is_whole, every))
            try:
                if there == len(every):
                    with deferred_interrupts(*STOPPING):
                        lost = join(every, clip, target, record=record, kept=kept)
                    for what in lost:
                        say(f"warning: {source}: {what}")
                elif not _is_finished(target, record, count):
                    on = "the same command with --resume goes on" if done.remaining else "the last run of all makes it"
                    say(f"{target}: {there} of {len(every)} parts are in {parts}; {on}")
                    return not done.remaining
            except ImageError:  # another shard may have joined and removed them meanwhile
                if not _is_finished(target, record, count):
                    raise
            with contextlib.suppress(OSError):
                _remove(parts.iterdir())
                parts.rmdir()
        self.display.printed(target)
        return not clip.damage

    def _on(self, clip: Clip, target: Path, bundle: Bundle) -> tuple[ClipUpscaling, Encoding]:
        """The operation on a clip. Raises: ArgumentError, ImageError if the output cannot be made so."""
        width, height = self.operation.output_size((clip.look.width, clip.look.height), bundle.manifest)
        look = dataclasses.replace(clip.look, width=width, height=height, turns=0)
        encoding = chosen_encoding(target, look, codec=self.codec, quality=self.files.quality)
        settings = {name: getattr(encoding, name) for name in ("codec", "quality", "pixel_format")}
        settings["precision"] = self.machine.precision
        of = dataclasses.replace(self.operation, frames=len(clip.times), source_sha256=file_sha256(clip.path))
        return dataclasses.replace(of, encoding=encoding, settings=settings), encoding

    @contextlib.contextmanager
    def _begun(self, parts: Path, record: str) -> Iterator[None]:
        """Make the folder of the parts, and hold it; what it has of another clip, model or settings goes.

        Raises: ImageError, also if another run has it, but for shards, which share it.
        """
        make_folders([parts])
        with contextlib.ExitStack() as stack:
            if fcntl is not None:
                how = fcntl.LOCK_EX if self.files.shard is None else fcntl.LOCK_SH
                stack.callback(os.close, descriptor := os.open(parts, os.O_RDONLY))
                try:
                    fcntl.flock(descriptor, how | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    in_use = f"{parts} is in use: another run makes this clip"
                    raise ImageError(f"{in_use}; wait for it, or share the clip by --shard") from error
                except OSError:  # this file system has no locks
                    pass
            self._clear(parts, record)
            yield

    def _clear(self, parts: Path, record: str) -> None:
        try:
            found, same = list(parts.iterdir()), _has_record(parts, record)
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


def _has_record(parts: Path, record: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return (parts / _SETTINGS).read_text("utf-8") == record
    return False


def is_of(found: str, record: str) -> bool:
    """True if a record says the same as another, but for the SDK's version."""
    with contextlib.suppress(ValueError, TypeError):
        return {**json.loads(found), "sdk_version": ""} == {**json.loads(record), "sdk_version": ""}
    return False


def run_pipe(run: ClipRun, source: str, output: str) -> None:
    """Make a clip of standard input, on standard output, or both: from its first frame to its last, without parts.

    Raises: ArgumentError, ImageError.
    """
    if output == STANDARD and (sys.stdout is None or sys.stdout.isatty()):
        raise ArgumentError("-o - is standard output; redirect it to a program: | ffmpeg -i - large.mp4")
    if output == STANDARD and (run.codec, run.files.quality) != (None, None):
        raise ArgumentError("--codec and --quality are not for -o -, which is not compressed; name a file with -o")
    if output != STANDARD and not run.files.overwrite and os.path.lexists(output):
        run.display.tell(f"{source}: {output} exists: skipped")
        return
    with deferred_interrupts(*STOPPING) as interrupts, contextlib.ExitStack() as at_end:
        stopped = _Stopped(interrupts)
        try:
            _run_pipe(run, source, output, stopped, at_end)
            interrupts()
        except (ImageError, CancelledError):
            interrupts()  # which is why
            raise
        finally:
            stopped.set()  # or threads would wait for the pipe
    if output != STANDARD:
        run.display.printed(Path(output))


class _Stopped(threading.Event):
    """Set by a signal, too."""

    def __init__(self, interrupts: Interrupts) -> None:
        super().__init__()
        self.check = interrupts

    def is_set(self) -> bool:
        return super().is_set() or self.check.number is not None


def _run_pipe(run: ClipRun, source: str, output: str, stopped: _Stopped, at_end: contextlib.ExitStack) -> None:
    if source == STANDARD:
        decoded = Decoded(Piped(sys.stdin.buffer, stopped.is_set), name=_INPUT, max_pixels=run.machine.max_pixels)
        coming = at_end.enter_context(contextlib.closing(ahead(decoded.pictures())))
        if (sample := next(coming, None)) is None or decoded.look is None:
            raise ImageError(f"{_INPUT} ends before its first frame")
        look, frames, name = decoded.look, itertools.chain([sample], coming), _INPUT
    else:
        clip = look_through(Path(source), max_pixels=run.machine.max_pixels)
        coming = at_end.enter_context(contextlib.closing(ahead(Decoded(clip.path).pictures())))
        look, frames, sample, name = clip.look, itertools.chain(coming), clip.sample, source
        if clip.damage:
            raise ImageError(f"{source} is damaged: {clip.damage}; give -o a file to make what can be decoded")
        if len({after - before for before, after in itertools.pairwise(clip.times)}) > 2:  # rounded ones are two
            run.display.say(f"warning: {source}: its frames vary in time, and come at {float(look.rate):g} a second")
    bundle = run.bundle_for(name, sample)
    width, height = run.operation.output_size((look.width, look.height), bundle.manifest)
    look = dataclasses.replace(look, width=width, height=height, turns=0)
    with run.opened(bundle) as upscaler:
        if output == STANDARD:  # it has no tag of the matrix: its reader guesses
            look = dataclasses.replace(look, matrix=guessed_matrix(width, height))
            pixel_format = f"yuv{look.chroma}p{'10le' * look.deep}"
            encoding = Encoding(codec="rawvideo", quality=None, pixel_format=pixel_format, look=look)
            sink = encoding.stream(Piped(sys.stdout.buffer, stopped.is_set), Y4M, "stdout")
        else:
            encoding = chosen_encoding(Path(output), look, codec=run.codec, quality=run.files.quality)
            encoding.tried(Path(output))
            container = WRITTEN[Path(output).suffix.lower()]
            sink = encoding.file(Path(output), container, comment=run.operation.record(bundle.manifest))
        each = run.estimate(upscaler, sample, 1).partition(", ")[2]
        run.display.tell(f"{name} -> {output} ({width}×{height}); {each}")
        drawer = run.operation.drawer(upscaler, stopped)
        with sink as put:
            for number, frame in enumerate(frames):
                put(drawer.draw(frame, number))
            stopped.check()  # before the file appears


def run_frames(run: ClipRun, folder: Path, output: str | None) -> None:
    """Make the numbered frames in a folder, as one clip, into another folder, under their names.

    With --resume, frames that are there, made of just these frames just so, stay. Raises: ArgumentError, ImageError.
    """
    files, paths = run.files, _numbered(folder)
    target = run.targets([folder], output)[0]
    if is_clip(target) or run.codec is not None:
        raise ArgumentError(f"frames of a folder become files in a folder, and {run.codec or target} is for clip files")
    if output is None and target.exists() and not files.resume:
        raise ImageError(f"{target} exists; remove it, or name it with -o, which may replace what is in it")
    outputs = [target / f"{path.stem}{files.ending}" for path in paths]
    if len(set(outputs)) < len(outputs):
        raise ImageError(f"{folder}: two frames are called the same but for their endings; rename one")
    digest = hashlib.sha256("".join(f"{path.name} {file_sha256(path)}\n" for path in paths).encode()).hexdigest()
    sample, _ = _frame(paths[len(paths) // 2], run)
    size, bundle = (sample.shape[1], sample.shape[0]), run.bundle_for(str(folder), sample)
    check_writable(outputs[0], channels=3, size=run.operation.output_size(size, bundle.manifest))
    settings = {"precision": run.machine.precision, "format": files.ending}
    operation = dataclasses.replace(run.operation, frames=len(paths), source_sha256=digest, settings=settings)
    job = Job(source=folder, targets=(), name=PurePosixPath(folder.name))

    def made(number: int) -> Provenance:
        one = dataclasses.replace(operation, settings={**settings, "frame": number})
        return one.provenance(job, bundle.manifest, size=size, number=operation.sample, source_sha256=digest)

    there = {number for number, path in enumerate(outputs) if not files.overwrite and os.path.lexists(path)}
    made_so = {number for number, path in enumerate(outputs) if files.resume and _is_made(path, made(number))}
    todo = set(range(len(paths))) - there - made_so
    with run.opened(bundle) as upscaler:
        now = f" ({len(todo)} of them now)" if len(todo) < len(paths) else ""
        line = f"{folder}: {len(paths)} frames{now} -> {target}; {run.estimate(upscaler, sample, len(todo))}"
        if files.dry_run:
            run.display.answer(f"dry run, nothing was written: {line}")
            return
        run.display.tell(line)
        make_folders([target])
        drawer = operation.drawer(upscaler)
        first = drawer.start(min(todo, default=0))
        read = ahead(_frame(path, run) for path in paths)
        with run.display.progress([job], max_pixels=0, work=[len(paths)]), contextlib.closing(read):
            for number, (frame, metadata) in enumerate(read):
                if frame.shape != sample.shape:
                    odd = f"{paths[number]} is {frame.shape[1]}×{frame.shape[0]}"
                    raise ImageError(f"{odd}, and others are {size[0]}×{size[1]}; frames of a clip have one size")
                if number in todo:
                    picture = drawer.draw(frame, number)
                    metadata = metadata.enlarged(picture.shape[0] / frame.shape[0])
                    how: dict[str, Any] = {"quality": files.quality, "lossless": files.lossless}
                    write_image(outputs[number], picture, metadata=metadata, provenance=made(number), **how)
                elif number >= first:
                    drawer.follow(frame, number)
                run.display.progressed(1, number + 1, len(paths))
    run.display.printed(target)


def _numbered(folder: Path) -> list[Path]:
    """The images in a folder, in the order of the numbers in their names. Raises: ImageError if there are none."""
    found = find_inputs([folder], out=folder)
    if found.refused:
        raise ImageError(found.refused[0][1])
    paths = [file.path for file in found.files]
    return sorted(paths, key=lambda path: [part.zfill(20) for part in re.split(r"(\d+)", path.name)])


def _frame(path: Path, run: ClipRun) -> tuple[NDArray[Any], Metadata]:
    """A frame as H×W×3, and what else is in its file. Raises: ImageError."""
    with open_image(path, max_pixels=run.machine.max_pixels) as reader:
        if reader.channels in (2, 4) or reader.dtype == np.float32:
            raise ImageError(f"{path}: a frame of a clip has 8 or 16 bits and no transparency; leave out --latents")
        pixels = reader.read_rows(reader.height)
        return (np.repeat(pixels, 3, axis=2) if reader.channels == 1 else pixels), reader.metadata


def _is_made(path: Path, made: Provenance) -> bool:
    """True if a frame of this record can be decoded."""
    with contextlib.suppress(ImageError, OSError):
        found = read_provenance(path)
        return found is not None and is_of(found.settings or "", made.settings or "") and bool(read_image(path))
    return False
