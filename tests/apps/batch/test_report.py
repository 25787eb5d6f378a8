"""The report of a batch: its fields, and secrets that stand in none."""

from __future__ import annotations

import dataclasses
import errno
import json
from pathlib import Path
from typing import Any

import pytest

from srflow_apps.batch.jobs import Job, Settings
from srflow_apps.batch.report import batch_report, write_report
from srflow_apps.batch.results import FolderResult
from srflow_sdk import upscale_folder
from srflow_sdk.errors import ImageError
from srflow_sdk.system.local_files import file_sha256
from srflow_sdk.upscaler import Upscaler
from tests.sdk.tiny_bundle import hidden_files

from .conftest import job, plan_of, run_jobs, settings_with


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


def run(jobs: list[Job], upscaler: Upscaler, path: Path, **options: Any) -> dict[str, Any]:
    """The report of a run that resumes."""
    sources = [one.source for one in jobs]
    upscale_folder(
        sources, jobs[0].targets[0].parent, upscaler=upscaler, report=path, resume=True, **options
    )
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report


def test_the_report_says_what_became_of_every_file(
    jobs: list[Job], upscaler: Upscaler, path: Path
) -> None:
    run_jobs(jobs[:1], upscaler, settings=settings_with())
    jobs[1].source.write_bytes(b"not a picture")
    path.write_text("old", encoding="utf-8")
    report = run(jobs, upscaler, path)
    assert report["schema"] == 1
    assert report["model"] == {
        "name": "tiny",
        "sha256": upscaler.bundle.manifest.digest,
        "scale": 4,
    }
    assert report["settings"]["tau"] == 0.8
    assert report["summary"] == {
        "inputs": 3,
        "done": 1,
        "skipped": 1,
        "failed": 1,
        "interrupted": False,
    }
    skipped, failed, done = report["files"]
    unknown = {"lr_psnr": None, "bytes": None, "sha256": None}
    assert skipped["outputs"] == [{"path": str(jobs[0].targets[0]), "sample": 0, **unknown}]
    assert (failed["status"], failed["source"], failed["outputs"]) == (
        "failed",
        str(jobs[1].source),
        [],
    )
    assert str(jobs[1].source) in failed["error"]
    assert (done["status"], done["error"], done["size"]) == ("done", None, [16, 14])
    assert done["seconds"] > 0
    assert 0 < done["outputs"][0]["lr_psnr"] < 200
    assert done["outputs"][0]["bytes"] == jobs[2].targets[0].stat().st_size
    assert done["outputs"][0]["sha256"] == file_sha256(jobs[2].targets[0])
    assert not hidden_files(path.parent)


@pytest.mark.not_on_windows("a URL is no path there")
def test_the_password_of_a_misspelt_url_stands_in_no_report(upscaler: Upscaler, path: Path) -> None:
    place = Path("https:/somebody:s3cr3t@host/a.png")  # as pathlib has it
    result = run_jobs([job(place, path.with_name("a.png"))], upscaler, settings=settings_with())
    write_report(plan_of(upscaler, settings_with()), result, path)
    assert "s3cr3t" not in path.read_text(encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8"))["files"][0]["source"] == "https:/host/a.png"


@pytest.mark.parametrize(
    ("measured", "reported"),
    [(float("inf"), 200), (float("nan"), None), (None, None), (41.5, 41.5)],
)
def test_the_report_is_strict_json(
    jobs: list[Job], upscaler: Upscaler, measured: float | None, reported: float | None
) -> None:
    (file,) = run_jobs(jobs[:1], upscaler, settings=Settings()).files
    output = dataclasses.replace(file.outputs[0], lr_psnr=measured)
    result = FolderResult(files=(dataclasses.replace(file, outputs=(output,)),), total=1)
    report = batch_report(plan_of(upscaler, Settings()), result)
    json.dumps(report, allow_nan=False)
    assert report["files"][0]["outputs"][0]["lr_psnr"] == reported


def test_a_report_that_cannot_be_written_is_one_line_and_leaves_nothing(
    upscaler: Upscaler, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ImageError, match=r"report .*report\.json cannot be written: No space left"):
        write_report(plan_of(upscaler, Settings()), FolderResult(files=(), total=0), path)
    assert not path.exists()
    assert not hidden_files(path.parent)
