"""Says how a batch would run, without running it: `--dry-run`."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from srflow_apps.batch.batch import Plan
from srflow_apps.batch.estimating import Speed, about, how_much, measure_speed, seconds_for
from srflow_apps.batch.jobs import FolderFile, Job
from srflow_apps.batch.models import Models
from srflow_apps.batch.one_file import attempted, is_left_alone
from srflow_apps.batch.storage import exists, reading
from srflow_sdk.base_upscaler import BaseUpscaler
from srflow_sdk.errors import ImageError
from srflow_sdk.files import check_writable, open_image
from srflow_sdk.system.url_paths import UrlPath

_ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A look at an input. size, made: its and its outputs' width and height, if there would be any.

    upscaler: what would draw it.
    """

    job: Job
    result: FolderFile | None = None
    size: tuple[int, int] = (0, 0)
    made: tuple[int, int] = (0, 0)
    upscaler: BaseUpscaler | None = None


def preview(plan: Plan, models: Models, *, check: Callable[[], None] = lambda: None) -> Iterator[str]:
    """Lines that say what a run of the plan would do; the last one says how long it would take and what it needs.

    Headers are read, whole inputs to choose between models, and with `resume` outputs as a run would read them. If
    there is anything to do, a piece of each model's first input is drawn to see how fast this machine is. Nothing is
    written, except to the temporary folder.
    check: called between files; may raise.
    """
    seen: list[Preview] = []
    for job in plan.jobs:
        check()
        seen.append(_looked_at(job, plan, models))
        yield _line(seen[-1])
    yield _summary(plan, seen)


def fails(line: str) -> bool:
    """True if a line of :func:`preview` is about an input that would fail."""
    return line.startswith("error: ")


def _looked_at(job: Job, plan: Plan, models: Models) -> Preview:
    def look() -> Preview:
        settings = plan.settings
        if is_left_alone(job, models, settings=settings, cancel=threading.Event()):
            return Preview(job=job, result=FolderFile(source=job.source, targets=job.targets, status="skipped"))
        with (
            reading(job.source) as source,
            open_image(source, max_pixels=settings.max_pixels) as reader,
        ):
            size = reader.width, reader.height
            upscaler = models.drawing(job.source, source)
            made = settings.operation.output_size(size, upscaler.bundle.manifest)
            for target in job.targets:
                check_writable(target, channels=reader.channels, size=made)
        return Preview(job=job, size=size, made=made, upscaler=upscaler)

    found = attempted(job, look)
    return found if isinstance(found, Preview) else Preview(job=job, result=found)


def _line(seen: Preview) -> str:
    if seen.result is not None:
        if seen.result.status == "failed":
            return f"error: {seen.result.error}"
        return f"{seen.job.source}: would be skipped"
    targets = ", ".join(map(str, seen.job.targets))
    replaced = ", replacing what is there" if any(map(exists, seen.job.targets)) else ""
    return f"{seen.job.source} ({_by(seen.size)}) -> {targets} ({_by(seen.made)}){replaced}"


def _summary(plan: Plan, seen: list[Preview]) -> str:
    todo = [one for one in seen if one.result is None]
    statuses = [one.result.status for one in seen if one.result is not None]
    counted = {"to skip": statuses.count("skipped"), "would fail": statuses.count("failed") + len(plan.refused)}
    others = "".join(f", {count} {what}" for what, count in counted.items() if count)
    operation = plan.settings.operation
    pixels = sum(one.size[0] * one.size[1] for one in todo)
    text = f"dry run, nothing was written: {how_much(len(todo), pixels)} to {operation.name}{others}"
    seconds, room = 0.0, 0.0
    for upscaler in dict.fromkeys(one.upscaler for one in todo if one.upscaler is not None):
        its = [one for one in todo if one.upscaler is upscaler]
        speed = _speed(plan, its, upscaler)
        if speed is None:
            return text
        for one in its:
            samples = len(one.job.targets)
            width, height = operation.network_size(one.size, upscaler.bundle.manifest)
            seconds += seconds_for(upscaler, speed, width=width, height=height, samples=samples)
            room += samples * one.made[0] * one.made[1] * speed.bytes_per_pixel
    if not todo:
        return text
    if isinstance(target := todo[0].job.targets[0], UrlPath):
        return f"{text}; {about(seconds)}, about {_bytes(room)} at {target.parent}"
    free = shutil.disk_usage(_existing(target.parent)).free
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


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    for place in (folder, *folder.parents):
        if place.is_dir():
            return place
    return Path()


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):.1f} MB"
