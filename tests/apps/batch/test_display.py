"""What a batch shows: names on standard output, progress and errors on standard error, and streams
that are broken."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srflow_apps.batch import display as display_module
from srflow_apps.batch.display import Display
from srflow_apps.batch.jobs import Job
from srflow_apps.batch.results import FolderFile
from srflow_apps.batch.run import BatchProgress
from srflow_sdk.files import write_image
from tests.sdk.conftest import UPSCALE

FIRST_AFTER_S = display_module.FIRST_AFTER_S  # before a fixture of all tests switches the lines off
COMMAND = [sys.executable, "-c", UPSCALE]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, of which a test is the clock."""
    time = [1000.0]
    monkeypatch.setattr(display_module, "FIRST_AFTER_S", FIRST_AFTER_S)
    monkeypatch.setattr("time.monotonic", lambda: time[0])
    monkeypatch.setattr("time.time", lambda: time[0])
    return time


def test_without_a_terminal_a_line_says_now_and_then_how_far_it_is(
    jobs: list[Job], now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    said = list[str]()
    names = [job.source.name for job in jobs]

    def lines() -> list[str]:
        said.extend(capsys.readouterr().err.splitlines())
        return said

    with Display() as display:
        display.begin(names, lambda: BatchProgress.of(jobs, max_pixels=10_000))
        now[0] += 1.9
        display.show_progress(1, 1, 6)
        assert lines() == []
        now[0] += 1
        display.show_progress(1, 3, 6)
        # of 12, 13 and 14 rows
        assert lines().pop().startswith("[1/3] a.png tile 3/6, 15%, about 00:00:")
        now[0] += 9
        display.show_progress(1, 4, 6)
        assert lines() == [], "ten seconds pass from one to the next"
        now[0] += 1
        display.show_result(
            1, FolderFile(source=jobs[0].source, targets=jobs[0].targets, status="skipped")
        )
        assert lines().pop().startswith("[2/3] b.png, 22%, about "), "what is skipped takes no time"
    with Display() as display:
        display.begin(["large.png"])
        now[0] += 2
        display.show_progress(1, 1, 1000)
        assert lines().pop().startswith("large.png tile 1/1000, about 00:"), (
            "no 0%, which stays for long"
        )
    with Display(quiet=True) as display:
        display.begin(names)
        now[0] += 99
        display.show_progress(1, 1, 2)
        assert lines() == []


@pytest.fixture
def folder(tmp_path: Path, photo: np.ndarray) -> Path:
    """Two photos, a.png and b.png."""
    write_image(tmp_path / "a.png", photo)
    write_image(tmp_path / "b.png", photo[::-1])
    return tmp_path


def _printing_to(stdout: Any, folder: Path, bundle: Path) -> tuple[int, str]:
    """Exit status and standard error of a process that makes two pictures, which are looked for."""
    command = [*COMMAND, "a.png", "b.png", "-o", "out", "--model", str(bundle), "--device", "cpu"]
    process = subprocess.Popen(
        command, cwd=folder, stdout=stdout, stderr=subprocess.PIPE, text=True
    )
    if process.stdout is not None:
        process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    status = process.wait(timeout=60)
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["a.png", "b.png"]
    return status, said.replace("Failed to create DXGI factory.\n", "")  # ONNX Runtime, under Wine


def test_a_warning_about_a_file_that_is_opened_twice_is_shown_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Display():
        for name in ("a.png", "a.png", "b.png"):
            logging.getLogger("srflow_sdk.files").warning("%s: EXIF block left out", name)
    assert capsys.readouterr().err.splitlines() == [
        f"warning: {name}.png: EXIF block left out" for name in "ab"
    ]


def test_a_closed_pipe_is_quiet_and_does_not_end_the_batch(tiny_bundle: Path, folder: Path) -> None:
    assert _printing_to(subprocess.PIPE, folder, tiny_bundle) == (
        1,
        "2 done, 0 skipped, 0 failed\n",
    )


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has a disk that is always full")
def test_names_that_cannot_be_printed_do_not_end_the_batch(tiny_bundle: Path, folder: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        status, said = _printing_to(full, folder, tiny_bundle)
        usage = subprocess.run(
            [*COMMAND, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert status == 1
    error, summary = said.splitlines()
    assert error == (
        "error: the files were written, but their names cannot be printed: No space left on device"
    )
    assert summary == "2 done, 0 skipped, 0 failed"
    error = "error: standard output cannot be written: No space left on device\n"
    assert (usage.returncode, usage.stderr) == (1, error)


@pytest.mark.parametrize("option", ["--dry-run", "--no-overwrite", "--help"])
def test_characters_that_the_stream_lacks_are_escaped(
    tiny_bundle: Path, folder: Path, option: str
) -> None:
    """A redirected stream of Windows holds what its code page has."""
    (folder / "a.png").rename(folder / "τ 写真.png")
    command = [
        *COMMAND,
        "τ 写真.png",
        "b.png",
        "-o",
        "out",
        "--model",
        str(tiny_bundle),
        "--device",
        "cpu",
        option,
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    if option == "--dry-run" or (option == "--no-overwrite" and os.name == "nt"):
        assert rb"\u03c4 \u5199\u771f.png" in done.stdout
