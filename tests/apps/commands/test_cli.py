from __future__ import annotations

import errno
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from srflow_apps.commands import cli
from srflow_sdk.files import read_image, write_image
from srflow_sdk.upscaler import Upscaler

Run = Callable[..., Result]


def test_a_photo_becomes_what_the_upscaler_makes_of_it(run: Run, upscaler: Upscaler, photo: np.ndarray) -> None:
    result = run("a.png", "-o", "out/big.png", "--tau", "0.5", "--seed", "3")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "out/big.png\n"
    assert np.array_equal(read_image("out/big.png").pixels, upscaler.upscale(photo, tau=0.5, seed=3))


def test_samples_of_several_inputs_go_to_a_directory(run: Run, upscaler: Upscaler, photo: np.ndarray) -> None:
    result = run("a.png", "b.png", "-o", "out", "--samples", "2")
    assert result.stdout.split() == ["out/a_s0.png", "out/a_s1.png", "out/b_s0.png", "out/b_s1.png"]
    assert np.array_equal(read_image("out/a_s1.png").pixels, upscaler.encode(photo).samples(2)[1])


def test_one_bad_file_does_not_stop_the_others(run: Run) -> None:
    result = run("a.png", "bad.png", "missing.png", "b.png", "-o", "out")
    assert result.exit_code == 1
    assert result.stdout.split() == ["out/a.png", "out/b.png"]
    bad, missing, summary = result.stderr.splitlines()
    assert bad.startswith("error: bad.png: ")
    assert missing.startswith("error: missing.png: ")
    assert summary == "2 done, 0 skipped, 2 failed"


