"""Runs srflow-upscale on clips: files, YUV4MPEG2 on standard input and output, and folders of numbered frames."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import os
import re
import sys
import threading
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srflow_apps.batch.command import STANDARD
from srflow_apps.batch.find import find_inputs
from srflow_apps.batch.operations import Job
from srflow_apps.batch.storage import make_folders
from srflow_apps.clips.clip_run import ClipDisplay, ClipRun, is_of
from srflow_apps.clips.reading import Y4M, Decoded, Piped, ahead, guessed_matrix, is_clip, look_through
from srflow_apps.clips.segments import ClipUpscaling
from srflow_apps.clips.writing import WRITTEN, Encoding, chosen_encoding
from srflow_sdk.clips.optical_flow import opencv
from srflow_sdk.errors import ArgumentError, CancelledError, ImageError
from srflow_sdk.files import Metadata, Provenance, check_writable, open_image, read_image, read_provenance, write_image
from srflow_sdk.model.model_choice import bundles_of
from srflow_sdk.system.interrupts import STOPPING, Interrupts, deferred_interrupts
from srflow_sdk.system.local_files import file_sha256
from srflow_sdk.system.url_paths import UrlPath, as_path

if TYPE_CHECKING:
    from srflow_apps.batch.choices import FileChoices, MachineChoices
    from srflow_sdk.clips.frame_upscaler import LatentsOfClip
    from srflow_sdk.drawing.options import DrawOptions

_INPUT = "stdin"


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
