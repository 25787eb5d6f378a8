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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srflow_apps.batch.command import FAILED, STANDARD, about, measure_time
from srflow_apps.batch.display import Display
from srflow_apps.batch.jobs import Job, Settings
from srflow_apps.batch.operations import Upscaling
from srflow_apps.batch.plan import find_inputs
from srflow_apps.batch.run import Pixels
from srflow_apps.clips import segments
from srflow_apps.clips.reading import Clip, Look, av_errors, guessed_matrix, is_clip
from srflow_apps.clips.segments import Segments
from srflow_apps.clips.writing import WRITTEN, Encoding, Joined, chosen_encoding, kept_streams, record_in
from srflow_sdk._version import __version__
from srflow_sdk.clips import FrameUpscaler
from srflow_sdk.clips.optical_flow import opencv
from srflow_sdk.errors import ArgumentError, ImageError, SRFlowError
from srflow_sdk.files import Metadata, Provenance, check_writable, open_image, read_provenance, write_image
from srflow_sdk.files.provenance import CLIP
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.model_choice import bundles_of, choose_model
from srflow_sdk.system.interrupts import STOPPING, deferred_interrupts
from srflow_sdk.system.local_files import check_replaceable, file_sha256, real_path, remove_stale_parts
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from srflow_apps.batch.choices import FileChoices, MachineChoices
    from srflow_sdk.clips.frame_upscaler import LatentsOfClip
    from srflow_sdk.drawing.options import DrawOptions


_PIECE = 128  # side of what is drawn to see how fast this machine is


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
    """Enlarge clips: files, folders of frames, or standard input. Exits with another status than 0 if one failed.

    model: as of run_command, for a whole clip. Raises: SRFlowError for what concerns all clips; KeyboardInterrupt.
    """
    upscaling = Upscaling(options=draw)
    if latents in (None, "motion"):
        opencv()
    with Display(quiet=machine.quiet) as display:
        display.unit = "frame"
        bundles = upscaling.needed(bundles_of(model))
        run = ClipRun(upscaling, latents or "motion", bundles, codec, files, machine, display)
        if any("://" in path for path in (*inputs, output or "")):
            raise ArgumentError("a clip is a file on this machine, and so is its output: copy it here first")
        if STANDARD in (*inputs, output):
            if len(inputs) > 1 or output is None:
                raise ArgumentError("- is one clip; name one INPUT, and the output with -o")
            run.make_piped(inputs[0], output)
        elif Path(inputs[0]).is_dir():
            if len(inputs) > 1:
                raise ArgumentError("--latents takes one folder of frames at a time; name one")
            run.make_frames(Path(inputs[0]), output)
        else:
            run.make_all([Path(path) for path in inputs], output)


