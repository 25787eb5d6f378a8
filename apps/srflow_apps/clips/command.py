"""Runs srflow-upscale on clips: each is made in parts, files in a folder beside it, with which
--resume goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srflow_apps.batch.command import FAILED, STANDARD
from srflow_apps.batch.display import Display
from srflow_apps.batch.operations import Upscaling
from srflow_apps.batch.plan import check_place
from srflow_apps.batch.results import failure
from srflow_apps.clips.files import (
    WRITTEN,
    Clip,
    Encoding,
    av_errors,
    choose_encoding,
    choose_streams,
    join,
    read_record,
)
from srflow_apps.commands.signals import STOPPING, deferred_interrupts
from srflow_sdk import __version__
from srflow_sdk.clips import FrameUpscaler
from srflow_sdk.clips.optical_flow import opencv
from srflow_sdk.errors import ArgumentError, ImageError, SRFlowError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.model_choice import bundles_of, choose_model
from srflow_sdk.system import local_files
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from srflow_apps.batch.choices import Choices, FileChoices, MachineChoices
    from srflow_sdk.clips.frame_upscaler import LatentsOfClip
    from srflow_sdk.drawing.options import DrawOptions

SEGMENT = 24
"""Frames of a part, which a kill costs."""

KEYFRAMES = 240
"""Frames after which detail begins anew, a multiple of :data:`SEGMENT`."""

_SETTINGS = "settings.json"
_OURS = re.compile(r"\.?(\d{6}\.(mkv|state)|settings\.json)(\..*)?")


def run_clips(
    inputs: Sequence[str],
    choices: Choices,
    draw: DrawOptions,
    *,
    latents: LatentsOfClip | None,
    codec: str | None,
) -> None:
    """Enlarge clips in files, each whole by one model. Exits with another status than 0 if one
    failed.

    Raises: SRFlowError for what concerns all clips; KeyboardInterrupt.
    """
    output = choices.output
    if any(path == STANDARD or "://" in path for path in (*inputs, output or "")):
        raise ArgumentError(
            "a clip is a file on this machine, and so is its output: name files for both"
        )
    upscaling = Upscaling(options=draw)
    sources = [Path(path) for path in inputs]
    failed = False
    if latents in (None, "motion"):
        opencv()
    with Display(quiet=choices.machine.quiet) as display:
        display.unit = "frame"
        bundles = upscaling.select_bundles(bundles_of(choices.model))
        run = _ClipRun(
            upscaling,
            latents or "motion",
            bundles,
            codec,
            choices.files,
            choices.machine,
            display,
        )
        suffix = (
            None if output is not None else upscaling.name_fields(bundles[0].manifest)["suffix"]
        )
        for source, target in zip(sources, _targets(sources, output, suffix), strict=True):
            try:
                failed |= not run.make(source, target, beside=output is None)
            except ArgumentError:
                raise
            except SRFlowError as error:
                display.say(f"error: {failure(source, str(error)).error}")
                failed = True
        if failed or display.names_lost:
            sys.exit(FAILED)


def _targets(sources: Sequence[Path], output: str | None, suffix: str | None) -> list[Path]:
    """The output of each clip: a file, in a directory, or beside it, with a suffix. Raises:
    SRFlowError.
    """
    out = Path(output or "")
    end = "" if suffix is None else f"_{suffix}"
    if (
        output is not None
        and len(sources) == 1
        and not (out.is_dir() or output.endswith(("/", os.sep)))
    ):
        check_place(out)
        targets = [out]
    else:
        targets = []
        for path in sources:
            ending = path.suffix if path.suffix.lower() in WRITTEN else ".mkv"
            targets.append((path.parent if output is None else out) / f"{path.stem}{end}{ending}")
    real = [local_files.real_path(target) for target in targets]
    for target in real:
        if real.count(target) > 1 or target in map(local_files.real_path, sources):
            raise ArgumentError(
                f"{target} would overwrite an input, or another output; name each with -o"
            )
    return targets


@dataclass(frozen=True)
class _ClipRun:
    """A run of the command on clips. bundles: the model, or those of which each clip gets the one
    that suits it.
    """

    upscaling: Upscaling
    latents: LatentsOfClip
    bundles: Sequence[Bundle]
    codec: str | None
    files: FileChoices
    machine: MachineChoices
    display: Display

    def make(self, source: Path, target: Path, *, beside: bool) -> bool:
        """Make one clip. Returns whether nothing is wrong with it. Raises: SRFlowError,
        KeyboardInterrupt.
        """
        # Long, as each step needs what those before it say of the clip, and may end the work.
        files = self.files
        tell = self.display.tell
        if not files.overwrite and os.path.lexists(target):
            tell(f"{source}: {target} exists: skipped")
            return True
        with av_errors(target, "cannot be written"):  # now, not when all is drawn
            local_files.check_replaceable(target)
        clip = Clip(source, max_pixels=self.machine.max_pixels)
        clip.look_through()
        bundle = self._choose_bundle(clip)
        width, height = self.upscaling.output_size(
            (clip.frame_format.width, clip.frame_format.height), bundle.manifest
        )
        frame_format = dataclasses.replace(clip.frame_format, width=width, height=height, turns=0)
        encoding = choose_encoding(target, frame_format, codec=self.codec, quality=files.quality)
        record = self._record(clip, bundle, encoding)
        self._report_defects(clip)
        if files.resume and {**read_record(target), "sdk_version": __version__} == record:
            tell(f"{target} is finished: skipped")
            return not clip.damage
        if beside and os.path.lexists(target):
            raise ImageError(
                f"{target} exists; remove it, or name it with -o, which may replace it"
            )
        kept, lost = choose_streams(clip, target, encoding)
        for what in lost:
            self.display.say(f"warning: {source}: {what}")
        count = len(clip.times)
        parts = Parts(
            folder=target.with_name(f"{target.name}.parts"),
            frames=count,
            record=json.dumps(record, sort_keys=True, ensure_ascii=False),
        )
        remaining = count - (min(len(parts.list_done()) * SEGMENT, count) if files.resume else 0)
        frames = f"{count} frames"
        if remaining < count:
            frames += f" ({remaining} of them now)"
        quality = "" if encoding.quality is None else f", quality {encoding.quality}"
        line = f"{source}: {frames} -> {target} ({width}×{height}, {encoding.codec}{quality})"
        if files.dry_run:
            self.display.answer(f"dry run, nothing was written: {line}")
            return not clip.damage
        tell(line)
        local_files.remove_stale_parts(target)
        with self._open_upscaler(bundle) as upscaler, parts.hold(keep=files.resume, say=tell):
            drawer = FrameUpscaler(
                upscaler, latents=self.latents, keyframes=KEYFRAMES, **vars(self.upscaling.options)
            )
            self.display.begin([source.name])
            try:
                self._draw(clip, drawer, encoding, parts)
            except (SRFlowError, KeyboardInterrupt):
                tell(
                    f"{source}: the parts that are done stay; the same command with --resume goes "
                    "on"
                )
                raise
            join(clip, parts.paths(), target, kept, record=parts.record)
            parts.clear()
        self.display.print_name(target)
        return not clip.damage

    def _choose_bundle(self, clip: Clip) -> Bundle:
        choice = choose_model(clip.sample, scale=self.upscaling.scale, among=self.bundles)
        if choice.why:
            self.display.tell(f"{clip.path}: {choice.name} ({choice.why})")
        bundle = next(one for one in self.bundles if one.manifest.name == choice.name)
        return dataclasses.replace(bundle, cleaner=None)  # frames are not cleaned

    def _report_defects(self, clip: Clip) -> None:
        if clip.interlaced:
            self.display.say(
                f"warning: {clip.path} is interlaced: its combs stay; ffmpeg -vf bwdif removes them"
            )
        if clip.damage:
            self.display.say(
                f"error: {clip.path} is damaged: {clip.damage}; what can be decoded, "
                f"{len(clip.times)} frames, is made"
            )

    def _open_upscaler(self, bundle: Bundle) -> Upscaler:
        with deferred_interrupts(*STOPPING):  # a signal breaks imports of native code
            return Upscaler(
                [bundle],
                device=self.machine.device,
                tile=self.machine.tile,
                threads=self.machine.threads,
                precision=self.machine.precision,
            )

    def _record(self, clip: Clip, bundle: Bundle, encoding: Encoding) -> dict[str, Any]:
        """How a clip is made, as JSON values."""
        made = {
            "sdk_version": __version__,
            "model": bundle.manifest.name,
            "model_sha256": bundle.manifest.digest,
            "latent_scheme": bundle.manifest.latent_scheme,
            "source_sha256": local_files.file_sha256(clip.path),
            "frames": len(clip.times),
            "latents": self.latents,
            "keyframes": KEYFRAMES,
            "segment": SEGMENT,
            **self.upscaling.describe(bundle.manifest),
            **{name: getattr(encoding, name) for name in ("codec", "quality", "pixel_format")},
            "precision": self.machine.precision,
        }
        return dict(json.loads(json.dumps(made)))

    def _draw(self, clip: Clip, drawer: FrameUpscaler, encoding: Encoding, parts: Parts) -> None:
        """Draw the parts that are missing. A frame is encoded while the next is drawn. Raises:
        SRFlowError.
        """
        begin = parts.find_first_frame(drawer)
        pictures = itertools.islice(clip.pictures(), begin, None)
        for path in parts.paths()[begin // SEGMENT :]:
            first = int(path.stem) * SEGMENT
            stop = min(first + SEGMENT, parts.frames)
            with (
                encoding.write_part(path, path) as put,
                ThreadPoolExecutor(1, thread_name_prefix="srflow-encode") as encoder,
            ):
                encoded: Future[None] | None = None
                for number in range(first, stop):
                    if (frame := next(pictures, None)) is None:
                        raise ImageError(f"it has only {number} frames now: it has changed")
                    picture = drawer.draw(frame, number)
                    if encoded is not None:  # one at a time, or pictures would fill the memory
                        encoded.result()
                    encoded = encoder.submit(put, picture)
                    self.display.show_progress(1, number + 1 - begin, parts.frames - begin)
                if encoded is not None:
                    encoded.result()
                if drawer.start(stop) < stop < parts.frames:
                    following = local_files.replacing(path.with_suffix(".state"))
                    with following as descriptor, os.fdopen(os.dup(descriptor), "wb") as file:
                        np.savez(file, **drawer.state())
            path.with_name(f"{int(path.stem) - 1:06}.state").unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a clip of so many frames, each called after its number. record: how they are
    made.
    """

    folder: Path
    frames: int
    record: str

    def paths(self) -> list[Path]:
        """All of them, whether they exist or not."""
        return [self.folder / f"{number:06}.mkv" for number in range(-(-self.frames // SEGMENT))]

    def list_done(self) -> list[Path]:
        """Those that are there, up to the first that is missing; none if they were made
        otherwise.
        """
        return list(itertools.takewhile(Path.exists, self.paths())) if self._match_record() else []

    def _match_record(self) -> bool:
        """Whether those that are there, if any, are made as the record says."""
        with contextlib.suppress(OSError, ValueError):
            return (self.folder / _SETTINGS).read_text("utf-8") == self.record
        return False

    def find_first_frame(self, drawer: FrameUpscaler) -> int:
        """The first frame to be drawn; the drawer has the state before it. Without one it is a
        keyframe.
        """
        number = len(self.list_done()) * SEGMENT
        # Of a damaged file numpy and zipfile raise a dozen kinds of errors.
        with (
            contextlib.suppress(Exception),
            np.load(self.folder / f"{number // SEGMENT - 1:06}.state") as arrays,
        ):
            if int(arrays["number"]) == number - 1:
                drawer.go_on(arrays)
                return number
        return drawer.start(number)

    @contextlib.contextmanager
    def hold(self, *, keep: bool, say: Callable[[str], None]) -> Iterator[None]:
        """Make the folder and hold it alone; what is of other clips, or not to be kept, goes.
        Raises: ImageError.
        """
        with contextlib.ExitStack() as stack:
            with local_files.writing_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                if local_files.LOCKS_EXIST:
                    stack.callback(os.close, descriptor := os.open(self.folder, os.O_RDONLY))
                    if not local_files.lock(descriptor, wait=False):
                        why = (
                            "another run makes this clip; wait for it (or the disk has no locks: "
                            "take another)"
                        )
                        raise ImageError(f"{self.folder} is in use: {why}")
                if (self.folder / _SETTINGS).exists() and not self._match_record():
                    say(
                        f"{self.folder} has parts of another clip, model or settings: beginning "
                        "anew"
                    )
                if not (keep and self.list_done()):
                    self.clear(folder=False)
                    local_files.write_atomically(self.folder / _SETTINGS, self.record.encode())
            yield

    def clear(self, *, folder: bool = True) -> None:
        """Delete them, and the folder if it has nothing else."""
        for path in list(self.folder.iterdir()):
            if _OURS.fullmatch(path.name):
                path.unlink(missing_ok=True)
        if folder:
            with contextlib.suppress(OSError):
                self.folder.rmdir()