def test_quiet_prints_only_warnings_and_errors(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srflow_apps.batch.display.FIRST_AFTER_S", 0)
    result = run("a.png", "bad.png", "-o", "out", "--report", "report.json", "--quiet")
    assert (result.exit_code, result.stdout) == (1, "")
    warning, error = sorted(result.stderr.splitlines(), reverse=True)
    assert (warning[:8], error[:7]) == ("warning:", "error: ")
    assert run("a.png", "-o", "big.png", "--quiet").stderr == ""


def test_quality_and_lossless_are_the_writers(run: Run, upscaler: Upscaler, photo: np.ndarray) -> None:
    for quality in ("20", "90"):
        assert run("a.png", "-o", f"{quality}.jpg", "--quality", quality).exit_code == 0
    assert Path("20.jpg").stat().st_size < Path("90.jpg").stat().st_size
    assert run("a.png", "-o", "big.webp", "--lossless").exit_code == 0
    assert np.array_equal(read_image("big.webp").pixels, upscaler.upscale(photo))


def test_files_that_exist_are_left_alone_if_asked(run: Run) -> None:
    Path("out").mkdir()
    Path("out/a.png").write_bytes(b"mine")
    result = run("a.png", "b.png", "-o", "out", "--no-overwrite")
    assert (result.exit_code, result.stdout) == (0, "out/b.png\n")
    assert result.stderr == "1 done, 1 skipped, 0 failed\n"
    assert Path("out/a.png").read_bytes() == b"mine"
    result = run("a.png", "-o", "out/a.png", "--no-overwrite")
    assert (result.exit_code, result.stderr) == (0, "0 done, 1 skipped, 0 failed\n")
    assert run("a.png", "-o", "out/a.png").exit_code == 0
    assert Path("out/a.png").read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-o", "big.png"], "Missing argument 'INPUT...'"),
        (["a.png", "-o", ""], "-o is empty"),
        (["a.png", "-o", "\x1b[31mbig.bmp"], "\N{REPLACEMENT CHARACTER}[31mbig.bmp"),
        (["a.png", "-o", "a.png"], "would overwrite the input"),
        (["a.png", "b.png", "-o", "big.png"], "there are 2 inputs"),
        (["a.png", "b.png", "-o", "out", "--name", "{seed}.png"], "would both be written"),
        (["a.png", "-o", "big.bmp"], "the ending of the name sets the format"),
        (["a.png", "-o", "big.png", "--tau", "nan"], "tau is nan"),
        (["a.png", "-o", "big.png", "--tau", "-1"], "tau is -1"),
        (["a.png", "-o", "big.png", "--samples", "0"], "--samples"),
        (["a.png", "-o", "big.png", "--seed", str(1 << 64)], "from 0 to 18446744073709551615"),
        (["a.png", "-o", "big.png", "--tile", "large"], "is not auto, none or a number"),
        (["a.png", "-o", "big.png", "--tile", "15"], "'15' is not auto, none or a number of pixels, at least 16"),
        (["a.png", "-o", "big.png", "--tile", "3"], "16"),
        (["a.png", "-o", "out", "--name", "{size}.png"], "{size} cannot be filled in"),
        (["a.png", "-o", "out", "--name", "{stem}.png", "--samples", "2"], "same name; add {sample}"),
        (["a.png", "-o", "big.png", "--name", "{stem}.png"], "both name the file"),
        (["a.png", "-o", "big.png", "--quality", "90"], "PNG is lossless and has no quality"),
        (["a.png", "-o", "big.jpg", "--lossless"], "JPEG cannot be lossless"),
        ([".", "-o", "big.png"], "is a folder"),
        ([".", "-o", "."], "would"),
        (["a.png", "-o", "big.png", "--max-pixels", "many"], "is not a number, such as"),
        (["a.png", "-o", "big.png", "--max-pixels", "0"], "is not a number, such as"),
        (["a.png", "-o", "big.png", "--shard", "4/3"], "is not part I of N"),
        (["a.png", "-o", "big.png", "--shard", "0/3"], "is not part I of N"),
        (["a.png", "-o", "big.png", "--report", "a.png"], "would replace an input"),
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


@pytest.mark.parametrize("command", [cli.upscale, cli.doctor])
def test_version(command: object) -> None:
    result = CliRunner().invoke(command, ["--version"])
    assert result.exit_code == 0
    assert version("srflow-sdk") in result.stdout


@pytest.mark.parametrize("command", [cli.upscale, cli.restore, cli.transfer])
def test_help_names_every_option_once(command: click.Command) -> None:
    result = CliRunner().invoke(command, ["--help"], terminal_width=100)
    named = re.findall(r"^  (?:-\w, )?(--[\w-]+)", result.stdout, re.MULTILINE)
    options = [max(one.opts, key=len) for one in command.params if isinstance(one, click.Option)]
    assert sorted(named) == sorted([*options, "--help"])


@pytest.mark.parametrize("module", ["srflow_sdk", "srflow_apps.commands.cli"])
def test_the_package_runs_as_a_command(module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith(f"Usage: python -m {module} [OPTIONS] [INPUT]...")


def test_system_errors_are_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "somewhere")

    monkeypatch.setattr("srflow_apps.batch.plan.check_targets", refuse)
    result = run("a.png", "-o", "big.png")
    assert (result.exit_code, result.stderr) == (1, "error: somewhere: Permission denied\n")


def test_names_are_shown_without_what_a_terminal_would_obey(run: Run, photo: np.ndarray) -> None:
    write_image("good\x1b[31m.png", photo)
    Path("bad\x1b[31m.png").write_bytes(b"not a picture")
    result = run("good\x1b[31m.png", "bad\x1b[31m.png", "-o", "out")
    assert result.stdout == "out/good\x1b[31m.png\n", "programs read this"
    assert "\x1b" not in result.stderr
    assert result.stderr.startswith("error: bad\N{REPLACEMENT CHARACTER}[31m.png: ")


def test_a_full_disk_ends_the_batch_and_says_how_to_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("srflow_sdk.upscaler.Upscaler.upscale_file", full)
    result = run("a.png", "b.png", "bad.png", "-o", "out")
    assert result.exit_code == 1
    *errors, last = result.stderr.splitlines()
    assert errors[0] == "error: a.png: No space left on device"
    assert last == "stopped because the disk is full: 0 of 3 done; free space, then run the same command with --resume"


def test_a_format_that_cannot_hold_the_alpha_is_refused_before_the_work(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGBA", (8, 8)).save("alpha.png")
    monkeypatch.setattr("srflow_sdk.drawing.painter.Painter.draw", lambda *_, **__: pytest.fail("it went to work"))
    result = run("alpha.png", "-o", "out.jpg")
    assert result.exit_code == 1
    assert "no transparency" in result.stderr


@pytest.mark.parametrize(("limit", "status"), [("2744", 1), ("2745", 0), ("2.745k", 0), ("3K", 0), ("1M", 0)])
def test_larger_inputs_than_allowed_are_refused(run: Run, limit: str, status: int) -> None:
    result = run("a.png", "-o", "big.png", "--max-pixels", limit)
    assert result.exit_code == status
    assert ("61×45" in result.stderr) == bool(status)


def test_an_output_far_from_its_input_is_warned_of_once(run: Run) -> None:
    result = run("a.png", "-o", "big.png", "--samples", "2", "--report", "report.json")
    assert result.exit_code == 0
    (warning,) = result.stderr.splitlines()
    assert warning.startswith("warning: a.png: ")


@pytest.mark.parametrize(
    ("options", "advice"), [(["--consistent"], "a consistent output came"), (["--tau", "0"], "ask for a cons")]
)
def test_the_warning_about_black_dots_on_white_advises_what_helps(run: Run, options: list[str], advice: str) -> None:
    dots = np.full((40, 40, 3), 255, np.uint8)
    dots[::3, ::3] = 0
    write_image("dots.png", dots)
    result = run("dots.png", "-o", "big.png", "--report", "report.json", *options)
    assert result.exit_code == 0
    (warning,) = result.stderr.splitlines()
    assert f"below 40); {advice}" in warning


def test_names_in_a_directory_follow_the_pattern(run: Run) -> None:
    result = run("a.png", "-o", "out", "--name", "{stem}-{model}-t{tau}-{seed}.jpg", "--seed", "7")
    assert result.stdout == "out/a-tiny-t0.8-7.jpg\n"
    assert (Image.open("out/a-tiny-t0.8-7.jpg").format) == "JPEG"
