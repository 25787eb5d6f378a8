from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image, ImageCms

from srflow_sdk import cli
from srflow_sdk.image_files import read_image, write_image
from srflow_sdk.upscaler import Upscaler

from .tiny_bundle import write_tiny_bundle

Run = Callable[..., Result]
UPSCALE = [sys.executable, "-c", "from srflow_sdk.cli import upscale; upscale()"]


@pytest.fixture
def folder(tmp_path: Path, photo: np.ndarray) -> Path:
    """Two photos, a.png and b.png, and bad.png, which is none."""
    write_image(tmp_path / "a.png", photo)
    write_image(tmp_path / "b.png", photo[::-1])
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    return tmp_path


@pytest.fixture
def run(tiny_bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """srflow-upscale with the tiny bundle, in the folder of photos."""
    monkeypatch.chdir(folder)
    model = ["--model", str(tiny_bundle), "--device", "cpu", "--threads", "1"]
    return lambda *arguments: CliRunner().invoke(cli.upscale, [*arguments, *model])


def test_a_photo_becomes_what_the_upscaler_makes_of_it(run: Run, upscaler: Upscaler, photo: np.ndarray) -> None:
    result = run("a.png", "-o", "out/big.png", "--tau", "0.5", "--seed", "3")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "out/big.png\n"
    assert np.array_equal(read_image("out/big.png").pixels, upscaler.upscale(photo, tau=0.5, seed=3))


def test_tau_is_the_bundles_unless_given(run: Run, upscaler: Upscaler, photo: np.ndarray) -> None:
    run("a.png", "-o", "big.png")
    assert np.array_equal(read_image("big.png").pixels, upscaler.upscale(photo, tau=0.8))


def test_samples_of_several_inputs_go_to_a_directory(run: Run, upscaler: Upscaler, photo: np.ndarray) -> None:
    result = run("a.png", "b.png", "-o", "out", "--samples", "2")
    assert result.stdout.split() == ["out/a_s0.png", "out/a_s1.png", "out/b_s0.png", "out/b_s1.png"]
    assert np.array_equal(read_image("out/a_s1.png").pixels, upscaler.upscale(photo, samples=2)[1])


def test_tiles_of_any_size_give_the_same_picture(run: Run) -> None:
    assert run("a.png", "-o", "tiled.png", "--tile", "16").exit_code == 0
    assert run("a.png", "-o", "whole.png", "--tile", "none").exit_code == 0
    assert Path("tiled.png").read_bytes() == Path("whole.png").read_bytes()


def test_sixteen_bits_and_the_colour_profile_are_kept(run: Run, photo: np.ndarray) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    write_image("deep.tif", photo.astype(np.uint16) * 257, icc_profile=profile)
    assert run("deep.tif", "-o", "big.tif").exit_code == 0
    file = read_image("big.tif")
    assert (file.pixels.dtype, file.icc_profile) == (np.uint16, profile)


def test_one_bad_file_does_not_stop_the_others(run: Run) -> None:
    result = run("a.png", "bad.png", "missing.png", "b.png", "-o", "out")
    assert result.exit_code == 1
    assert result.stdout.split() == ["out/a.png", "out/b.png"]
    bad, missing, summary = result.stderr.splitlines()
    assert bad.startswith("error: bad.png: ")
    assert missing.startswith("error: missing.png: ")
    assert summary == "2 of 4 inputs failed"


def test_a_failed_photo_leaves_nothing_behind(run: Run, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    overflowing = write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "overflow.srflow", gain=1e38)
    arguments = ["a.png", "-o", "out/", "--model", str(overflowing), "--device", "cpu"]
    result = CliRunner().invoke(cli.upscale, arguments)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert not list((folder / "out").iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing argument 'INPUT...'"),
        (["a.png"], "Missing option '-o'"),
        (["a.png", "-o", "a.png"], "would overwrite the input"),
        (["a.png", "b.png", "-o", "big.png"], "there are 2 inputs"),
        (["a.png", "sub/a.jpg", "-o", "out"], "would both be written"),
        (["a.png", "-o", "big.bmp"], "the ending says the format"),
        (["a.png", "-o", "big.png", "--tau", "nan"], "tau is nan"),
        (["a.png", "-o", "big.png", "--tau", "-1"], "tau is -1"),
        (["a.png", "-o", "big.png", "--samples", "0"], "--samples"),
        (["a.png", "-o", "big.png", "--seed", str(1 << 64)], "below 2^64"),
        (["a.png", "-o", "big.png", "--tile", "large"], "is not auto, none or a number"),
        (["a.png", "-o", "big.png", "--tile", "3"], "16"),
    ],
)
def test_wrong_usage_is_status_2_before_anything_is_written(
    run: Run, folder: Path, arguments: list[str], says: str
) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert "Traceback" not in result.output
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_an_output_that_cannot_be_written_is_found_before_the_work(run: Run) -> None:
    Path("file").touch()
    result = run("a.png", "-o", "file/big.png")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: file ")
    Path("dir.png").mkdir()
    assert run("a.png", "b.png", "-o", "a.png/").exit_code == 1


