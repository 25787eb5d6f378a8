"""srflow-upscale --interval: three files of each input."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from srflow_apps.commands import cli
from srflow_sdk.files import read_image
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.upscaler import Upscaler
from tests.sdk.calibrated import INTERVALS, calibrated

Run = Callable[..., Result]


@pytest.fixture
def photo(photo: np.ndarray) -> np.ndarray:
    return photo[:13, :17]


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return calibrated(tiny_bundle, tmp_path_factory.mktemp("calibrated") / "tiny.srflow")


@pytest.fixture
def run_calibrated(bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(folder)
    model = ["--model", str(bundle), "--device", "cpu", "--threads", "1"]
    return lambda *arguments: CliRunner().invoke(cli.upscale, [*arguments, *model])


def test_the_bounds_stand_beside_the_picture(run_calibrated: Run, bundle: Path, photo: np.ndarray) -> None:
    result = run_calibrated("a.png", "--interval", "0.9")
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["a_x4.png", "a_x4_low.png", "a_x4_high.png"]
    with Upscaler(bundle, device="cpu", threads=1) as upscaler:
        low, high = upscaler.encode(photo).interval(8, coverage=0.9)
        np.testing.assert_array_equal(read_image(Path("a_x4.png")).pixels, upscaler.upscale(photo))
    np.testing.assert_array_equal(read_image(Path("a_x4_low.png")).pixels, low)
    np.testing.assert_array_equal(read_image(Path("a_x4_high.png")).pixels, high)


def test_resume_makes_again_what_is_not_whole_or_of_another_coverage(run_calibrated: Run, bundle: Path) -> None:
    command = ("a.png", "b.png", "-o", "out", "--resume", "--report", "report.json")
    for interval, done in (("0.9", 2), ("0.9", 0), ("0.8", 2)):
        result = run_calibrated(*command, "--interval", interval)
        assert result.exit_code == 0, result.output
        report = json.loads(Path("report.json").read_text("utf-8"))
        assert report["summary"]["done"] == done
        assert report["settings"]["interval"] == float(interval)
        assert [output["sample"] for output in report["files"][0]["outputs"]] == [0, 0, 0]
        assert [output["bytes"] is None for output in report["files"][0]["outputs"]] == [False] * 3
    manifest = Bundle.open(bundle).manifest
    other = dataclasses.replace(INTERVALS, factors=(INTERVALS.factors[0],) * 2)
    (bundle / "manifest.json").write_text(dataclasses.replace(manifest, intervals=other).to_json(), encoding="utf-8")
    run_calibrated(*command, "--interval", "0.8")
    assert json.loads(Path("report.json").read_text("utf-8"))["summary"]["done"] == 2, "after another calibration"
    Path("out/a_high.png").unlink()
    run_calibrated(*command, "--interval", "0.8")
    assert json.loads(Path("report.json").read_text("utf-8"))["summary"]["done"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--interval", "0.9", "--samples", "2"], "leave out --samples and -o -"),
        (["--interval", "0.9", "-o", "-"], "leave out --samples and -o -"),
        (["--interval", "0.9", "--consistent"], "omit consistent"),
        (["--interval", "0.9", "--scale", "2"], "omit scale"),
        (["--interval", "90"], "coverage is 90; it must be a finite number from 0.5 to 0.9"),
    ],
)
def test_what_has_no_interval_is_one_line(run_calibrated: Run, options: list[str], message: str) -> None:
    result = run_calibrated("a.png", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not list(Path().glob("a_x4*"))


def test_a_model_without_calibration_names_the_command_for_it(run: Run) -> None:
    result = run("a.png", "--interval", "0.9")
    assert result.exit_code == 1
    assert "srflow-eval calibrate" in result.stderr


def test_a_bound_is_not_made_again(run_calibrated: Run) -> None:
    run_calibrated("a.png", "--interval", "0.9")
    result = run_calibrated("a.png", "--from-output", "a_x4_low.png", "-o", "again.png")
    assert "a_x4_low.png is a bound of an interval; make it again with srflow-upscale --interval" in result.stderr
