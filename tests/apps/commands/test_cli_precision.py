"""srflow-upscale --precision: what runs, what pictures say of it, and making them again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from srflow_apps.commands import cli
from srflow_sdk import read_provenance
from tests.sdk.tiny_bundle import write_tiny_bundle

Run = Callable[..., Result]


@pytest.fixture
def with_int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "int8.srflow", int8="near")


@pytest.fixture
def run(with_int8: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """srflow-upscale on the processor with a bundle that has an int8 encoder, in the folder of photos."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(folder / "cache"))
    model = ["--model", str(with_int8), "--device", "cpu", "--threads", "1"]
    return lambda *arguments: CliRunner().invoke(cli.upscale, [*arguments, *model])


def test_a_picture_says_what_it_was_made_in_and_is_made_again_in_that(run: Run) -> None:
    assert run("a.png", "-o", "plain.png").exit_code == 0
    assert run("a.png", "-o", "int8.png", "--precision", "int8").exit_code == 0
    plain, int8 = (read_provenance(name) for name in ("plain.png", "int8.png"))
    assert plain is not None
    assert int8 is not None
    assert (plain.precision, plain.device) == ("bundle", None)
    assert (int8.precision, int8.device) == ("int8", "cpu")
    pixels = {name: np.asarray(Image.open(name)) for name in ("plain.png", "int8.png")}
    assert not np.array_equal(pixels["plain.png"], pixels["int8.png"])
    for name, expected in pixels.items():
        assert run("--from-output", name, "-o", "again.png").exit_code == 0
        np.testing.assert_array_equal(np.asarray(Image.open("again.png")), expected)


def test_resume_takes_another_precision_for_another_picture(run: Run) -> None:
    run("a.png", "b.png", "-o", "out", "--precision", "int8")
    again = run("a.png", "b.png", "-o", "out", "--precision", "int8", "--resume")
    assert again.stdout == ""
    assert "0 done, 2 skipped" in again.stderr
    other = run("a.png", "b.png", "-o", "out", "--resume")
    assert "2 done, 0 skipped" in other.stderr
    dry = run("a.png", "-o", "out", "--resume", "--dry-run", "--precision", "int8")
    assert "would be skipped" not in dry.stdout


def test_fastest_says_what_it_measured_once(run: Run) -> None:
    first = run("a.png", "-o", "large.png", "--precision", "fastest")
    assert first.exit_code == 0
    assert "measuring what is fastest on this processor" in first.stderr
    assert "measured in" in first.stderr
    assert "warning" not in first.stderr
    assert "measur" not in run("a.png", "-o", "large.png", "--precision", "fastest").stderr


def test_a_precision_that_the_bundle_lacks_is_one_line_and_writes_nothing(
    tiny_bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    arguments = ["a.png", "-o", "new.png", "--model", str(tiny_bundle), "--precision", "int8"]
    result = CliRunner().invoke(cli.upscale, arguments)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "--also int8" in result.stderr
    assert sorted(folder.iterdir()) == before
