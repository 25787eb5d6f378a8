"""--resume leaves alone only outputs that are there, intact, and made as they would be made now."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srflow_apps.batch.jobs import Job, do_job
from srflow_sdk.errors import CancelledError
from srflow_sdk.files import read_image, read_provenance, write_image
from srflow_sdk.upscaler import Upscaler
from tests.sdk.tiny_bundle import write_tiny_bundle

from .conftest import job, only, run, settings_with, statuses


def test_resume_leaves_alone_what_is_done(jobs: list[Job], upscaler: Upscaler) -> None:
    run(jobs[:2], upscaler, seed=4)
    before = [one.targets[0].stat().st_mtime_ns for one in jobs[:2]]
    assert statuses(run(jobs, upscaler, seed=4, resume=True)) == ["skipped", "skipped", "done"]
    assert [one.targets[0].stat().st_mtime_ns for one in jobs[:2]] == before
    assert statuses(run(jobs[:1], upscaler, seed=4, tau=0.8, resume=True)) == ["skipped"], (
        "the model's own"
    )
    assert statuses(run(jobs, upscaler, seed=4)) == ["done"] * 3


def test_resume_makes_again_what_has_another_model_or_source_now(
    jobs: list[Job], upscaler: Upscaler, photo: np.ndarray, tmp_path: Path
) -> None:
    run(jobs[:1], upscaler)
    with Upscaler(
        write_tiny_bundle(tmp_path / "other.srflow", gain=0.5), device="cpu", threads=1
    ) as other:
        assert statuses(run(jobs[:1], other, resume=True)) == ["done"]
    run(jobs[:1], upscaler)
    write_image(jobs[0].source, photo[::-1][:12, :16])
    assert statuses(run(jobs[:1], upscaler, resume=True)) == ["done"]


@pytest.mark.parametrize(
    "change",
    [{"tau": 0.5}, {"seed": 1}, {"sample": 1}, {"consistent": True}, {"scale": 2}],
)
def test_resume_makes_again_what_has_other_settings(
    jobs: list[Job], upscaler: Upscaler, change: dict[str, Any]
) -> None:
    run(jobs[:1], upscaler)
    assert statuses(run(jobs[:1], upscaler, **change, resume=True)) == ["done"]
    assert statuses(run(jobs[:1], upscaler, **change, resume=True)) == ["skipped"]


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
    assert statuses(run([job(one.source, *reversed(one.targets))], upscaler, resume=True)) == [
        "done"
    ]
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
    write_image(
        target,
        read_image(target).pixels,
        provenance=dataclasses.replace(provenance, sdk_version="0.0.1"),
    )
    assert statuses(run(jobs[:1], upscaler, resume=True)) == ["skipped"]


def test_resume_of_a_source_that_is_gone_fails(jobs: list[Job], upscaler: Upscaler) -> None:
    run(jobs, upscaler)
    jobs[0].source.unlink()
    assert statuses(run(jobs, upscaler, resume=True)) == ["failed", "skipped", "skipped"]


def test_looking_at_outputs_can_be_cancelled(jobs: list[Job], upscaler: Upscaler) -> None:
    run(jobs[:1], upscaler)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        do_job(jobs[0], only(upscaler), settings=settings_with(resume=True), cancel=cancel)
