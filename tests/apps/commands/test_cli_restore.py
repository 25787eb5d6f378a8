"""srflow-restore: files and folders, as srflow-upscale takes them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from srflow_apps.commands import cli
from srflow_sdk.files import read_image, read_provenance, write_image
from srflow_sdk.flow.options import RESTORE_SCHEME
from srflow_sdk.system.local_files import file_sha256
from srflow_sdk.upscaler import Upscaler
from tests.sdk.flow_bundle import write_flow_bundle

Run = Callable[..., Result]


@pytest.fixture
def run(flow_bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """srflow-restore with a tiny flow, in a folder with a.png, b.png, and bad.png, which is no
    picture."""
    monkeypatch.chdir(folder)
    model = ["--model", str(flow_bundle), "--device", "cpu", "--threads", "1"]
    return lambda *arguments, **streams: CliRunner().invoke(
        cli.restore, [*arguments, *model], **streams
    )


def test_a_file_is_restored_as_the_method_does_it(
    run: Run, flow_bundle: Path, photo: np.ndarray
) -> None:
    result = run("a.png", "-o", "clean.png", "--tau", "0.3", "--over", "spatial")
    assert (result.exit_code, result.stdout) == (0, "clean.png\n")
    with Upscaler(flow_bundle, device="cpu", threads=1) as upscaler:
        wanted = upscaler.restore(photo, tau=0.3, over="spatial")
    np.testing.assert_array_equal(read_image("clean.png").pixels, wanted)
    assert not np.array_equal(wanted, photo)


def test_a_folder_is_resumed_by_its_settings(run: Run) -> None:
    first = run(".", "-o", "out", "--tau", "0.5")
    assert first.exit_code == 1
    assert sorted(first.stdout.splitlines()) == [
        os.path.normpath(f"out/{name}") for name in ("a.png", "b.png")
    ]
    assert "bad.png" in first.stderr
    again = run(".", "-o", "out", "--tau", "0.5", "--resume")
    assert again.stdout == ""
    assert "2 skipped, 1 failed" in again.stderr
    for other in (["--tau", "0.4"], ["--tau", "0.5", "--over", "local"]):
        assert run("a.png", "-o", "out/a.png", *other, "--resume").stdout == os.path.normpath(
            "out/a.png\n"
        )
        assert run("a.png", "-o", "out/a.png", *other, "--resume").stdout == ""


def test_a_picture_is_made_again_from_what_it_records(run: Run) -> None:
    run("a.png", "-o", "clean.png", "--tau", "0.6", "--over", "local", "--tile", "16")
    result = run("--from-output", "clean.png", "-o", "again.png")
    assert (result.exit_code, result.stdout) == (0, "again.png\n")
    assert file_sha256(Path("again.png")) == file_sha256(Path("clean.png"))


def test_each_command_makes_only_its_own_pictures_again(run: Run, flow_bundle: Path) -> None:
    run("a.png", "-o", "clean.png")
    upscale = ["--model", str(flow_bundle), "--device", "cpu"]
    result = CliRunner().invoke(
        cli.upscale, ["--from-output", "clean.png", "-o", "x.png", *upscale]
    )
    assert result.exit_code == 1
    assert (
        "was made by srflow-restore; make it again with srflow-restore --from-output"
        in result.stderr
    )
    CliRunner().invoke(cli.upscale, ["a.png", "-o", "large.png", *upscale])
    result = run("--from-output", "large.png", "-o", "x.png")
    assert result.exit_code == 1
    assert (
        "was made by srflow-upscale; make it again with srflow-upscale --from-output"
        in result.stderr
    )
    assert not Path("x.png").exists()


def test_an_output_of_a_newer_method_is_refused_in_one_line(run: Run) -> None:
    run("a.png", "-o", "clean.png")
    made = read_provenance("clean.png")
    assert made is not None
    assert made.settings is not None
    newer = dataclasses.replace(
        made, settings=made.settings.replace(f'"scheme": {RESTORE_SCHEME}', '"scheme": 99')
    )
    write_image("newer.png", read_image("clean.png").pixels, provenance=newer)
    result = run("--from-output", "newer.png", "a.png", "-o", "again.png")
    assert result.exit_code == 2
    assert "restored by version 99" in result.stderr
    assert not Path("again.png").exists()


def test_a_model_without_an_inverter_is_refused_before_anything_is_written(
    run: Run, tmp_path: Path
) -> None:
    old = write_flow_bundle(tmp_path / "old.srflow", inverter=False)
    result = CliRunner().invoke(
        cli.restore, ["a.png", "-o", "out/", "--model", str(old), "--device", "cpu"]
    )
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "has no inverter.onnx" in result.stderr
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("deviation", "says"),
    [(0, "no damage found: copied unchanged"), (20, "noise of 19/255: spatial, τ 0.73")],
)
def test_a_line_and_the_report_say_what_was_decided(run: Run, deviation: int, says: str) -> None:
    noise = np.random.default_rng(0).normal(0, deviation, (96, 96))
    Image.fromarray(np.clip(np.rint(120 + noise), 0, 255).astype(np.uint8)).save("gray.png")
    result = run("gray.png", "-o", "clean.png", "--report", "report.json")
    assert (result.exit_code, result.stderr) == (0, f"gray.png: {says}\n")
    assert json.loads(Path("report.json").read_text("utf-8"))["files"][0]["note"] == says


def test_names_have_the_fields_that_restoring_fills(run: Run) -> None:
    assert run(
        "a.png", "-o", "out/", "--name", "{stem}_{tau}.png", "--tau", "0.5"
    ).stdout == os.path.normpath("out/a_0.5.png\n")
    for pattern, says in (
        (
            "{stem}_{tau}.png",
            "cannot be filled in ('tau'); the fields are {stem}, {ending}, {sample}, numbers also",
        ),
        ("{stem}_{scale}.png", "cannot be filled in ('scale')"),
    ):
        result = run("a.png", "-o", "out/", "--name", pattern)
        assert (result.exit_code, says in result.stderr) == (2, True), result.stderr
