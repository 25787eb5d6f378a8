"""The embedded model that suits each picture and scale: the default of srflow-upscale, and
upscale_folder("auto")."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from srflow_apps.commands import cli
from srflow_sdk import ArgumentError, Upscaler, upscale_folder
from srflow_sdk.files import read_image, read_provenance, write_image
from tests.sdk.clean_and_noisy import noisy, smooth
from tests.sdk.test_by_picture import opened

__all__ = ["opened"]

Run = Callable[..., Result]
MIXED = "clean.png", "noisy.png"


@pytest.fixture(autouse=True)
def _pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean and a noisy picture in the current directory."""
    monkeypatch.chdir(tmp_path)
    write_image("clean.png", smooth())
    write_image("noisy.png", noisy(10))


@pytest.fixture
def run() -> Run:
    """srflow-upscale on one thread of the CPU."""
    return lambda *arguments: CliRunner().invoke(
        cli.upscale, [*arguments, "--device", "cpu", "--threads", "1"]
    )


def drew(*paths: str) -> list[str]:
    return [
        provenance.model for provenance in map(read_provenance, paths) if provenance is not None
    ]


def test_the_command_lists_the_models(run: Run, two_models: Path) -> None:
    first, second = run("--models").stdout.splitlines()
    assert first.startswith("x4-small  ×4  tau 0.8  for clean photographs")
    assert second.startswith("x4-photo  ×4  tau 0.5  for photographs as they come")


def test_each_picture_gets_the_model_that_suits_it(run: Run, two_models: Path) -> None:
    result = run(*MIXED, "-o", "out", "--report", "report.json")
    assert (result.exit_code, result.stdout.split()) == (
        0,
        [os.path.normpath(f"out/{name}") for name in ("clean.png", "noisy.png")],
    )
    assert result.stderr.endswith("2 done, 0 skipped, 0 failed\n")
    lines = result.stderr.splitlines()
    assert {"clean.png: x4-small (no damage found)", "noisy.png: x4-photo (noise of 6/255)"} <= set(
        lines
    )
    for name, model in zip(MIXED, ("x4-small", "x4-photo"), strict=True):
        with Upscaler(model, device="cpu", threads=1) as upscaler:
            expected = upscaler.upscale(read_image(name).pixels)
        assert np.array_equal(read_image(f"out/{name}").pixels, expected), (
            "at the model's own temperature, too"
        )
        assert drew(f"out/{name}") == [model]
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert [file["model"] for file in report["files"]] == ["x4-small", "x4-photo"]
    assert (report["model"]["name"], report["settings"]["tau"]) == ("auto", None)
    assert "x4-" not in run(*MIXED, "-o", "out", "--quiet").stderr

    again = run(*MIXED, "-o", "out", "--model", "auto", "--resume")
    assert again.stdout == "", "both are kept"
    assert "x4-" not in again.stderr, "so nothing is said of their models"
    other = run(*MIXED, "-o", "out", "--model", "x4-photo", "--resume")
    assert other.stdout == os.path.normpath("out/clean.png\n"), (
        "only the one that another model drew is made again"
    )
    shutil.rmtree(two_models / "x4-photo.srflow")
    assert run("noisy.png", "-o", "big.png").exit_code == 0, "with the only model that is left"


def test_a_model_that_removes_damage_says_where_there_is_none(run: Run, two_models: Path) -> None:
    said = run(*MIXED, "-o", "out", "--model", "x4-photo").stderr
    assert (
        "clean.png: no damage found: without --model, a model for clean pictures keeps more "
        "detail\n" in said
    )
    assert "noisy.png: " not in said
    for named in ("x4-small", "auto"):
        assert "without --model" not in run(*MIXED, "-o", "out", "--model", named).stderr


