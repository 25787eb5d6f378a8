from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srflow_apps.batch.jobs import Job, Settings
from srflow_apps.batch.results import FolderFile
from srflow_sdk.errors import (
    ArgumentError,
    ImageError,
    MissingExtraError,
    OutOfMemoryError,
    SRFlowError,
)
from srflow_sdk.files import ImageWriter, write_image
from srflow_sdk.upscaler import Upscaler
from tests.sdk.tiny_bundle import hidden_files

from .conftest import run, run_jobs, statuses


class Failing:
    """An upscaler, and its engine, whose first file fails with the error given."""

    def __init__(self, upscaler: Upscaler, error: BaseException) -> None:
        self._upscaler = upscaler
        self.engine = self
        self.bundle = upscaler.bundle
        self.bundles = upscaler.engine.bundles
        self.device = upscaler.device
        self.precision = upscaler.precision
        self._error: BaseException | None = error

    def upscale_file(self, *arguments: Any, **keywords: Any) -> Any:
        error = self._error
        self._error = None
        if error is not None:
            raise error
        return self._upscaler.engine.upscale_file(*arguments, **keywords)


class Recorder:
    """A watcher that remembers, and looks whether finished files are there."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def show_progress(self, number: int, done: int, total: int) -> None:
        self.events.append((number, done, total))

    def show_result(self, number: int, result: FolderFile) -> None:
        assert all(target.exists() for target in result.targets)
        self.events.append((number, result.status))


def test_a_file_is_drawn_while_the_one_before_it_is_finished(
    jobs: list[Job], upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    second_is_drawn = threading.Event()

    class Tiles(Recorder):
        def show_progress(self, number: int, done: int, total: int) -> None:
            super().show_progress(number, done, total)
            if number == 2:
                second_is_drawn.set()

    class SlowWriter(ImageWriter):
        def __exit__(self, *error: Any) -> None:
            if self._target == jobs[0].targets[0]:
                assert second_is_drawn.wait(60), "the second file waits for the first one's encoder"
            super().__exit__(*error)

    monkeypatch.setattr("srflow_sdk.drawing.file_upscaling.ImageWriter", SlowWriter)
    summary = run_jobs(jobs[:2], upscaler, settings=Settings(), watcher=Tiles())
    assert statuses(summary) == ["done", "done"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            ImageError("out/a.png cannot be written:\nNo space left on device"),
            "No space left on device",
        ),
        (OutOfMemoryError("the GPU's memory is full"), "the GPU's memory is full"),
        (MemoryError(), "out of memory; ask for smaller tiles"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
    ],
)
def test_what_one_file_cannot_does_not_stop_the_others(
    jobs: list[Job], upscaler: Upscaler, error: Exception, says: str
) -> None:
    summary = run(jobs, Failing(upscaler, error))
    assert statuses(summary) == ["failed", "done", "done"]
    line = summary.files[0].error
    assert line is not None
    assert str(jobs[0].source) in line
    assert says in line
    assert "\n" not in line


def _from_system(error: ImageError, number: int) -> ImageError:
    error.__cause__ = OSError(number, "as the system says")
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ImageError("out/a.png cannot be written: the disk is full, or a limit is reached"),
        _from_system(ImageError("out/a.png cannot be written"), errno.ENOSPC),
    ],
)
def test_a_full_disk_ends_the_batch(jobs: list[Job], upscaler: Upscaler, error: Exception) -> None:
    summary = run(jobs * 4, Failing(upscaler, error))
    assert (summary.disk_full, summary.interrupted, summary.total) == (True, False, 12)
    assert statuses(summary)[0] == "failed"
    assert len(summary.files) <= 2, "the one that was being drawn may end"


@pytest.mark.parametrize(
    "error", [ArgumentError("tau is 9"), MissingExtraError("libvips cannot be loaded")]
)
def test_what_concerns_every_file_stops_at_once(
    jobs: list[Job], upscaler: Upscaler, error: SRFlowError
) -> None:
    with pytest.raises(type(error)):
        run(jobs, Failing(upscaler, error))


def test_a_broken_file_leaves_nothing(jobs: list[Job], upscaler: Upscaler) -> None:
    jobs[1].source.write_bytes(jobs[1].source.read_bytes()[:-200])
    assert statuses(run(jobs, upscaler)) == ["done", "failed", "done"]
    assert sorted(path.name for path in jobs[0].targets[0].parent.iterdir()) == ["a.png", "c.png"]


@pytest.mark.parametrize("resume", [False, True])
def test_what_a_kill_left_is_removed(jobs: list[Job], upscaler: Upscaler, resume: bool) -> None:
    out = jobs[0].targets[0].parent
    (out / ".a.png.0123abcd.part").touch()
    (out / ".other.png.0123abcd.part").touch()
    run(jobs[:1], upscaler, resume=resume)
    assert hidden_files(out) == [".other.png.0123abcd.part"]


# ---- interrupts


def test_an_interrupt_ends_the_batch_after_the_current_tile(
    jobs: list[Job], tiny_bundle: Path, photo: np.ndarray
) -> None:
    write_image(jobs[1].source, photo)

    class Tiles(Recorder):
        def pressed(self) -> None:
            if any(event[0] == 2 for event in self.events):
                raise KeyboardInterrupt

    watcher = Tiles()
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=16) as tiled:
        summary = run_jobs(jobs, tiled, settings=Settings(), watcher=watcher, check=watcher.pressed)
    assert summary.interrupted
    assert (statuses(summary), summary.total, summary.remaining) == (["done"], 3, 2)
    assert [path.name for path in jobs[0].targets[0].parent.iterdir()] == ["a.png"]


def test_an_interrupt_in_the_last_tile_lets_the_files_be_finished(
    jobs: list[Job], upscaler: Upscaler
) -> None:
    class Pressed(Recorder):
        def check(self) -> None:
            if (1, 1, 1) in self.events:
                raise KeyboardInterrupt

    watcher = Pressed()
    summary = run_jobs(jobs, upscaler, settings=Settings(), watcher=watcher, check=watcher.check)
    assert summary.interrupted
    assert statuses(summary)[0] == "done"
    assert [job.targets[0].exists() for job in jobs] == [
        number < len(summary.files) for number in range(3)
    ]
