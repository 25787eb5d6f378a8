"""Says how a batch would run, and how long it would take here, without running it: `--dry-run`."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_apps.batch.batch import Plan
from srflow_apps.batch.jobs import FolderFile, Settings
from srflow_apps.batch.one_file import attempted, is_left_alone
from srflow_apps.batch.opened_models import Models
from srflow_apps.batch.operations import Job
from srflow_apps.batch.storage import exists, reading
from srflow_sdk.base_upscaler import BaseUpscaler
from srflow_sdk.drawing.tiles import padded_size
from srflow_sdk.errors import ImageError
from srflow_sdk.files import check_writable, count_pixels, open_image, write_image
from srflow_sdk.system.url_paths import UrlPath

_ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Preview:
    """An input that would be drawn. size, made: its and its outputs' width and height. upscaler: what would draw it."""

    job: Job
    size: tuple[int, int]
    made: tuple[int, int]
    upscaler: BaseUpscaler


def preview(plan: Plan, models: Models, *, check: Callable[[], None] = lambda: None) -> Iterator[str]:
    """Lines that say what a run of the plan would do; the last one says how long it would take and what it needs.

    Headers are read, whole inputs to choose between models, and with `resume` outputs as a run would read them. If
    there is anything to do, a piece of each model's first input is drawn to see how fast this machine is. Nothing is
    written, except to the temporary folder.
    check: called between files; may raise.
    """
    seen: list[Preview | FolderFile] = []
    for job in plan.jobs:
        check()
        seen.append(_looked_at(job, plan, models))
        yield _line(seen[-1])
    yield _summary(plan, seen)


def fails(line: str) -> bool:
    """True if a line of :func:`preview` is about an input that would fail."""
    return line.startswith("error: ")


def _looked_at(job: Job, plan: Plan, models: Models) -> Preview | FolderFile:
    """The input as it would be drawn, or its result if it would not be."""

    def look() -> Preview | FolderFile:
        settings = plan.settings
        if is_left_alone(job, models, settings=settings, cancel=threading.Event()):
            return FolderFile(source=job.source, targets=job.targets, status="skipped")
        with (
            reading(job.source) as source,
            open_image(source, max_pixels=settings.max_pixels) as reader,
        ):
            size = reader.width, reader.height
            upscaler, _ = models.drawing(job.source, source)
            made = settings.operation.output_size(size, upscaler.bundle.manifest)
            for target in job.targets:
                check_writable(target, channels=reader.channels, size=made)
        return Preview(job=job, size=size, made=made, upscaler=upscaler)

    return attempted(job, look)


def _line(seen: Preview | FolderFile) -> str:
    if isinstance(seen, FolderFile):
        return f"error: {seen.error}" if seen.status == "failed" else f"{seen.source}: would be skipped"
    targets = ", ".join(map(str, seen.job.targets))
    replaced = ", replacing what is there" if any(map(exists, seen.job.targets)) else ""
    return f"{seen.job.source} ({_by(seen.size)}) -> {targets} ({_by(seen.made)}){replaced}"


def _summary(plan: Plan, seen: list[Preview | FolderFile]) -> str:
    todo = [one for one in seen if isinstance(one, Preview)]
    statuses = [one.status for one in seen if isinstance(one, FolderFile)]
    counted = {"to skip": statuses.count("skipped"), "would fail": statuses.count("failed") + len(plan.refused)}
    others = "".join(f", {count} {what}" for what, count in counted.items() if count)
    operation = plan.settings.operation
    pixels = sum(one.size[0] * one.size[1] for one in todo)
    text = f"dry run, nothing was written: {how_much(len(todo), pixels)} to {operation.name}{others}"
    seconds, room = 0.0, 0.0
    for upscaler in {one.upscaler.bundle.manifest.name: one.upscaler for one in todo}.values():
        its = [one for one in todo if one.upscaler.bundle is upscaler.bundle]
        speed = _speed(plan, its, upscaler)
        if speed is None:
            return text
        for one in its:
            outputs = len(one.job.targets)
            samples = operation.drawn(outputs)
            width, height = operation.network_size(one.size, upscaler.bundle.manifest)
            seconds += seconds_for(upscaler, speed, width=width, height=height, samples=samples)
            room += outputs * one.made[0] * one.made[1] * speed.bytes_per_pixel
    if not todo:
        return text
    if isinstance(target := todo[0].job.targets[0], UrlPath):
        return f"{text}; {about(seconds)}, about {_bytes(room)} at {target.parent}"
    nearest = next((place for place in target.parents if place.is_dir()), Path())
    free = shutil.disk_usage(nearest).free
    enough = "" if room < free else ", which is not enough"
    return f"{text}; {about(seconds)}, about {_bytes(room)} of disk ({_bytes(free)} free{enough})"