@dataclass(frozen=True)
class ClipRun:
    """A run of the command on clips. bundles: the model, or those of which each clip gets the one that suits it."""

    upscaling: Upscaling
    latents: LatentsOfClip
    bundles: Sequence[Bundle]
    codec: str | None
    files: FileChoices
    machine: MachineChoices
    display: Display

    def make_all(self, sources: Sequence[Path], output: str | None) -> None:
        """Make every clip of a file. Exits with a status other than 0 if something failed."""
        failed = False
        for source, target in zip(sources, self._targets(sources, output), strict=True):
            try:
                if self.files.overwrite or not os.path.lexists(target):
                    failed |= not self._make(source, target, beside=output is None)
                else:
                    self.display.tell(f"{source}: {target} exists: skipped")
            except ArgumentError:
                raise
            except SRFlowError as error:
                line = str(error)
                self.display.say(f"error: {line if str(source) in line else f'{source}: {line}'}")
                failed = True
        if failed or self.display.names_lost:
            sys.exit(FAILED)

    def _targets(self, sources: Sequence[Path], output: str | None) -> list[Path]:
        """The output of each clip or folder of frames: a file, in a directory, or, for None, beside it."""
        suffix, out = f"_{self.upscaling.suffix(self.bundles[0].manifest)}" * (output is None), Path(output or "")
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

    def _bundle(self, name: str, sample: NDArray[Any]) -> Bundle:
        """The model of a whole clip: the only one, or the one that suits this frame of it."""
        choice = choose_model(sample, scale=self.upscaling.scale, among=self.bundles)
        if choice.why:
            self.display.tell(f"{name}: {choice.name} ({choice.why})")
        return dataclasses.replace(choice, cleaner=None).of(self.bundles)  # frames are not cleaned

    def _opened(self, bundle: Bundle) -> Upscaler:
        options = {name: getattr(self.machine, name) for name in ("device", "tile", "threads", "precision")}
        with deferred_interrupts(*STOPPING):  # a signal breaks imports of native code
            return Upscaler([bundle], **options)

    def _drawer(self, upscaler: Upscaler) -> FrameUpscaler:
        options = vars(self.upscaling.options)
        return FrameUpscaler(upscaler, latents=self.latents, keyframes=segments.KEYFRAMES, **options)

    def _record(self, manifest: Manifest, frames: int = 0, source_sha256: str = "", **settings: Any) -> str:
        """How a clip is made, JSON in one line. frames: of the whole clip. settings: what else decides it."""
        made = {
            "sdk_version": __version__,
            "model": manifest.name,
            "model_sha256": manifest.digest,
            "latent_scheme": manifest.latent_scheme,
            "source_sha256": source_sha256,
            "frames": frames,
            "latents": self.latents,
            "keyframes": segments.KEYFRAMES,
            "segment": segments.SEGMENT,
            **self.upscaling.described(manifest),
            **settings,
        }
        return json.dumps(made, sort_keys=True, ensure_ascii=False)

    def _large(self, look: Look, bundle: Bundle) -> Look:
        """The looks of the output. Raises: ArgumentError, ImageError if it cannot be made."""
        width, height = self.upscaling.output_size((look.width, look.height), bundle.manifest)
        return dataclasses.replace(look, width=width, height=height, turns=0)

    def _estimate(self, upscaler: Upscaler, sample: NDArray[Any], frames: int) -> str:
        """How long so many frames take here, by a piece of one."""
        with tempfile.TemporaryDirectory(prefix="srflow-") as folder:
            piece = np.ascontiguousarray(sample[:_PIECE, :_PIECE])
            write_image(path := Path(folder) / "frame.png", piece)
            drawn = (path,) * (2 if self.latents == "motion" else 1)  # motion needs the detail apart
            job = Job(source=path, targets=drawn, name=PurePosixPath(path.name))
            whole = Upscaling(options=dataclasses.replace(self.upscaling.options, scale=None))
            each = measure_time(job, upscaler, Settings(operation=whole)) * sample.size / piece.size
        return f"{about(each * frames)}, {each:.1f} s a frame"

    def _make(self, source: Path, target: Path, *, beside: bool) -> bool:
        """Make one clip, or this run's part of it. Returns whether nothing is wrong with it."""
        files, say = self.files, self.display.say
        with av_errors(target, "cannot be written"):  # now, not when all is drawn
            check_replaceable(target)
        clip = Clip(source, max_pixels=self.machine.max_pixels)
        clip.look_through()
        bundle, count = self._bundle(str(source), clip.sample), len(clip.times)
        look = self._large(clip.look, bundle)
        encoding = chosen_encoding(target, look, codec=self.codec, quality=files.quality)
        settings = {name: getattr(encoding, name) for name in ("codec", "quality", "pixel_format")}
        settings["precision"] = self.machine.precision
        record = self._record(bundle.manifest, count, file_sha256(source), **settings)
        if clip.interlaced:
            say(f"warning: {source} is interlaced: its combs stay; ffmpeg -vf bwdif removes them")
        if clip.damage:
            say(f"error: {source} is damaged: {clip.damage}; what can be decoded, {count} frames, is made")

        def is_finished() -> bool:
            return _is_of(record_in(target), record)

        if (files.resume or files.shard is not None) and is_finished():
            self.display.tell(f"{target} is finished: skipped")
            return not clip.damage
        if beside and os.path.lexists(target):
            raise ImageError(f"{target} exists; remove it, or name it with -o, which may replace it")
        kept, lost = kept_streams(clip, target, encoding)
        for what in lost:
            say(f"warning: {source}: {what}")
        parts = Segments(folder=target.with_name(f"{target.name}.parts"), frames=count, record=record)
        mine = parts.paths() if files.shard is None else parts.paths(files.shard)
        same = files.resume and parts.is_kept()
        todo = [path for path in mine if not (same and path.exists())]
        now = sum(len(parts.numbers(path)) for path in todo)
        how = f"{encoding.codec}, quality {encoding.quality}".removesuffix(", quality None")
        line = f"{source}: {count} frames{f' ({now} of them now)' * (now < count)} -> {target}"
        line += f" ({look.width}×{look.height}, {how})"
        with self._opened(bundle) as upscaler:
            line += f"; {self._estimate(upscaler, clip.sample, now)}" * bool(now)
            if files.dry_run:
                self.display.answer(f"dry run, nothing was written: {line}")
                return not clip.damage
            self.display.tell(line)
            remove_stale_parts(target)
            with parts.held(keep=files.resume, shared=files.shard is not None, say=self.display.tell):
                done = itertools.count(1)
                try:
                    with self.display.progress([source.name], lambda: Pixels([now])):
                        parts.draw(
                            todo,
                            clip.pictures(),
                            drawer=lambda: self._drawer(upscaler),
                            encoding=encoding,
                            drawn=lambda: self.display.progressed(1, next(done), now),
                        )
                except (SRFlowError, KeyboardInterrupt):
                    self.display.tell(f"{source}: the parts that are done stay; the same command with --resume goes on")
                    raise
                every = parts.paths()
                there = sum(path.exists() for path in every)
                try:
                    if there == len(every):
                        joined = Joined(clip, clip.times, target, kept, record)
                        joined.to_file(every)
                        for number, lost_packets in joined.dropped.items():
                            say(f"warning: {source}: {lost_packets} damaged packets of stream {number} are left out")
                    elif not is_finished():
                        say(f"{target}: {there} of {len(every)} parts are in {parts.folder}; the last run makes it")
                        return not clip.damage
                except ImageError:  # another shard may have joined and removed them meanwhile
                    if not is_finished():
                        raise
                parts.remove()
        self.display.printed(target)
        return not clip.damage

    def make_piped(self, source: str, output: str) -> None:
        """Make a clip of standard input, on standard output, or both, from its first frame on, without parts."""
        files, say, target, out = self.files, self.display.say, Path(output), output == STANDARD
        if out and (sys.stdout is None or sys.stdout.isatty()):
            raise ArgumentError("-o - is standard output; redirect it to a program: | ffmpeg -i - large.mp4")
        if out and (self.codec, files.quality) != (None, None):
            raise ArgumentError("--codec and --quality are not for -o -, which is not compressed; name a file with -o")
        if not out and not files.overwrite and os.path.lexists(output):
            self.display.tell(f"{source}: {output} exists: skipped")
            return
        clip = Clip(None if source == STANDARD else Path(source), max_pixels=self.machine.max_pixels)
        if source != STANDARD:
            clip.look_through()
            if clip.damage:
                raise ImageError(f"{source} is damaged: {clip.damage}; give -o a file to make what can be decoded")
            if len({after - before for before, after in itertools.pairwise(clip.times)}) > 2:  # rounded ones are two
                rate = f"{float(clip.look.rate):g}"
                say(f"warning: {source}: its frames vary in time, and come at {rate} a second")
        frames = clip.pictures()
        if (first := next(frames, None)) is None:
            raise ImageError(f"{clip.name} ends before its first frame")
        sample = clip.sample if clip.times else first
        bundle = self._bundle(clip.name, sample)
        look = self._large(clip.look, bundle)
        with self._opened(bundle) as upscaler:
            if out:  # it has no tag of the matrix: its reader guesses
                look = dataclasses.replace(look, matrix=guessed_matrix(look.width, look.height))
                pixel_format = f"yuv{look.chroma}p{'10le' * look.deep}"
                sink = Encoding(codec="rawvideo", quality=None, pixel_format=pixel_format, look=look).pipe()
            else:
                encoding = chosen_encoding(target, look, codec=self.codec, quality=files.quality)
                encoding.tried(target)
                sink = encoding.file(target, WRITTEN[target.suffix.lower()], comment=self._record(bundle.manifest))
            each = self._estimate(upscaler, sample, 1).partition(", ")[2]
            self.display.tell(f"{clip.name} -> {output} ({look.width}×{look.height}); {each}")
            drawer = self._drawer(upscaler)
            with sink as put:
                for number, frame in enumerate(itertools.chain([first], frames)):
                    put(drawer.draw(frame, number))
        if not out:
            self.display.printed(target)

    def make_frames(self, folder: Path, output: str | None) -> None:
        """Make the numbered frames in a folder, as one clip, into another folder, under their names.

        With --resume, those that are there, made of just these frames just so, stay.
        """
        files, paths, target = self.files, _numbered(folder), self._targets([folder], output)[0]
        if is_clip(target) or self.codec is not None:
            what = self.codec or target
            raise ArgumentError(f"frames of a folder become files in a folder, and {what} is for clip files")
        if output is None and target.exists() and not files.resume:
            raise ImageError(f"{target} exists; remove it, or name it with -o, which may replace what is in it")
        ending = self.upscaling.ending(files)
        outputs = [target / f"{path.stem}{ending}" for path in paths]
        if len(set(outputs)) < len(outputs):
            raise ImageError(f"{folder}: two frames are called the same but for their endings; rename one")
        digest = hashlib.sha256("".join(f"{path.name} {file_sha256(path)}\n" for path in paths).encode()).hexdigest()
        sample, _ = self._frame(paths[len(paths) // 2])
        size, bundle = (sample.shape[1], sample.shape[0]), self._bundle(str(folder), sample)
        check_writable(outputs[0], channels=3, size=self.upscaling.output_size(size, bundle.manifest))
        job = Job(source=folder, targets=(), name=PurePosixPath(folder.name))
        one = self.upscaling.provenance(
            job, bundle.manifest, size=size, number=self.upscaling.sample, source_sha256=digest
        )
        settings = {"precision": self.machine.precision, "format": ending}

        def made(number: int) -> Provenance:
            record = self._record(bundle.manifest, len(paths), digest, frame=number, **settings)
            return dataclasses.replace(one, operation=CLIP, settings=record, source=folder.name)

        def stays(number: int, path: Path) -> bool:
            return (not files.overwrite and os.path.lexists(path)) or (files.resume and _is_made(path, made(number)))

        todo = {number for number, path in enumerate(outputs) if not stays(number, path)}
        with self._opened(bundle) as upscaler:
            now = f" ({len(todo)} of them now)" if len(todo) < len(paths) else ""
            line = f"{folder}: {len(paths)} frames{now} -> {target}; {self._estimate(upscaler, sample, len(todo))}"
            if files.dry_run:
                self.display.answer(f"dry run, nothing was written: {line}")
                return
            self.display.tell(line)
            with av_errors(target, "cannot be written"):
                target.mkdir(parents=True, exist_ok=True)
            drawer = self._drawer(upscaler)
            first = drawer.start(min(todo, default=0))
            with self.display.progress([folder.name], lambda: Pixels([len(paths)])):
                for number, path in enumerate(paths):
                    frame, metadata = self._frame(path)
                    if frame.shape != sample.shape:
                        odd = f"{path} is {frame.shape[1]}×{frame.shape[0]}"
                        raise ImageError(f"{odd}, and others are {size[0]}×{size[1]}; frames of a clip have one size")
                    if number in todo:
                        picture = drawer.draw(frame, number)
                        metadata = metadata.enlarged(picture.shape[0] / frame.shape[0])
                        how: dict[str, Any] = {"quality": files.quality, "lossless": files.lossless}
                        write_image(outputs[number], picture, metadata=metadata, provenance=made(number), **how)
                    elif number >= first:
                        drawer.follow(frame, number)
                    self.display.progressed(1, number + 1, len(paths))
        self.display.printed(target)

    def _frame(self, path: Path) -> tuple[NDArray[Any], Metadata]:
        """A frame as H×W×3, and what else is in its file. Raises: ImageError."""
        with open_image(path, max_pixels=self.machine.max_pixels) as reader:
            if reader.channels in (2, 4) or reader.dtype == np.float32:
                raise ImageError(f"{path}: a frame of a clip has 8 or 16 bits and no transparency; leave out --latents")
            pixels = reader.read_rows(reader.height)
            return (np.repeat(pixels, 3, axis=2) if reader.channels == 1 else pixels), reader.metadata


def _numbered(folder: Path) -> list[Path]:
    """The images in a folder, in the order of the numbers in their names. Raises: ImageError if there are none."""
    found = find_inputs([folder], out=folder)
    if found.refused:
        raise ImageError(str(found.refused[0].error))
    paths = [job.source for job in found.jobs]
    return sorted(paths, key=lambda path: [part.zfill(20) for part in re.split(r"(\d+)", path.name)])


def _is_made(path: Path, made: Provenance) -> bool:
    with contextlib.suppress(ImageError, OSError):
        found = read_provenance(path)
        return found is not None and _is_of(found.settings or "", made.settings or "")
    return False


def _is_of(found: str, record: str) -> bool:
    """True if a record says the same as another, but for the SDK's version."""
    with contextlib.suppress(ValueError, TypeError):
        return {**json.loads(found), "sdk_version": ""} == {**json.loads(record), "sdk_version": ""}
    return False
