from __future__ import annotations

import dataclasses
import errno
import json
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from srflow_apps.batch.jobs import FolderFile, FolderResult, Settings
from srflow_apps.batch.operations import Job
from srflow_apps.batch.report import batch_report, read_report, write_report
from srflow_apps.batch.run import Watcher, run_jobs
from srflow_sdk.errors import ImageError
from srflow_sdk.system.local_files import file_sha256
from srflow_sdk.upscaler import Upscaler
from tests.sdk.tiny_bundle import hidden_files

from .conftest import only, settings_with


def run(jobs: list[Job], upscaler: Upscaler, **settings: Any) -> FolderResult:
    return run_jobs(jobs, only(upscaler), settings=settings_with(**settings))


def test_the_report_says_what_became_of_every_file(jobs: list[Job], upscaler: Upscaler, tmp_path: Path) -> None:
    run(jobs[:1], upscaler)
    jobs[1].source.write_bytes(b"not a picture")
    settings = settings_with(resume=True, report=True, seed=0)
    summary = run_jobs(jobs, only(upscaler), settings=settings)
    path = tmp_path / "report.json"
    path.write_text("old")
    manifest = upscaler.bundle.manifest
    write_report(path, batch_report(summary, models=[manifest], settings=settings, tile="auto"))
    report = json.loads(path.read_text())
    assert report["schema"] == 1
    assert report["model"] == {"name": "tiny", "sha256": manifest.digest, "scale": 4}
    assert report["settings"]["tau"] == 0.8
    assert report["summary"] == {"inputs": 3, "done": 1, "skipped": 1, "failed": 1, "interrupted": False}
    skipped, failed, done = report["files"]
    assert (skipped["status"], skipped["outputs"]) == (
        "skipped",
        [{"path": str(jobs[0].targets[0]), "sample": 0, "lr_psnr": None, "bytes": None, "sha256": None}],
    )
    assert (failed["status"], failed["source"], failed["outputs"]) == ("failed", str(jobs[1].source), [])
    assert str(jobs[1].source) in failed["error"]
    assert (done["status"], done["error"], done["size"]) == ("done", None, [16, 14])
    assert done["seconds"] > 0
    assert 0 < done["outputs"][0]["lr_psnr"] < 200
    assert done["outputs"][0]["bytes"] == jobs[2].targets[0].stat().st_size
    assert done["outputs"][0]["sha256"] == file_sha256(jobs[2].targets[0])
    assert not hidden_files(tmp_path)


def test_the_password_of_a_misspelt_url_stands_in_no_report(upscaler: Upscaler, tmp_path: Path) -> None:
    place = Path("https:/somebody:s3cr3t@host/a.png")  # as pathlib has it
    jobs = [Job(source=place, targets=(tmp_path / "a.png",), name=PurePosixPath("a.png"))]
    report = batch_report(run(jobs, upscaler), models=[upscaler.bundle.manifest], settings=settings_with(), tile="auto")
    write_report(tmp_path / "report.json", report)
    assert "s3cr3t" not in (tmp_path / "report.json").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["files"][0]["source"] == "https:/host/a.png"


@pytest.mark.parametrize(
    ("measured", "reported"), [(float("inf"), 200), (float("nan"), None), (None, None), (41.5, 41.5)]
)
def test_the_report_is_strict_json(
    jobs: list[Job], upscaler: Upscaler, measured: float | None, reported: float | None
) -> None:
    result = run(jobs[:1], upscaler).files[0]
    output = dataclasses.replace(result.outputs[0], lr_psnr=measured)
    result = dataclasses.replace(result, outputs=(output,))
    summary = FolderResult(files=(result,), total=1)
    manifest = upscaler.bundle.manifest
    report = batch_report(summary, models=[manifest], settings=Settings(), tile="auto")
    json.dumps(report, allow_nan=False)
    assert report["files"][0]["outputs"][0]["lr_psnr"] == reported


def test_a_report_that_cannot_be_written_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ImageError, match=r"report .*r\.json cannot be written: No space left"):
        write_report(tmp_path / "r.json", {})
    assert not list(tmp_path.iterdir())


def test_what_was_measured_of_skipped_files_is_kept(jobs: list[Job], upscaler: Upscaler, tmp_path: Path) -> None:
    path = tmp_path / "report.json"

    def reported(**chosen: Any) -> list[dict[str, Any]]:
        settings = settings_with(resume=True, report=True, **chosen)
        summary = run_jobs(jobs, only(upscaler), settings=settings)
        ran: dict[str, Any] = {"tile": "auto", "earlier": read_report(path)}
        report = batch_report(summary, models=[upscaler.bundle.manifest], settings=settings, **ran)
        write_report(path, report)
        files: list[dict[str, Any]] = report["files"]
        return files

    first = reported()
    for _ in range(2):
        assert reported() == [{**file, "status": "skipped"} for file in first]
    assert first[0]["outputs"][0]["lr_psnr"] > 0

    run(jobs, upscaler, seed=1)  # other pictures, of which the report says nothing
    assert [file["outputs"][0]["lr_psnr"] for file in reported(seed=1)] == [None] * 3


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 99}', '{"schema": 1}', '{"schema": 1, "files": [NaN]}', "[" * 100_000]
)
def test_a_report_that_is_none_is_not_carried_over(
    jobs: list[Job], upscaler: Upscaler, tmp_path: Path, text: str
) -> None:
    run(jobs[:1], upscaler)
    path = tmp_path / "report.json"
    path.write_text(text)
    settings = settings_with(resume=True)
    ran: dict[str, Any] = {"tile": "auto", "earlier": read_report(path)}
    summary = run_jobs(jobs[:1], only(upscaler), settings=settings)
    report = batch_report(summary, models=[upscaler.bundle.manifest], settings=settings, **ran)
    assert report["files"][0]["outputs"][0]["lr_psnr"] is None


def test_an_interrupted_resume_keeps_what_the_older_report_says_of_the_rest(
    jobs: list[Job], upscaler: Upscaler
) -> None:
    def reported(earlier: dict[str, Any] | None, *, stop_after: int = 3) -> dict[str, Any]:
        ended: list[int] = []

        class Stopping(Watcher):
            def finished(self, number: int, result: FolderFile) -> None:
                ended.append(number)

        def check() -> None:
            if len(ended) >= stop_after:
                raise KeyboardInterrupt

        settings = settings_with(resume=True, report=True)
        summary = run_jobs(jobs, only(upscaler), settings=settings, watcher=Stopping(), check=check)
        ran: dict[str, Any] = {"tile": "auto", "earlier": earlier}
        return batch_report(summary, models=[upscaler.bundle.manifest], settings=settings, **ran)

    whole = reported(None)
    cut = reported(whole, stop_after=1)
    assert len(cut["files"]) < 3
    cut_again = reported(cut, stop_after=1)
    resumed = reported(cut_again)
    assert [file["outputs"] for file in resumed["files"]] == [file["outputs"] for file in whole["files"]]
    assert "earlier" not in resumed


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_report_with_what_is_not_json_is_not_read(tmp_path: Path, constant: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(f'{{"schema": 1, "files": [], "earlier": [{constant}]}}')
    assert read_report(path) is None
