"""The embedded model that suits each picture: the default of srflow-upscale, and upscale_folder(upscaler="auto")."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from srflow_apps.batch import storage
from srflow_apps.batch.jobs import Job, Models, Settings, digest, do_one
from srflow_apps.batch.operations import Upscaling
from srflow_apps.batch.ray import DoJobs
from srflow_apps.batch.storage import UrlPath, as_path
from srflow_apps.commands import cli
from srflow_sdk import ArgumentError, Bundle, BundleError, Upscaler, upscale_folder
from srflow_sdk.drawing.options import DrawOptions
from srflow_sdk.files import read_image, read_provenance, write_image
from srflow_sdk.model.model_choice import bundles_of
from tests.sdk.clean_and_noisy import noisy, smooth

Run = Callable[..., Result]


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The names of a clean and of a noisy picture in the current directory."""
    monkeypatch.chdir(tmp_path)
    write_image("clean.png", smooth())
    write_image("noisy.png", noisy(10))
    return "clean.png", "noisy.png"


@pytest.fixture
def run_installed() -> Run:
    """srflow-upscale on one thread of the CPU."""
    return lambda *arguments: CliRunner().invoke(cli.upscale, [*arguments, "--device", "cpu", "--threads", "1"])


def test_the_command_lists_the_models(run_installed: Run, two_models: Path) -> None:
    first, second = run_installed("--models").stdout.splitlines()
    assert first.startswith("x4-small  ×4  tau 0.8  for clean photographs")
    assert second.startswith("x4-photo  ×4  tau 0.5  for photographs as they come")


def test_auto_gives_each_picture_the_model_that_suits_it(
    run_installed: Run, two_models: Path, mixed: tuple[str, str]
) -> None:
    result = run_installed(*mixed, "-o", "out", "--model", "auto", "--report", "report.json")
    assert (result.exit_code, result.stdout.split()) == (0, ["out/clean.png", "out/noisy.png"])
    assert result.stderr.endswith("2 done, 0 skipped, 0 failed; x4-photo drew 1, x4-small drew 1\n")
    assert "noisy.png: x4-" not in result.stderr, "of a folder, one line is enough"
    for name, model in zip(mixed, ("x4-small", "x4-photo"), strict=True):
        with Upscaler(model, device="cpu", threads=1) as upscaler:
            expected = upscaler.upscale(read_image(name).pixels)
        assert np.array_equal(read_image(f"out/{name}").pixels, expected), "at the model's own temperature, too"
        provenance = read_provenance(f"out/{name}")
        assert provenance is not None
        assert provenance.model == model
    report = json.loads(Path("report.json").read_text())
    assert [file["model"] for file in report["files"]] == ["x4-small", "x4-photo"]
    assert (report["model"]["name"], report["settings"]["tau"]) == ("auto", None)

    again = run_installed(*mixed, "-o", "out", "--model", "auto", "--resume", "--report", "report.json")
    assert again.stdout == "", "both are kept"
    assert "x4-" not in again.stderr, "so nothing is said of their models"
    kept = json.loads(Path("report.json").read_text())
    assert [file["model"] for file in kept["files"]] == ["x4-small", "x4-photo"]
    other = run_installed(*mixed, "-o", "out", "--model", "x4-photo", "--resume")
    assert other.stdout == "out/clean.png\n", "only the one that another model drew is made again"


def test_it_is_the_commands_default_for_upscaling_alone(
    run_installed: Run, two_models: Path, mixed: tuple[str, str]
) -> None:
    result = run_installed(*mixed, "-o", "out")
    assert (result.exit_code, result.stdout.split()) == (0, ["out/clean.png", "out/noisy.png"])
    assert provenance_models("out") == ["x4-small", "x4-photo"]
    assert "x4-" not in run_installed(*mixed, "-o", "out", "--quiet").stderr
    restored = CliRunner().invoke(cli.restore, ["noisy.png", "-o", "restored.png", "--threads", "1"])
    assert "x4-photo" not in restored.output
    shutil.rmtree(two_models / "x4-photo.srflow")
    assert run_installed("noisy.png", "-o", "big.png").exit_code == 0, "with the only model that is left"
    assert run_installed("noisy.png", "-o", "big.png", "--model", "auto").exit_code == 0


def provenance_models(folder: str) -> list[str]:
    found = [read_provenance(path) for path in sorted(Path(folder).iterdir())]
    return [provenance.model for provenance in found if provenance is not None]