def _speed(plan: Plan, todo: list[Preview], upscaler: BaseUpscaler) -> Speed | None:
    """The speed, measured on the first input that is intact where it is read; None if there is none soon."""
    for job in (one.job for one in todo[:_ATTEMPTS]):
        with contextlib.suppress(ImageError), reading(job.source) as source:
            return measure_speed(upscaler, source, job.targets[0], settings=plan.settings)
    return None


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):.1f} MB"


UNKNOWN_PIXELS = 1_000_000
"""The pixels that an input with a URL counts for: its header is not fetched only to be counted."""

_SIDES = (32, 64)  # of the pictures that are drawn to measure: 0.1 s in all with x4-small on a CPU
_ENOUGH_S = 0.3  # a larger picture is not drawn if the smaller one took this long
_UNIT = 1 << 10  # a side that every scale divides well enough
_SEARCHED_PIXELS = 20_000_000  # of a larger input, the top is taken instead of the middle
_MEGA = 1e6


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The cost of drawing here, in seconds for a pixel of a tile's window, and how well outputs compress.

    encode: once for each input. sample: for each output. bytes_per_pixel: of an output file.
    """

    encode: float
    sample: float
    bytes_per_pixel: float


def measure_speed(upscaler: BaseUpscaler, source: Path, target: Path, *, settings: Settings) -> Speed:
    """Draw a piece of an input and write it to the temporary folder, in the format of `target`.

    Raises: ImageError if the input cannot be read; the errors of :meth:`Upscaler.encode` and of :func:`write_image`.
    """
    operation, manifest = settings.operation, upscaler.bundle.manifest
    multiple, enlarged = manifest.size_multiple, operation.network_size((_UNIT, _UNIT), manifest)[0]
    took, speed = 0.0, Speed(encode=0, sample=0, bytes_per_pixel=0)
    for side in _SIDES:
        if took > _ENOUGH_S:
            break
        piece = _piece(source, side * _UNIT // enlarged, max_pixels=settings.max_pixels)
        width, height = operation.network_size((piece.shape[1], piece.shape[0]), manifest)
        pixels = padded_size(height, multiple) * padded_size(width, multiple)
        answer, encoding, sampling = operation.timed(upscaler, piece)
        took = encoding + sampling
        with tempfile.TemporaryDirectory(prefix="srflow-") as folder:
            written = Path(folder) / target.name
            write_image(written, answer, quality=settings.quality, lossless=settings.lossless)
            size = written.stat().st_size
        speed = Speed(
            encode=encoding / pixels,
            sample=sampling / pixels,
            bytes_per_pixel=size / (answer.shape[0] * answer.shape[1]),
        )
    return speed


def seconds_for(upscaler: BaseUpscaler, speed: Speed, *, width: int, height: int, samples: int) -> float:
    """How long an LR image of this size will take: what its tiles' windows hold, with their halos."""
    painter = upscaler._painter
    multiple = upscaler.bundle.manifest.size_multiple
    size = padded_size(height, multiple), padded_size(width, multiple)
    windows = (tile.window for tile in painter.plan(*size, painter.core(*size)))
    return sum(window.height * window.width for window in windows) * (speed.encode + samples * speed.sample)


def weight(source: Path, *, max_pixels: int) -> int:
    """The pixels of an input, for progress; 0 if it cannot be used, :data:`UNKNOWN_PIXELS` for a URL."""
    return UNKNOWN_PIXELS if isinstance(source, UrlPath) else count_pixels(source, max_pixels=max_pixels)


def about(seconds: float) -> str:
    """A time in words: "about 12 minutes"."""
    if seconds < 90:
        return f"about {max(round(seconds), 1)} second{'s' * (round(seconds) > 1)}"
    if seconds < 5400:
        return f"about {round(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours" if seconds < 36_000 else f"about {round(seconds / 3600)} hours"


def how_much(files: int, pixels: int) -> str:
    """The inputs in words: "44 files, 310 megapixels"."""
    mega = pixels / _MEGA
    size = f"{mega:.2g}" if mega < 10 else f"{mega:.0f}"
    return f"{files} file{'s' * (files != 1)}, {size} megapixels"


def _piece(source: Path, side: int, *, max_pixels: int) -> NDArray[Any]:
    """A square from the middle of an input, as far as that has one."""
    with open_image(source, max_pixels=max_pixels) as reader:
        height, width = min(side, reader.height), min(side, reader.width)
        if reader.height * reader.width <= _SEARCHED_PIXELS:
            for start in range(0, (reader.height - height) // 2, side):
                reader.read_rows(min(side, (reader.height - height) // 2 - start))
        left = (reader.width - width) // 2
        return np.ascontiguousarray(reader.read_rows(height)[:, left : left + width])
