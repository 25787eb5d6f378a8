"""srflow-upscale: its outputs and their names, what it says, what it would do (--dry-run), and what
it refuses."""

from __future__ import annotations

import errno
import os
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
from srflow_apps.commands.cli import transfer, upscale
from srflow_sdk.files import read_image, write_image
from srflow_sdk.upscaler import Upscaler
from tests.sdk.tiny_bundle import hidden_files

Run = Callable[..., Result]


def test_a_photo_becomes_what_the_upscaler_makes_of_it(
    run: Run, upscaler: Upscaler, photo: np.ndarray
) -> None:
    result = run("a.png", "-o", "big.png", "--tau", "0.5", "--seed", "3")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "big.png\n"
    assert np.array_equal(read_image("big.png").pixels, upscaler.upscale(photo, tau=0.5, seed=3))


def test_one_bad_file_does_not_stop_the_others(run: Run) -> None:
    result = run("a.png", "bad.png", "missing.png", "b.png", "-o", "out", "--samples", "2")
    assert result.exit_code == 1
    assert result.stdout.split() == [
        os.path.normpath(f"out/{name}.png") for name in ("a_s0", "a_s1", "b_s0", "b_s1")
    ]
    bad, missing, summary = result.stderr.splitlines()
    assert bad.startswith("error: bad.png: ")
    assert missing.startswith("error: missing.png: ")
    assert summary == "2 done, 0 skipped, 2 failed"


def test_quiet_prints_only_warnings_and_errors(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srflow_apps.batch.display.FIRST_AFTER_S", 0)
    result = run("a.png", "bad.png", "-o", "out", "--report", "report.json", "--quiet")
    assert (result.exit_code, result.stdout) == (1, "")
    # an output far from its input is one
    warning, error = sorted(result.stderr.splitlines(), reverse=True)
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
    assert result.stdout == os.path.normpath("out/a-t0.8-7.jpg\n")
    assert Image.open("out/a-t0.8-7.jpg").format == "JPEG"


def test_files_that_exist_are_left_alone_if_asked(run: Run) -> None:
    Path("out").mkdir()
    Path("out/a.png").write_bytes(b"mine")
    result = run("a.png", "b.png", "-o", "out", "--no-overwrite")
    assert (result.exit_code, result.stdout) == (0, os.path.normpath("out/b.png\n"))
    assert result.stderr == "1 done, 1 skipped, 0 failed\n"
    assert Path("out/a.png").read_bytes() == b"mine"
    result = run("a.png", "-o", "out/a.png", "--no-overwrite")
    assert (result.exit_code, result.stderr) == (0, "0 done, 1 skipped, 0 failed\n")
    assert run("a.png", "-o", "out/a.png").exit_code == 0
    assert Path("out/a.png").read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["-o", "big.png"], 2, "there are no inputs"),
        (["a.png", "-o", ""], 2, "is empty; name a file or a folder"),
        (
            ["a.png", "-o", "\x1b[31mbig.bmp"],
            2,
            "\N{REPLACEMENT CHARACTER}[31mbig.bmp",
        ),
        (["a.png", "-o", "a.png"], 2, "would overwrite the input"),
        (
            ["a.png", "-o", "big.bmp"],
            2,
            "the ending of the name sets the format",
        ),
        (["a.png", "-o", "big.png", "--tau", "nan"], 2, "tau is nan"),
        (["a.png", "-o", "big.png", "--samples", "0"], 2, "--samples"),
        (
            ["a.png", "-o", "big.png", "--seed", str(1 << 64)],
            2,
            "from 0 to 18446744073709551615",
        ),
        (
            ["a.png", "-o", "big.png", "--tile", "15"],
            2,
            "'15' is not auto, none or a number from 16 on",
        ),
        (
            ["a.png", "-o", "big.png", "--shard", "4/3"],
            2,
            "is not part I of N",
        ),
        (
            ["a.png", "-o", "out", "--scale", "0"],
            2,
            "'0' is not a number above 0",
        ),
        (
            ["a.png", "-o", "out", "--size", "100"],
            2,
            "'100' is not a size in pixels, such as",
        ),
        (
            ["a.png", "-o", "out", "--max-size", "-3"],
            2,
            "-3 is not in the range",
        ),
        (
            ["a.png", "-o", "big.png", "--quality", "90"],
            2,
            "PNG is lossless and has no quality",
        ),
        (
            ["a.png", "-o", "big.jpg", "--lossless"],
            2,
            "JPEG cannot be lossless",
        ),
        ([".", "-o", "."], 2, "would"),
        (
            ["a.png", "-o", "big.png", "--max-pixels", "many"],
            2,
            "is not a number, such as",
        ),
        (
            ["a.png", "-o", "big.png", "--report", "a.png"],
            2,
            "would replace an input",
        ),
        (
            ["a.png", "-o", "out", "--scale", "4.1"],
            2,
            "scale is 4.1, but the model tiny enlarges 4 times",
        ),
        (
            ["a.png", "-o", "out", "--scale", "2", "--max-size", "9"],
            2,
            "--size and --max-size all set the size",
        ),
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


