"""Segments of a clip: jobs of a batch, so that a clip is resumed, shared and drawn on a cluster as a folder is."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srflow_apps.batch.operations import Job, Run, Size, Upscaling
from srflow_apps.clips.reading import Decoded, ahead
from srflow_apps.clips.writing import Encoding
from srflow_sdk._version import __version__
from srflow_sdk.clips import FrameUpscaler
from srflow_sdk.drawing.file_upscaling import FileOutput, FileResult
from srflow_sdk.errors import ImageError
from srflow_sdk.files import Provenance
from srflow_sdk.files.provenance import CLIP
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.system.local_files import file_sha256, replacing
from srflow_sdk.system.raising import stop_if_set

if TYPE_CHECKING:
    from srflow_sdk.base_upscaler import BaseUpscaler
    from srflow_sdk.clips.frame_upscaler import LatentsOfClip

SEGMENT = 24
"""Frames of a segment, which a kill costs."""

KEYFRAMES = 240
"""Frames after which detail begins anew, a multiple of :data:`SEGMENT`: those of a job, so that none needs another."""


@dataclass(frozen=True, kw_only=True)
class ClipUpscaling(Upscaling):
    """Enlarging segments of a clip, or frames of a folder or pipe. A job's targets are called after their numbers.

    frames: of the whole clip; 0 is not known. source_sha256: of its file or files. settings: what else decides how it
    is made, for the record. encoding: of segments.
    """

    latents: LatentsOfClip
    frames: int = 0
    source_sha256: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    encoding: Encoding | None = None

    def record(self, manifest: Manifest) -> str:
        """How the clip is made, JSON in one line."""
        made = {
            "sdk_version": __version__,
            "model": manifest.name,
            "model_sha256": manifest.digest,
            "latent_scheme": manifest.latent_scheme,
            "source_sha256": self.source_sha256,
            "frames": self.frames,
            "latents": self.latents,
            "keyframes": KEYFRAMES,
            "segment": SEGMENT,
            **self.described(manifest),
            **self.settings,
        }
        return json.dumps(made, sort_keys=True, ensure_ascii=False)

    def provenance(self, job: Job, manifest: Manifest, *, size: Size, number: int, source_sha256: str) -> Provenance:
        made = super().provenance(job, manifest, size=size, number=number, source_sha256=source_sha256)
        return dataclasses.replace(made, operation=CLIP, settings=self.record(manifest), source=job.source.name)

    def drawer(self, upscaler: BaseUpscaler, cancel: threading.Event | None = None) -> FrameUpscaler:
        keywords = dataclasses.replace(self.options, cancel=cancel).keywords
        return FrameUpscaler(upscaler, latents=self.latents, keyframes=KEYFRAMES, **keywords)

    def frame_numbers(self, segment: Path) -> range:
        """The numbers of a segment's frames."""
        first = int(segment.stem) * SEGMENT
        return range(first, min(first + SEGMENT, self.frames))

    def on_file(
        self, upscaler: BaseUpscaler, job: Job, source: Path, targets: Sequence[Path], run: Run, **writing: Any
    ) -> FileResult:
        assert self.encoding is not None
        begun, done, cancel = time.monotonic(), 0, run["cancel"]
        total = sum(len(self.frame_numbers(target)) for target in targets)
        place = _KEPT.pop(upscaler, None)
        if place is None or place.operation != self or place.next > self.frame_numbers(targets[0]).start:
            place = _Place(operation=self, frames=ahead(Decoded(source).pictures()))
        for target in targets:
            with self.encoding.file(target, hash_in=_sum(target)) as put:
                for picture in place.pictures(target, upscaler, cancel):
                    put(picture)
                    done += 1
                    if done == total and place.next < self.frames:
                        _KEPT[upscaler] = place  # before progress(), upon which another thread begins the next job
                    if run["progress"] is not None:
                        run["progress"](done, total)
        manifest, digest = upscaler.bundle.manifest, self.source_sha256
        made = self.provenance(job, manifest, size=place.size, number=self.sample, source_sha256=digest)
        outputs = tuple(FileOutput(path=target, provenance=made, lr_psnr=None) for target in targets)
        return FileResult(source=source, size=place.size, outputs=outputs, seconds=time.monotonic() - begun)


@dataclass(kw_only=True)
class _Place:
    """How far a clip is decoded and drawn, so that the next segment need not begin with the first frame."""

    operation: ClipUpscaling
    frames: Generator[NDArray[Any], None, None]
    next: int = 0
    size: Size = (0, 0)
    drawer: FrameUpscaler | None = None

    def pictures(self, segment: Path, upscaler: BaseUpscaler, cancel: threading.Event | None) -> Iterator[NDArray[Any]]:
        """Draw a segment. Frames before it are passed over, or followed, unless the one before it left its state."""
        numbers = self.operation.frame_numbers(segment)
        first = start = numbers.start
        if self.drawer is None or self.next < first:
            self.drawer = self.operation.drawer(upscaler, cancel)
            start = self.drawer.start(first)
            # Of a damaged file numpy and zipfile raise a dozen kinds of errors.
            with contextlib.suppress(Exception), np.load(_state(segment, -1)) as state:
                if int(state["number"]) == first - 1:
                    self.drawer.go_on(state)
                    start = first
        while self.next < numbers.stop:
            stop_if_set(cancel)
            if (frame := next(self.frames, None)) is None:
                raise ImageError(f"it has only {self.next} frames now: it has changed")
            number, self.next, self.size = self.next, self.next + 1, (frame.shape[1], frame.shape[0])
            if number >= first:
                picture = self.drawer.draw(frame, number)
                if self.next == numbers.stop:
                    _state(segment, -2).unlink(missing_ok=True)  # the last one's file may still be on its way
                    if self.drawer.start(self.next) < self.next < self.operation.frames:
                        with replacing(_state(segment, 0)) as descriptor, os.fdopen(os.dup(descriptor), "wb") as file:
                            np.savez(file, **self.drawer.state())
                yield picture
            elif number >= start:
                self.drawer.follow(frame, number)


def is_whole(segment: Path) -> bool:
    """True if a segment is there, as it was written."""
    try:
        return _sum(segment).read_text("utf-8") == file_sha256(segment)
    except (OSError, ValueError):
        return False


def _sum(segment: Path) -> Path:
    """The file of a segment's hash."""
    return segment.with_suffix(".sha256")


def _state(segment: Path, after: int) -> Path:
    """The file of the state at the end of a segment, or of one after it."""
    return segment.with_name(f"{int(segment.stem) + after:06}.state")


_KEPT: dict[BaseUpscaler, _Place] = {}


def forget(upscaler: BaseUpscaler) -> None:
    """Close the clip of which a run drew a part, and that nobody goes on with."""
    if (place := _KEPT.pop(upscaler, None)) is not None:
        place.frames.close()