def test_a_model_that_is_none_is_one_line(folder: Path) -> None:
    arguments = [str(folder / "a.png"), "-o", str(folder / "big.png"), "--model", str(folder / "none.srflow")]
    result = CliRunner().invoke(cli.upscale, arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", [cli.upscale, cli.doctor])
def test_version(command: object) -> None:
    result = CliRunner().invoke(command, ["--version"])
    assert result.exit_code == 0
    assert version("srflow-sdk") in result.stdout


def test_progress_is_shown_on_a_terminal(tiny_bundle: Path, folder: Path) -> None:
    terminal, end = pty.openpty()
    command = [*UPSCALE, "a.png", "bad.png", "-o", "out", "--tile", "16", "--model", str(tiny_bundle)]
    process = subprocess.Popen([*command, "--device", "cpu"], cwd=folder, stdout=subprocess.PIPE, stderr=end)
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # Linux ends a terminal so, macOS with no bytes
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    process.communicate(timeout=60)
    text = shown.decode()
    assert "[1/2] a.png" in text
    assert text.count("%") > 4, "the bar moves with the tiles"
    assert "100%" in text
    assert any(line.startswith("error: bad.png: ") for line in text.splitlines()), "errors have lines of their own"


def test_ctrl_c_is_status_130_and_leaves_no_half_file(tiny_bundle: Path, tmp_path: Path, photo: np.ndarray) -> None:
    write_image(tmp_path / "small.png", photo)
    write_image(tmp_path / "wide.png", np.tile(photo, (24, 24, 1)))
    command = [*UPSCALE, "small.png", "wide.png", "-o", "out", "--tile", "16", "--model", str(tiny_bundle)]
    process = subprocess.Popen(
        [*command, "--device", "cpu"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with Ctrl-C ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    # The first photo's name says that it is finished; the second takes thousands of times as long.
    assert process.stdout is not None
    assert process.stdout.readline() == "out/small.png\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "interrupted\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["small.png"]


def test_a_closed_pipe_is_quiet(tiny_bundle: Path, folder: Path) -> None:
    command = [*UPSCALE, "a.png", "-o", "big.png", "--model", str(tiny_bundle), "--device", "cpu"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 1


def test_a_format_that_cannot_hold_the_alpha_is_refused_before_the_work(tiny_bundle, tmp_path, monkeypatch):
    Image.new("RGBA", (8, 8)).save(tmp_path / "alpha.png")
    monkeypatch.setattr("srflow_sdk.upscaler.Upscaler.upscale", lambda *_, **__: pytest.fail("it went to work"))
    result = CliRunner().invoke(
        cli.upscale, [str(tmp_path / "alpha.png"), "-o", str(tmp_path / "out.jpg"), "--model", str(tiny_bundle)]
    )
    assert result.exit_code == 1
    assert "no transparency" in result.output
