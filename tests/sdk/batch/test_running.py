from __future__ import annotations

import dataclasses
import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srflow_sdk._batch.planning import Job
from srflow_sdk._batch.running import JobResult, Settings, Summary, run_jobs
from srflow_sdk._files import ImageWriter, read_image, read_provenance, write_image
from srflow_sdk.errors import ArgumentError, ImageError, MissingExtraError, OutOfMemoryError, SRFlowError
from srflow_sdk.upscaler import Upscaler

from ..tiny_bundle import hidden_files, write_tiny_bundle
from .conftest import job, settings_with


def statuses(summary: Summary) -> list[str]:
    return [result.status for result in summary.results]


def run(jobs: list[Job], upscaler: Any, **settings: Any) -> Summary:
    return run_jobs(jobs, upscaler, settings=settings_with(**settings))


class Failing:
    """An upscaler whose first file fails with the error given."""

    def __init__(self, upscaler: Upscaler, error: BaseException) -> None:
        self._upscaler = upscaler
        self._error: BaseException | None = error

    def upscale_file(self, *arguments: Any, **keywords: Any) -> Any:
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._upscaler.upscale_file(*arguments, **keywords)


class Recorder:
    """A watcher that remembers, and looks whether finished files are there."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def progressed(self, number: int, done: int, total: int) -> None:
        self.events.append((number, done, total))

    def finished(self, number: int, result: JobResult) -> None:
        assert all(target.exists() for target in result.job.targets)
        self.events.append((number, result.status))


def test_every_job_gets_what_the_upscaler_makes_of_it(jobs: list[Job], upscaler: Upscaler) -> None:
    summary = run(jobs, upscaler, tau=0.5, seed=3, sample=2)
    assert str(summary) == "3 done, 0 skipped, 0 failed"
    for one in jobs:
        picture = upscaler.upscale(read_image(one.source).pixels, tau=0.5, seed=3, sample=2)
        assert np.array_equal(read_image(one.targets[0]).pixels, picture)


def test_the_watcher_hears_of_jobs_and_tiles(jobs: list[Job], upscaler: Upscaler) -> None:
    watcher = Recorder()
    run_jobs(jobs[:2], upscaler, settings=Settings(), watcher=watcher)
    assert [event for event in watcher.events if event[0] == 1] == [(1, 1, 1), (1, "done")]
    assert [event for event in watcher.events if event[0] == 2] == [(2, 1, 1), (2, "done")]


def test_a_file_is_drawn_while_the_one_before_it_is_finished(
    jobs: list[Job], upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    second_is_drawn = threading.Event()

    class Tiles(Recorder):
        def progressed(self, number: int, done: int, total: int) -> None:
            super().progressed(number, done, total)
            if number == 2:
                second_is_drawn.set()

    class SlowWriter(ImageWriter):
        def __exit__(self, *error: Any) -> None:
            if self._target == jobs[0].targets[0]:
                assert second_is_drawn.wait(60), "the second file waits for the first one's encoder"
            super().__exit__(*error)

    monkeypatch.setattr("srflow_sdk._drawing.file_upscaling.ImageWriter", SlowWriter)
    summary = run_jobs(jobs[:2], upscaler, settings=Settings(), watcher=Tiles())
    assert statuses(summary) == ["done", "done"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ImageError("out/a.png cannot be written:\nNo space left on device"), "No space left on device"),
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
    line = summary.results[0].error
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
    assert (summary.disk_full, summary.interrupted, summary.jobs) == (True, False, 12)
    assert statuses(summary)[0] == "failed"
    assert len(summary.results) <= 2, "the one that was being drawn may end"


def test_too_many_open_files_say_what_helps(jobs: list[Job], upscaler: Upscaler) -> None:
    summary = run(jobs, Failing(upscaler, OSError(errno.EMFILE, "Too many open files")))
    assert str(summary.results[0].error).endswith("Too many open files; ask for fewer samples at a time")
    assert not summary.disk_full


@pytest.mark.parametrize("error", [ArgumentError("tau is 9"), MissingExtraError("libvips cannot be loaded")])
def test_what_concerns_every_file_stops_at_once(jobs: list[Job], upscaler: Upscaler, error: SRFlowError) -> None:
    with pytest.raises(type(error)):
        run(jobs, Failing(upscaler, error))


def test_a_broken_file_leaves_nothing(jobs: list[Job], upscaler: Upscaler) -> None:
    jobs[1].source.write_bytes(jobs[1].source.read_bytes()[:-200])
    assert statuses(run(jobs, upscaler)) == ["done", "failed", "done"]
    assert sorted(path.name for path in jobs[0].targets[0].parent.iterdir()) == ["a.png", "c.png"]


# ---- resume


def test_resume_leaves_alone_what_is_done(jobs: list[Job], upscaler: Upscaler) -> None:
    run(jobs[:2], upscaler, seed=4)
    before = [one.targets[0].stat().st_mtime_ns for one in jobs[:2]]
    assert statuses(run(jobs, upscaler, seed=4, resume=True)) == ["skipped", "skipped", "done"]
    assert [one.targets[0].stat().st_mtime_ns for one in jobs[:2]] == before


def test_without_resume_everything_is_made_again(jobs: list[Job], upscaler: Upscaler) -> None:
    run(jobs, upscaler)
    assert statuses(run(jobs, upscaler)) == ["done"] * 3


@pytest.mark.parametrize("change", [{"tau": 0.5}, {"seed": 1}, {"sample": 1}, {"consistent": True}])
def test_resume_makes_again_what_has_other_settings(
    jobs: list[Job], upscaler: Upscaler, change: dict[str, Any]
) -> None:
    run(jobs[:1], upscaler)
    assert statuses(run(jobs[:1], upscaler, **change, resume=True)) == ["done"]
    assert statuses(run(jobs[:1], upscaler, **change, resume=True)) == ["skipped"]


def test_resume_knows_the_models_own_tau(jobs: list[Job], upscaler: Upscaler) -> None:
    run(jobs[:1], upscaler)
    assert statuses(run(jobs[:1], upscaler, tau=0.8, resume=True)) == ["skipped"]


def test_resume_makes_again_what_another_model_made(jobs: list[Job], upscaler: Upscaler, tmp_path: Path) -> None:
    run(jobs[:1], upscaler)
    with Upscaler(write_tiny_bundle(tmp_path / "other.srflow", gain=0.5), device="cpu", threads=1) as other:
        assert statuses(run(jobs[:1], other, resume=True)) == ["done"]


def test_resume_makes_again_what_has_another_source_now(jobs: list[Job], upscaler: Upscaler, photo: np.ndarray) -> None:
    run(jobs[:1], upscaler)
    write_image(jobs[0].source, photo[::-1][:12, :16])
    assert statuses(run(jobs[:1], upscaler, resume=True)) == ["done"]


def _without_provenance(target: Path) -> None:
    write_image(target, read_image(target).pixels)


def _truncated(target: Path) -> None:
    target.write_bytes(b"\x89PNG")


def _cut_short(target: Path) -> None:
    """So that its header is there: a copy that was interrupted."""
    target.write_bytes(target.read_bytes()[:-20])
    assert read_provenance(target) is not None


@pytest.mark.parametrize("spoil", [_without_provenance, _truncated, _cut_short, Path.unlink])
def test_resume_is_not_fooled_by_mere_existence(
    jobs: list[Job], upscaler: Upscaler, spoil: Callable[[Path], None]
) -> None:
    run(jobs[:1], upscaler)
    spoil(jobs[0].targets[0])
    assert statuses(run(jobs[:1], upscaler, resume=True)) == ["done"]
    assert read_provenance(jobs[0].targets[0]) is not None


def test_resume_wants_every_sample(jobs: list[Job], upscaler: Upscaler) -> None:
    out = jobs[0].targets[0].parent
    one = job(jobs[0].source, out / "s0.png", out / "s1.png")
    run([one], upscaler)
    assert statuses(run([one], upscaler, resume=True)) == ["skipped"]
    assert statuses(run([job(one.source, *reversed(one.targets))], upscaler, resume=True)) == ["done"]
    one.targets[1].unlink()
    assert statuses(run([one], upscaler, resume=True)) == ["done"]


def test_neither_the_tiles_nor_the_version_of_the_sdk_count_for_resume(
    jobs: list[Job], upscaler: Upscaler, tiny_bundle: Path
) -> None:
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=16) as tiled:
        run(jobs[:1], tiled)
    target = jobs[0].targets[0]
    provenance = read_provenance(target)
    assert provenance is not None
    write_image(target, read_image(target).pixels, provenance=dataclasses.replace(provenance, sdk_version="0.0.1"))
    assert statuses(run(jobs[:1], upscaler, resume=True)) == ["skipped"]


def test_resume_of_a_source_that_is_gone_fails(jobs: list[Job], upscaler: Upscaler) -> None:
    run(jobs, upscaler)
    jobs[0].source.unlink()
    assert statuses(run(jobs, upscaler, resume=True)) == ["failed", "skipped", "skipped"]


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
    assert (statuses(summary), summary.jobs, summary.remaining) == (["done"], 3, 2)
    assert [path.name for path in jobs[0].targets[0].parent.iterdir()] == ["a.png"]


def test_an_interrupt_in_the_last_tile_lets_the_files_be_finished(jobs: list[Job], upscaler: Upscaler) -> None:
    class Pressed(Recorder):
        def check(self) -> None:
            if (1, 1, 1) in self.events:
                raise KeyboardInterrupt

    watcher = Pressed()
    summary = run_jobs(jobs, upscaler, settings=Settings(), watcher=watcher, check=watcher.check)
    assert summary.interrupted
    assert statuses(summary)[0] == "done"
    assert [job.targets[0].exists() for job in jobs] == [number < len(summary.results) for number in range(3)]
