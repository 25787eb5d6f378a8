"""Printing where nothing can be printed: standard output and standard error that are full, closed or gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srflow_sdk.files import read_image, write_image
from tests.sdk.conftest import UPSCALE

COMMAND = [sys.executable, "-c", UPSCALE]


@pytest.fixture
def folder(tmp_path: Path, photo: np.ndarray) -> Path:
    """Two photos, a.png and b.png."""
    write_image(tmp_path / "a.png", photo)
    write_image(tmp_path / "b.png", photo[::-1])
    return tmp_path


def _printing_to(stdout: Any, folder: Path, bundle: Path) -> tuple[int, str]:
    """Exit status and standard error of a process that makes two pictures, which are looked for."""
    command = [*COMMAND, "a.png", "b.png", "-o", "out", "--model", str(bundle), "--device", "cpu"]
    process = subprocess.Popen(command, cwd=folder, stdout=stdout, stderr=subprocess.PIPE, text=True)
    if process.stdout is not None:
        process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    status = process.wait(timeout=60)
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["a.png", "b.png"]
    return status, said


def test_a_closed_pipe_is_quiet_and_does_not_end_the_batch(tiny_bundle: Path, folder: Path) -> None:
    assert _printing_to(subprocess.PIPE, folder, tiny_bundle) == (1, "2 done, 0 skipped, 0 failed\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_names_that_cannot_be_printed_do_not_end_the_batch(tiny_bundle: Path, folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        status, said = _printing_to(full, folder, tiny_bundle)
        usage = subprocess.run([*COMMAND, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert status == 1
    error, summary = said.splitlines()
    assert error == "error: the files were written, but their names cannot be printed: No space left on device"
    assert summary == "2 done, 0 skipped, 0 failed"
    error = "error: standard output cannot be written: No space left on device\n"
    assert (usage.returncode, usage.stderr) == (1, error)


@pytest.mark.skipif(os.name != "posix", reason="the shell's redirections")
@pytest.mark.parametrize(("closed", "status"), [(">&-", 1), ("2>&-", 0), ("<&- >&- 2>&-", 1)])
def test_closed_standard_streams_do_not_end_the_batch(
    tiny_bundle: Path, folder: Path, closed: str, status: int
) -> None:
    command = [*COMMAND, "a.png", "b.png", "-o", "out", "--model", str(tiny_bundle), "--device", "cpu"]
    shell = ["sh", "-c", f'"$@" {closed}', "sh", *command]
    result = subprocess.run(shell, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == status
    assert "Traceback" not in result.stderr
    assert all(read_image(folder / "out" / name).pixels.size for name in ("a.png", "b.png"))
