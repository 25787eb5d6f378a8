"""srflow-upscale over folders: structure, shards, what an interrupt or a kill leaves, and what is
shown meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from srflow_apps.commands import cli
from srflow_sdk.files import read_image, write_image
from srflow_sdk.upscaler import Upscaler
from tests.sdk.conftest import UPSCALE
from tests.sdk.tiny_bundle import hidden_files

Run = Callable[..., Result]
Start = Callable[..., "subprocess.Popen[str]"]
PHOTOS = ("a.png", "b.png", "sub/a.png", "sub/deep/c.png")


@pytest.fixture
def photos(tmp_path: Path, photo: np.ndarray) -> Path:
    """A folder of four small photos, two of them in subfolders."""
    folder = tmp_path / "photos"
    for number, name in enumerate(PHOTOS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, photo[number : number + 12, :16])
    return folder


@pytest.fixture
def model(tiny_bundle: Path) -> list[str]:
    return ["--model", str(tiny_bundle), "--device", "cpu", "--threads", "1"]


@pytest.fixture
def run(model: list[str], photos: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """srflow-upscale, beside the folder of photos."""
    monkeypatch.chdir(photos.parent)
    return lambda *arguments: CliRunner().invoke(cli.upscale, [*arguments, *model])


@pytest.fixture
def start(model: list[str], photos: Path) -> Start:
    """The same as a process of its own."""

    def started(*arguments: str, **keywords: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", UPSCALE, *arguments, *model],
            cwd=photos.parent,
            # A shell starts background jobs with Ctrl-C ignored, and that is inherited.
            preexec_fn=None
            if os.name == "nt"
            else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **keywords},  # type: ignore[call-overload]
        )

    return started


def files(folder: Path | str) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()
    )


def pixels(folder: Path | str) -> dict[str, bytes]:
    return {name: read_image(Path(folder) / name).pixels.tobytes() for name in files(folder)}


def test_a_folder_is_taken_flat_or_whole_and_what_is_left_out_is_said(
    run: Run, photos: Path
) -> None:
    assert run("photos", "-o", "flat").stdout.split() == list(
        map(os.path.normpath, ["flat/a.png", "flat/b.png"])
    )
    for name in ("x.tga", "sub/y.svg", "sub/z.dng"):
        (photos / name).touch()
    for _ in range(2):  # outputs inside the folder are not taken as inputs
        result = run("photos", "-o", "photos/large", "--recursive")
        assert (result.exit_code, result.stdout.split()) == (
            0,
            [os.path.normpath(f"photos/large/{name}") for name in PHOTOS],
        )
        *left_out, summary = result.stderr.splitlines()
        ends = "which is not read; convert it to PNG or TIFF"
        assert sorted(left_out) == [
            f"left out: 1 {name}, {ends}" for name in ("SVG", "TGA", "camera raw")
        ]
        assert summary == "4 done, 0 skipped, 0 failed"
    assert files("photos/large") == list(PHOTOS)


def _large(photos: Path, photo: np.ndarray) -> None:
    """Make one of the photos take hundreds of tiles, so that whatever is sent arrives while it is
    being made."""
    write_image(photos / "b.png", np.tile(photo, (10, 10, 1)))


def test_after_a_kill_resume_gives_what_an_undisturbed_run_gives(
    run: Run, start: Start, photos: Path, photo: np.ndarray, upscaler: Upscaler
) -> None:
    _large(photos, photo)
    arguments = ["photos", "-o", "out", "--recursive"]
    process = start(*arguments, "--tile", "16")
    assert process.stdout is not None
    assert process.stdout.readline() == os.path.normpath("out/a.png\n")
    process.kill()
    process.communicate(timeout=60)
    out = Path("out")
    assert [name for name in files(out) if not Path(name).name.startswith(".")] == ["a.png"]
    first = out.joinpath("a.png").stat().st_mtime_ns

    result = run(*arguments, "--resume")
    assert (result.exit_code, result.stderr) == (0, "3 done, 1 skipped, 0 failed\n")
    assert out.joinpath("a.png").stat().st_mtime_ns == first
    assert not hidden_files(out)
    assert run("photos", "-o", "undisturbed", "--recursive").exit_code == 0
    assert pixels("out") == pixels("undisturbed")


@pytest.mark.not_on_windows("signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_whole_files_only_and_says_how_to_go_on(
    run: Run, start: Start, photos: Path, photo: np.ndarray, number: signal.Signals
) -> None:
    _large(photos, photo)
    process = start("photos", "-o", "out", "--recursive", "--tile", "16", "--report", "report.json")
    assert process.stdout is not None
    assert process.stdout.readline() == os.path.normpath("out/a.png\n")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    end = "interrupted: 1 of 4 done; the same command with --resume makes what is missing"
    assert [line for line in stderr.splitlines() if not line.startswith("warning: ")] == [end]
    assert files("out") == ["a.png"]
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert report["summary"] == {
        "inputs": 4,
        "done": 1,
        "skipped": 0,
        "failed": 0,
        "interrupted": True,
    }
    assert [file["source"] for file in report["files"]] == ["photos/a.png"]

    _, *rest = PHOTOS
    write_image("photos/b.png", photo[:12, :16])  # a small one again: this is about going on
    assert run("photos", "-o", "out", "--recursive", "--resume").stdout.split() == [
        os.path.normpath(f"out/{name}") for name in rest
    ]


@pytest.mark.not_on_windows("pseudo-terminals")
def test_progress_on_a_terminal_shows_images_tiles_and_percent_and_errors_on_lines_of_their_own(
    start: Start, photos: Path, photo: np.ndarray
) -> None:
    import pty

    write_image(photos / "b.png", photo)
    (photos / "bad.png").write_bytes(b"not a picture")
    (photos / "c\x1b[31m.png").write_bytes((photos / "b.png").read_bytes())
    terminal, end = pty.openpty()
    process = start("photos", "-o", "out", "--tile", "16", stdout=end, stderr=end)
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # Linux ends a terminal so, macOS with no bytes
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    process.wait(timeout=60)
    text = shown.decode().replace("\x1b[K", "")
    assert "[2/4] b.png tile 2/12" in text
    assert text.count("%") > 6, "the bar moves with the tiles"
    assert "100%" in text
    lines = text.splitlines()
    assert any(line.startswith("error: photos/bad.png: ") for line in lines)
    assert {"out/a.png", "out/b.png", "3 done, 0 skipped, 1 failed"} <= set(lines)
    assert "\x1b[31m" not in text


@pytest.mark.skipif(os.name != "nt", reason="elsewhere, the shell expands patterns")
def test_a_command_expands_patterns_where_its_shell_does_not(start: Start, photos: Path) -> None:
    start(rf"\\?\{photos}\a.png", r"photos\?.png", "-o", "out").communicate()
    assert files(photos.parent / "out") == ["a.png", "b.png"]
    process = start(r"photos\*.jpg")
    assert process.communicate()[1].splitlines()[-1] == r"Error: nothing matches photos\*.jpg"
    assert process.returncode == 2