@pytest.mark.not_on_windows("names have no escapes")
def test_names_are_shown_without_what_a_terminal_would_obey(run: Run, photo: np.ndarray) -> None:
    write_image("good\x1b[31m.png", photo)
    Path("bad\x1b[31m.png").write_bytes(b"not a picture")
    result = run("good\x1b[31m.png", "bad\x1b[31m.png", "-o", "out")
    assert result.stdout == "out/good\x1b[31m.png\n", "programs read this"
    assert "\x1b" not in result.stderr
    assert result.stderr.startswith("error: bad\N{REPLACEMENT CHARACTER}[31m.png: ")


def test_a_full_disk_ends_the_batch_and_says_how_to_go_on(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("srflow_sdk.engine.Engine.upscale_file", full)
    result = run("a.png", "b.png", "bad.png", "-o", "out")
    assert result.exit_code == 1
    *errors, last = result.stderr.splitlines()
    assert errors[0] == "error: a.png: No space left on device"
    assert last == (
        "stopped because the disk is full: 0 of 3 done; free space, then run the same command "
        "with --resume"
    )


def test_a_format_that_cannot_hold_the_alpha_is_refused_before_the_work(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGBA", (8, 8)).save("alpha.png")
    monkeypatch.setattr(
        "srflow_sdk.drawing.painter.Painter.draw", lambda *_, **__: pytest.fail("it went to work")
    )
    result = run("alpha.png", "-o", "out.jpg")
    assert result.exit_code == 1
    assert "no transparency" in result.stderr


@pytest.mark.parametrize(("limit", "status"), [("2744", 1), ("2.745k", 0), ("3K", 0)])
def test_larger_inputs_than_allowed_are_refused(run: Run, limit: str, status: int) -> None:
    result = run("a.png", "-o", "big.png", "--max-pixels", limit)
    assert result.exit_code == status
    assert ("61×45" in result.stderr) == bool(status)


def test_a_part_that_has_no_input_is_nothing_to_do(run: Run) -> None:
    parts = [run("a.png", "-o", "out/", "--shard", part) for part in ("1/2", "2/2")]
    assert [part.exit_code for part in parts] == [0, 0]
    assert sum("nothing to do" in part.stderr for part in parts) == 1


def everything(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_dry_run_says_what_would_be_made_and_writes_nothing(run: Run, folder: Path) -> None:
    before = everything(folder)
    result = run(".", "-o", "out", "--samples", "2", "--report", "r.json", "--dry-run")
    first, second, last = result.stdout.splitlines()
    assert first == os.path.normpath("a.png (61×45) -> out/a_s0.png, out/a_s1.png (244×180)")
    assert second.startswith("b.png (61×45) -> ")
    assert last.startswith("dry run, nothing was written: 2 to upscale, 0 to skip, 1 would fail")
    assert result.stderr == "error: bad.png: this is not an image file in a supported format\n"
    assert result.exit_code == 1
    assert everything(folder) == before


def test_a_dry_run_says_what_resume_would_skip_and_what_would_be_replaced(run: Run) -> None:
    run("a.png", "b.png", "-o", "out")
    Path("out", "b.png").write_bytes(b"broken")
    result = run("a.png", "b.png", "-o", "out", "--resume", "--dry-run")
    first, second, last = result.stdout.splitlines()
    assert first == "a.png: would be skipped"
    assert second == os.path.normpath(
        "b.png (61×45) -> out/b.png (244×180), replacing what is there"
    )
    assert last.endswith(": 1 to upscale, 1 to skip, 0 would fail")
    assert result.exit_code == 0
    assert Path("out", "b.png").read_bytes() == b"broken"
    result = run("a.png", "b.png", "-o", "out", "--no-overwrite", "--dry-run")
    assert result.stdout.splitlines()[-1] == (
        "dry run, nothing was written: 0 to upscale, 2 to skip, 0 would fail"
    )


@pytest.fixture
def photos(folder: Path) -> Path:
    """A folder of two photos, in the current directory."""
    (folder / "photos").mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).rename(folder / "photos" / name)
    (folder / "bad.png").unlink()
    return folder / "photos"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["a.png"], ["a_x4.png"]),
        (["a.png", "--size", "40x", "--tau", "0.4"], ["a_40x_tau0.4.png"]),
        (["a.png", "--max-size", "40", "--tau", "auto"], ["a_max40.png"]),
        (
            ["a.png", "--samples", "2", "--sample", "3", "--format", "webp"],
            ["a_x4_s3.webp", "a_x4_s4.webp"],
        ),
        (["photos/", "--scale", "2"], ["photos_x2/a.png", "photos_x2/b.png"]),
    ],
)
def test_names_say_what_was_asked_for(
    arguments: list[str], names: list[str], run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent if arguments[0].startswith("photos") else photos)
    before = {*photos.parent.rglob("*.*")}
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    made = {*photos.parent.rglob("*.*")} - before
    assert sorted(path.relative_to(Path.cwd()).as_posix() for path in made) == names


