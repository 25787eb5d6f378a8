from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srflow_apps.batch.jobs import Job, Settings
from srflow_apps.batch.models import Models
from srflow_apps.batch.operations import Upscaling
from srflow_apps.batch.plan import Plan
from srflow_apps.batch.results import FolderResult
from srflow_apps.batch.run import run_plan
from srflow_sdk.drawing.options import DrawOptions
from srflow_sdk.files import write_image
from srflow_sdk.upscaler import Upscaler

NAMES = ("a", "b", "c")


@pytest.fixture
def jobs(tmp_path: Path, photo: np.ndarray) -> list[Job]:
    """Three small photos, a, b and c."""
    out = tmp_path / "out"
    out.mkdir()
    for number, name in enumerate(NAMES):
        write_image(tmp_path / f"{name}.png", photo[: 12 + number, :16])
    return [job(tmp_path / f"{name}.png", out / f"{name}.png") for name in NAMES]


def job(source: Path, *targets: Path) -> Job:
    return Job(source=source, targets=targets, name=PurePosixPath(source.name))


def settings_with(*, resume: bool = False, report: bool = False, **draw: Any) -> Settings:
    return Settings(operation=Upscaling(options=DrawOptions(**draw)), resume=resume, report=report)


def only(upscaler: Upscaler) -> Models:
    """The models of a batch whose files are all drawn by this one."""
    return Models(bundles=[upscaler.bundle], upscaler=upscaler)


def plan_of(
    upscaler: Upscaler, settings: Settings, jobs: Sequence[Job] = (), **others: Any
) -> Plan:
    """A plan with these settings for files that are all drawn by this one."""
    return Plan(
        jobs=tuple(jobs), total=len(jobs), settings=settings, models=only(upscaler), **others
    )


def run_jobs(
    jobs: Sequence[Job], upscaler: Any, *, settings: Settings, watcher: Any = None, **others: Any
) -> FolderResult:
    """Run a plan of these jobs. watcher: follows it by methods."""
    if watcher is not None:
        others |= {"on_progress": watcher.show_progress, "on_result": watcher.show_result}
    return run_plan(plan_of(upscaler, settings, jobs), **others)


def run(jobs: Sequence[Job], upscaler: Any, **settings: Any) -> FolderResult:
    return run_jobs(jobs, upscaler, settings=settings_with(**settings))


def statuses(result: FolderResult) -> list[str]:
    return [file.status for file in result.files]


def tree(folder: Path, *names: str) -> Path:
    """Make empty files in a folder."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def write_photos(folder: Path, count: int, side: int) -> None:
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(90, 160, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
