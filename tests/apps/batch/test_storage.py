"""Batches whose files are elsewhere: everything that is read and written goes through the storage."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from srflow_apps.batch.jobs import FolderResult, Job
from srflow_apps.batch.running import run_jobs
from srflow_apps.batch.storage import LocalStorage
from srflow_sdk.errors import ImageError
from srflow_sdk.files import read_provenance
from srflow_sdk.upscaler import Upscaler

from .conftest import job, settings_with


class Elsewhere:
    """A folder that stands for a server: jobs name files in it that this machine cannot open by these names."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, path: Path) -> Path:
        return self.root / path.relative_to("/elsewhere")

    @contextlib.contextmanager
    def reading(self, path: Path) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(shutil.copy(self.place(path), folder))

    @contextlib.contextmanager
    def writing(self, targets: Sequence[Path]) -> Iterator[Sequence[Path]]:
        with tempfile.TemporaryDirectory() as folder:
            here = [Path(folder) / target.name for target in targets]
            yield here
            for written, target in zip(here, targets, strict=True):
                shutil.move(written, self.place(target))

    def exists(self, target: Path) -> bool:
        return self.place(target).exists()

    def make_folders(self, folders: Iterable[Path]) -> None:
        for folder in folders:
            self.place(folder).mkdir(parents=True, exist_ok=True)

    def remove_leftovers(self, targets: Iterable[Path]) -> None:
        pass


def test_a_batch_reads_resumes_and_writes_through_its_storage(
    jobs: list[Job], upscaler: Upscaler, tmp_path: Path
) -> None:
    storage = Elsewhere(tmp_path)
    storage.make_folders([Path("/elsewhere/out")])
    away = [job(Path("/elsewhere") / one.source.name, Path("/elsewhere/out") / one.source.name) for one in jobs]
    jobs[1].source.write_bytes(b"not a picture")

    def run() -> FolderResult:
        return run_jobs(away, upscaler, settings=settings_with(resume=True, report=True), storage=storage)

    first = run()
    assert [file.status for file in first.files] == ["done", "failed", "done"]
    assert first.files[0].outputs[0].path == Path("/elsewhere/out/a.png")
    assert first.files[1].error == "/elsewhere/b.png: this is not an image file in a supported format"
    provenance = read_provenance(tmp_path / "out" / "a.png")
    assert provenance is not None
    assert provenance.source == "a.png"
    assert [file.status for file in run().files] == ["skipped", "failed", "skipped"]


def test_folders_that_cannot_be_made_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match=r"the directory .*file/new cannot be created: Not a directory"):
        LocalStorage().make_folders([tmp_path / "file" / "new"])
