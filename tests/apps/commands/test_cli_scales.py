"""The command, folders and workers with "auto" and a scale: the models that it needs, and no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from srflow_apps.commands import cli
from srflow_sdk.files import read_image, read_provenance, write_image
from tests.sdk.clean_and_noisy import noisy, smooth
from tests.sdk.test_by_picture import opened

__all__ = ["opened"]

Run = Callable[..., Result]
PICTURES = {"clean.png": smooth(), "noisy.png": noisy(10)}


@pytest.fixture
def run_installed(five_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """srflow-upscale on one thread of the CPU, in a folder with a clean and a noisy picture."""
    monkeypatch.chdir(tmp_path)
    for name, picture in PICTURES.items():
        write_image(name, picture)
    return lambda *arguments: CliRunner().invoke(cli.upscale, [*arguments, "--device", "cpu", "--threads", "1"])


def drew(*paths: str) -> list[str]:
    return [provenance.model for provenance in map(read_provenance, paths) if provenance is not None]


@pytest.mark.parametrize(
    ("size", "models", "suffix", "side"),
    [
        (["--scale", "2"], ["x2-small", "x4-photo"], "x2", 192),
        (["--scale", "3"], ["x4-small", "x4-photo"], "x3", 288),
        (["--scale", "8"], ["x8-small"], "x8", 768),
        (["--size", "500x"], ["x8-small"], "500x", 500),
        (["--size", "150x"], ["x2-small", "x4-photo"], "150x", 150),
        (["--max-size", "150"], ["x2-small", "x4-photo"], "max150", 150),
        (["--max-size", "4000"], ["x4-small", "x4-photo"], "max4000", 384),
    ],
)
def test_the_scale_names_the_models_and_files(
    run_installed: Run, opened: list[str], size: list[str], models: list[str], suffix: str, side: int
) -> None:
    result = run_installed(*PICTURES, *size)
    outputs = [f"{name[:5]}_{suffix}.png" for name in PICTURES]
    assert (result.exit_code, result.stdout.split()) == (0, outputs), result.output
    assert drew(*outputs) == [models[0], models[-1]]
    assert all(read_image(path).pixels.shape == (side, side, 3) for path in outputs)
    if size[0] == "--scale":
        assert opened == models + ["x4-photo"] * (suffix == "x8"), "no others"
    assert run_installed(*PICTURES, "-o", ".", "--name", f"{{stem}}_{suffix}.png", *size, "--resume").stdout == ""
    again = run_installed("--from-output", outputs[1], "-o", "again.png")
    assert again.exit_code == 0, again.output
    assert np.array_equal(read_image("again.png").pixels, read_image(outputs[1]).pixels)


def test_a_scale_that_no_model_has_is_said_once(run_installed: Run) -> None:
    for inputs in (["clean.png"], PICTURES):
        result = run_installed(*inputs, "--scale", "20")
        assert result.exit_code != 0
        assert "the models here enlarge 2, 4, 8, 16 times: ask for at most 16" in result.stderr
        assert result.stderr.count("scale is 20") == 1
    named = run_installed("clean.png", "--scale", "5", "--model", "x4-small")
    assert "the model x4-small enlarges 4 times; ask for at most 4, name a model that enlarges more" in named.stderr
    assert run_installed("clean.png", "--model", "x16-small", "-o", "16.png").exit_code == 0
    assert read_image("16.png").pixels.shape == (1536, 1536, 3)


@pytest.mark.parametrize("size", [["--scale", "8"], ["--size", "768x"]])
def test_what_cleaned_a_picture_is_said_and_cleans_it_again(
    run_installed: Run, monkeypatch: pytest.MonkeyPatch, size: list[str]
) -> None:
    made = run_installed("noisy.png", "-o", "large.png", *size, "--tile", "32")
    assert "noisy.png: x8-small (noise of 5.5/255; first x4-photo at τ 0)" in made.stderr
    monkeypatch.setattr("srflow_sdk.model.model_choice._NOISY", 99)  # as another version may measure
    assert run_installed("--from-output", "large.png", "-o", "again.png").exit_code == 0
    assert np.array_equal(read_image("again.png").pixels, read_image("large.png").pixels)
    assert read_provenance(Path("again.png")) == read_provenance(Path("large.png"))
    refused = run_installed("--from-output", "large.png", "-o", "other.png", "--model", "x8-small")
    assert refused.exit_code
    assert "first, which is not here; leave out --model and --server" in refused.output
