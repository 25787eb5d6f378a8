from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

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


def test_one_bad_file_does_not_stop_the_others(run: Run) -> None:
    result = run("a.png", "bad.png", "missing.png", "b.png", "-o", "out", "--samples", "2")
    assert result.exit_code == 1
    assert result.stdout.split() == ["out/a_s0.png", "out/a_s1.png", "out/b_s0.png", "out/b_s1.png"]
    bad, missing, summary = result.stderr.splitlines()
    assert bad.startswith("error: bad.png: ")
    assert missing.startswith("error: missing.png: ")
    assert summary == "2 done, 0 skipped, 2 failed"


def test_quiet_prints_only_warnings_and_errors(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srflow_apps.batch.display.FIRST_AFTER_S", 0)
    result = run("a.png", "bad.png", "-o", "out", "--report", "report.json", "--quiet")
    assert (result.exit_code, result.stdout) == (1, "")
    warning, error = sorted(result.stderr.splitlines(), reverse=True)  # an output far from its input is one
    assert (warning[:16], error[:7]) == ("warning: a.png: ", "error: ")
    assert run("a.png", "-o", "big.png", "--quiet").stderr == ""


def test_quality_and_lossless_are_the_writers_and_names_follow_the_pattern(
    run: Run, upscaler: Upscaler, photo: np.ndarray
) -> None:
    for quality in ("20", "90"):
        assert run("a.png", "-o", f"{quality}.jpg", "--quality", quality).exit_code == 0
    assert Path("20.jpg").stat().st_size < Path("90.jpg").stat().st_size
    assert run("a.png", "-o", "big.webp", "--lossless").exit_code == 0
    assert np.array_equal(read_image("big.webp").pixels, upscaler.upscale(photo))
    result = run("a.png", "-o", "out", "--name", "{stem}-t{tau}-{seed}.jpg", "--seed", "7")
    assert result.stdout == "out/a-t0.8-7.jpg\n"
    assert Image.open("out/a-t0.8-7.jpg").format == "JPEG"


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
    ("arguments", "status", "says"),
    [
        (["-o", "big.png"], 2, "Missing argument 'INPUT...'"),
        (["a.png", "-o", ""], 2, "-o is empty"),
        (["a.png", "-o", "\x1b[31mbig.bmp"], 2, "\N{REPLACEMENT CHARACTER}[31mbig.bmp"),
        (["a.png", "-o", "a.png"], 2, "would overwrite the input"),
        (["a.png", "b.png", "-o", "big.png"], 2, "there are 2 inputs"),
        (["a.png", "b.png", "-o", "out", "--name", "{seed}.png"], 2, "would both be written"),
        (["a.png", "-o", "big.bmp"], 2, "the ending of the name sets the format"),
        (["a.png", "-o", "big.png", "--tau", "nan"], 2, "tau is nan"),
        (["a.png", "-o", "big.png", "--tau", "-1"], 2, "tau is -1"),
        (["a.png", "-o", "big.png", "--samples", "0"], 2, "--samples"),
        (["a.png", "-o", "big.png", "--seed", str(1 << 64)], 2, "from 0 to 18446744073709551615"),
        (["a.png", "-o", "big.png", "--tile", "large"], 2, "is not auto, none or a number"),
        (["a.png", "-o", "big.png", "--tile", "15"], 2, "'15' is not auto, none or a number of pixels, at least 16"),
        (["a.png", "-o", "big.png", "--tile", "3"], 2, "16"),
        (["a.png", "-o", "out", "--name", "{size}.png"], 2, "cannot be filled in ('size')"),
        (["a.png", "-o", "out", "--name", "{stem}.png", "--samples", "2"], 2, "same name; add {sample}"),
        (["a.png", "-o", "big.png", "--name", "{stem}.png"], 2, "--name names the files of a directory"),
        (["a.png", "-o", "big.png", "--quality", "90"], 2, "PNG is lossless and has no quality"),
        (["a.png", "-o", "big.jpg", "--lossless"], 2, "JPEG cannot be lossless"),
        ([".", "-o", "big.png"], 2, "is a folder"),
        ([".", "-o", "."], 2, "would"),
        (["a.png", "-o", "big.png", "--max-pixels", "many"], 2, "is not a number, such as"),
        (["a.png", "-o", "big.png", "--max-pixels", "0"], 2, "is not a number, such as"),
        (["a.png", "-o", "big.png", "--shard", "4/3"], 2, "is not part I of N"),
        (["a.png", "-o", "big.png", "--shard", "0/3"], 2, "is not part I of N"),
        (["a.png", "-o", "big.png", "--report", "a.png"], 2, "would replace an input"),
        (["a.png", "-o", "out", "--scale", "0"], 2, "'0' is not a number above 0"),
        (["a.png", "-o", "out", "--scale", "nan"], 2, "'nan' is not a number above 0"),
        (["a.png", "-o", "out", "--scale", "4.1"], 2, "scale is 4.1, but the model tiny enlarges 4 times"),
        (["a.png", "-o", "out", "--size", "100"], 2, "'100' is not a size in pixels, such as 3840x (the width)"),
        (["a.png", "-o", "out", "--size", "x"], 2, "'x' is not a size"),
        (["a.png", "-o", "out", "--size", "0x9"], 2, "'0x9' is not a size"),
        (["a.png", "-o", "out", "--max-size", "-3"], 2, "'-3' is not a number of pixels"),
        (["a.png", "-o", "out", "--scale", "2", "--max-size", "9"], 2, "--size and --max-size all set the size"),
        (["a.png", "-o", "out", "--size", "9x", "--name", "{scale}.png"], 2, "cannot be filled in ('scale')"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(
    run: Run, folder: Path, arguments: list[str], status: int, says: str
) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    result = run(*arguments)
    assert result.exit_code == status
    assert says in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("command", [cli.upscale, cli.doctor])
def test_version(command: object) -> None:
    result = CliRunner().invoke(command, ["--version"])
    assert result.exit_code == 0
    assert version("srflow-sdk") in result.stdout


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


@pytest.mark.parametrize(("limit", "status"), [("2744", 1), ("2.745k", 0), ("3K", 0)])
def test_larger_inputs_than_allowed_are_refused(run: Run, limit: str, status: int) -> None:
    result = run("a.png", "-o", "big.png", "--max-pixels", limit)
    assert result.exit_code == status
    assert ("61×45" in result.stderr) == bool(status)