def test_the_folder_function_takes_auto(two_models: Path) -> None:
    result = upscale_folder(MIXED, "out", upscaler="auto", report="report.json")
    assert [(file.model, file.targets[0].name) for file in result.files] == [
        ("x4-small", "clean.png"),
        ("x4-photo", "noisy.png"),
    ]
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert report["model"]["name"] == "auto"
    assert [file["why"][:5] for file in report["files"]] == ["no da", "noise"]
    with pytest.raises(ArgumentError, match='must be an Upscaler, "auto" or None'):
        upscale_folder(MIXED, "out", upscaler="x4-photo")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "names", "suffix", "side"),
    [
        (["--scale", "2"], ["x2-small", "x4-photo"], "x2", 192),
        (["--scale", "8"], ["x8-small"], "x8", 768),
        (["--size", "500x"], ["x8-small"], "500x", 500),
        (["--max-size", "150"], ["x2-small", "x4-photo"], "max150", 150),
        (["--max-size", "4000"], ["x4-small", "x4-photo"], "max4000", 384),
    ],
)
def test_the_scale_names_the_models_and_files(
    run: Run,
    five_models: Path,
    opened: list[str],
    size: list[str],
    names: list[str],
    suffix: str,
    side: int,
) -> None:
    result = run(*MIXED, *size)
    outputs = [f"{name[:5]}_{suffix}.png" for name in MIXED]
    assert (result.exit_code, result.stdout.split()) == (0, outputs), result.output
    assert drew(*outputs) == [names[0], names[-1]]
    assert all(read_image(path).pixels.shape == (side, side, 3) for path in outputs)
    if size[0] == "--scale":
        assert opened == names + ["x4-photo"] * (suffix == "x8"), "no others"
    assert (
        run(*MIXED, "-o", ".", "--name", f"{{stem}}_{suffix}.png", *size, "--resume").stdout == ""
    )
    again = run("--from-output", outputs[1], "-o", "again.png")
    assert again.exit_code == 0, again.output
    assert np.array_equal(read_image("again.png").pixels, read_image(outputs[1]).pixels)


def test_a_scale_that_no_model_has_is_said_once(run: Run, five_models: Path) -> None:
    for inputs in (["clean.png"], MIXED):
        result = run(*inputs, "--scale", "20")
        assert result.exit_code != 0
        assert "the models here enlarge 2, 4, 8, 16 times: ask for at most 16" in result.stderr
        assert result.stderr.count("scale is 20") == 1
    named = run("clean.png", "--scale", "5", "--model", "x4-small")
    assert (
        "the model x4-small enlarges 4 times; ask for at most 4, name a model that enlarges more"
        in named.stderr
    )


def test_what_cleaned_a_picture_is_said_and_cleans_it_again(
    run: Run, five_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run("noisy.png", "-o", "large.png", "--scale", "8", "--tile", "32")
    assert "noisy.png: x8-small (noise of 6/255; first x4-photo at τ 0)" in made.stderr
    # as another version may measure
    monkeypatch.setattr("srflow_sdk.model.model_choice._NOISY", 99)
    assert run("--from-output", "large.png", "-o", "again.png").exit_code == 0
    assert np.array_equal(read_image("again.png").pixels, read_image("large.png").pixels)
    assert read_provenance(Path("again.png")) == read_provenance(Path("large.png"))
    refused = run("--from-output", "large.png", "-o", "other.png", "--model", "x8-small")
    assert refused.exit_code
    assert "first, which is not here; leave out --model and --server" in refused.output


def test_auto_is_for_upscaling_alone(two_models: Path) -> None:
    for command_, name in ((cli.restore, "srflow-restore"), (cli.transfer, "srflow-transfer")):
        inputs = [*MIXED, "clean.png"] if command_ is cli.transfer else MIXED
        result = CliRunner().invoke(command_, [*inputs, "-o", "out", "--model", "auto"])
        assert result.exit_code == 2
        assert result.stderr.endswith(
            f"Error: --model auto is for srflow-upscale; {name} needs one model: name it\n"
        )
        assert not Path("out").exists()
    assert (
        "x4-photo"
        not in CliRunner()
        .invoke(cli.restore, ["noisy.png", "-o", "big.png", "--threads", "1"])
        .output
    )