def test_one_picture_opens_one_model(
    run_installed: Run, two_models: Path, mixed: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_one(bundles: list[Bundle], **options: Any) -> Upscaler:
        opened.extend(bundle.manifest.name for bundle in bundles)
        return Upscaler(bundles, **options)

    monkeypatch.setattr("srflow_apps.batch.command.Upscaler", open_one)
    assert run_installed("noisy.png", "-o", "big.png").exit_code == 0
    assert opened == ["x4-photo"]


def test_names_have_the_model_that_drew(run_installed: Run, two_models: Path, mixed: tuple[str, str]) -> None:
    Path("bad.png").write_bytes(b"no picture")
    result = run_installed(*mixed, "bad.png", "-o", "out", "--name", "{stem}_{model}.png")
    assert result.exit_code == 1, "for the bad one"
    assert result.stdout.split() == ["out/clean_x4-small.png", "out/noisy_x4-photo.png"]
    assert sum("bad.png" in line for line in result.stderr.splitlines()) == 1
    assert run_installed(*mixed, "-o", "out", "--name", "{stem}_{model}.png", "--resume").stdout == ""


def test_a_dry_run_measures_each_model(
    run_installed: Run, two_models: Path, mixed: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from srflow_apps.batch import command

    measured: list[tuple[str, str]] = []

    def measure(job: Job, upscaler: Upscaler, settings: Settings) -> float:
        measured.append((upscaler.bundle.manifest.name, job.name.name))
        return 96 * 96 * (0.011 if len(measured) > 1 else 0.002)

    monkeypatch.setattr(command, "measure_time", measure)
    clean = [str(shutil.copy("clean.png", f"{number}.png")) for number in range(6)]
    result = run_installed(*clean, "noisy.png", "-o", "out", "--dry-run")
    assert "about 4 minutes" in result.stdout, "of each model's first, wherever that stands"
    measured.clear()
    result = run_installed(*mixed, "-o", "out", "--dry-run")
    assert result.exit_code == 0
    assert "noisy.png: x4-photo" in result.stderr
    assert measured == [("x4-small", "clean.png"), ("x4-photo", "noisy.png")]
    assert "about 2 minutes" in result.stdout, "96×96 pixels at 2 ms and as many at 11 ms"
    assert not Path("out").exists()


def test_a_worker_of_a_cluster_chooses_too(two_models: Path, mixed: tuple[str, str], tmp_path: Path) -> None:
    jobs = [
        Job(name=PurePosixPath(name), source=tmp_path / name, targets=(tmp_path / f"big-{name}",)) for name in mixed
    ]
    sha256 = digest([bundle.manifest for bundle in bundles_of("auto")])
    worker = DoJobs(settings=Settings(), model="auto", sha256=sha256, device="cpu", threads=1)
    files = [done[0] for job in jobs if (done := worker.do(job, True)) is not None]
    assert [(file.model, str(file.why)[:5]) for file in files] == [("x4-small", "no da"), ("x4-photo", "noise")]
    with pytest.raises(BundleError, match="has another model at"):
        DoJobs(settings=Settings(), model="auto", sha256="0" * 64, device="cpu").do(jobs[0], True)


def test_the_folder_function_takes_auto(two_models: Path, mixed: tuple[str, str]) -> None:
    result = upscale_folder(mixed, "out", upscaler="auto", name="{stem}-{model}.png", report="report.json")
    assert [(file.model, file.targets[0].name) for file in result.files] == [
        ("x4-small", "clean-x4-small.png"),
        ("x4-photo", "noisy-x4-photo.png"),
    ]
    assert result.files[0].why == "no damage found"
    report = json.loads(Path("report.json").read_text())
    assert report["model"]["name"] == "auto"
    assert [file["why"][:5] for file in report["files"]] == ["no da", "noise"]
    with pytest.raises(ArgumentError, match='must be an Upscaler, "auto" or None'):
        upscale_folder(mixed, "out", upscaler="x4-photo")  # type: ignore[arg-type]


def test_what_auto_cannot_do_is_refused(run_installed: Run, two_models: Path, mixed: tuple[str, str]) -> None:
    restored = CliRunner().invoke(cli.restore, [*mixed, "-o", "out", "--model", "auto"])
    assert restored.exit_code == 2
    assert restored.stderr.endswith(
        "Error: --model auto is for srflow-upscale; srflow-restore needs one model: name it\n"
    )
    assert not Path("out").exists()
    with pytest.raises(ArgumentError, match="bundle is 3"):
        Upscaler(3)  # type: ignore[arg-type]


def test_a_file_that_comes_from_elsewhere_is_fetched_once(
    two_models: Path, mixed: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def fetch(url: UrlPath, local: Path) -> None:
        fetched.append(url.name)
        shutil.copy(url.name, local)

    monkeypatch.setattr(storage, "fetch", fetch)
    jobs = [
        Job(name=PurePosixPath(name), source=as_path(f"s3://a/{name}"), targets=(Path(f"big-{name}"),))
        for name in mixed
    ]
    settings = Settings(operation=Upscaling(options=DrawOptions()), resume=True)
    with Upscaler("auto", device="cpu", threads=1) as upscaler:
        opened = Models(bundles_of("auto"), max_pixels=10_000, upscaler=upscaler)
        done = [do_one(job, opened, settings=settings) for job in jobs]
    assert [(file.status, file.model) for file in done] == [("done", "x4-small"), ("done", "x4-photo")]
    assert fetched == list(mixed)