def test_no_file_is_replaced_and_those_with_the_same_settings_are_kept(
    run: Run, photos: Path
) -> None:
    made = photos / "a_x4.png"
    assert run("photos/a.png").exit_code == 0
    first = made.read_bytes()
    for again in ([], ["--seed", "1", "--resume"], ["--dry-run"]):
        result = run("photos/a.png", *again)
        assert result.exit_code == 1
        assert (
            os.path.normpath("photos/a_x4.png exists; remove it, or name it with -o")
            in result.stderr
        )
    for kept in ("--resume", "--no-overwrite"):
        assert "1 skipped" in run("photos/a.png", kept).stderr
    assert made.read_bytes() == first
    assert run("photos/a.png", "--tau", "0", "-o", "photos/a_x4.png").exit_code == 0
    assert made.read_bytes() != first
    assert hidden_files(photos) == []


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_folder_does_not_enlarge_its_own_outputs_again(
    run: Run, photos: Path, ending: str
) -> None:
    assert run("photos/a.png", "-o", f"photos/a_x4.{ending}").exit_code == 0
    left = run("photos")
    assert sorted(path.name for path in Path("photos_x4").iterdir()) == ["a.png", "b.png"]
    assert (
        "left out: 1 of srflow-upscale's own outputs; it takes those that are named" in left.stderr
    )
    assert run(f"photos/a_x4.{ending}", "-o", "again.png").exit_code == 0  # what is named is meant
    assert run("photos_x4").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-"], "- is standard input, which lies in no folder; name the output"),
        (["photos", "photos/a.png"], "the inputs are several folders, or lie in several"),
        (["photos/a.png", "c.png"], "the inputs are several folders, or lie in several"),
        (["photos/a.png", "--name", "{stem}.png"], "would overwrite the input"),
        (
            ["--from-output", "photos/a.png"],
            "--from-output makes a picture again; name the file for it with -o",
        ),
    ],
)
def test_where_there_is_no_place_beside_the_fix_is_one_line(
    arguments: list[str], says: str, run: Run, photos: Path
) -> None:
    Path("c.png").write_bytes((photos / "a.png").read_bytes())
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr.splitlines()[-1]


EMPTY = "is empty; name a file"


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        (upscale, ["", "-o", "x"], EMPTY),
        (upscale, ["a.png", "-o", "x.png", "--report", ""], EMPTY),
        (upscale, ["a.png", "-o", "x.png", "--report", "-"], "it must be a file; name it"),
        (upscale, ["a.png", "-o", "x.png", "--model", ""], EMPTY),
        (upscale, ["a.png", "-o", "x.png", "--model", "s3://b/m.srflow"], "s3://b/m.srflow"),
        (transfer, ["a.png", "", "a.png", "-o", "x.png"], EMPTY),
        (transfer, ["https://a.b/c.png", "a.png", "a.png", "-o", "x.png"], "https://a.b/c.png"),
    ],
)
def test_they_are_wrong_usage_in_one_line_and_nothing_is_written(
    command, arguments, says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert says in result.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_files_url_is_its_path(tmp_path: Path) -> None:
    result = CliRunner().invoke(transfer, [f"file://{tmp_path}/a.png"] * 3 + ["-o", "x.png"])
    assert f"error: {tmp_path / 'a.png'}: there is no such file" in result.stderr
    (tmp_path / "a.png").write_bytes(b"")
    result = CliRunner().invoke(
        upscale, [f"{tmp_path}/a.png", "-o", "x.png", "--model", f"file://{tmp_path}/m.srflow"]
    )
    assert f"error: {tmp_path / 'm.srflow'}: there is no such bundle" in result.stderr
