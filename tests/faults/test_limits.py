"""Little address space (ulimit -v), and threads that cannot be started: one line that says what is needed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="Windows has no limits on processes")

import resource

from tests.faults import commands
from tests.faults.commands import Ended, run_command
from tests.sdk.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="macOS does not hold processes to RLIMIT_AS")
PHOTO = Path(__file__).parents[2] / "examples" / "photos" / "cat.png"
CHECKPOINT = Path(__file__).parents[1] / "golden" / "srflow_x4_small.npz"  # only has to exist: memory is judged first
MB = 1_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_bundle(tmp_path / "tiny.srflow")
    return tmp_path


def without_progress(errors: str) -> list[str]:
    """Lines of standard error that are no progress, of which a slow machine sees some."""
    return [line for line in errors.splitlines() if line != "preparing" and not line.endswith("%")]


def run(program: str, folder: Path, megabytes: int) -> Ended:
    arguments = {
        "srflow-upscale": [PHOTO, "-o", "large.png", "--model", "tiny.srflow", "--device", "cpu", "--threads", "1"],
        "srflow-doctor": [],
        "srflow-export": [CHECKPOINT, "-o", "m.srflow"],
        "srflow-train": ["--config", "x4-small", "--data", PHOTO.parent, "--out", "run"],
    }[program]
    return run_command(program, arguments, folder=folder, limits={resource.RLIMIT_AS: megabytes * MB})


@pytest.mark.parametrize(
    ("program", "megabytes"),
    [
        ("srflow-upscale", 200),
        ("srflow-upscale", 420),  # libvips would end the process
        ("srflow-upscale", 720),  # threads could not be started
        ("srflow-doctor", 200),
        ("srflow-export", 300),
        ("srflow-export", 600),
        ("srflow-export", 1500),
        ("srflow-train", 600),
    ],
)
def test_too_little_address_space_is_one_line_with_what_is_needed(folder: Path, program: str, megabytes: int) -> None:
    ended = run(program, folder, megabytes)
    (line,) = without_progress(ended.errors)
    assert ended.status == 1
    assert line.startswith("error: ")
    assert "GB of address space, but the limit on this process leaves" in line
    assert line.endswith("raise it (ulimit -v unlimited)")
    assert [path.name for path in folder.iterdir()] == ["tiny.srflow"]


def test_a_little_more_than_what_is_needed_is_enough(folder: Path) -> None:
    ended = run("srflow-upscale", folder, 1200)
    assert (ended.status, without_progress(ended.errors)) == (0, [])
    assert (folder / "large.png").exists()


def test_a_thread_that_cannot_be_started_is_one_line_with_what_is_needed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks = "import threading; threading.stack_size(8 << 30); "  # no room for one of these
    monkeypatch.setitem(commands.PROGRAMS, "srflow-upscale", stacks + commands.PROGRAMS["srflow-upscale"])
    ended = run("srflow-upscale", folder, 4000)
    (line,) = without_progress(ended.errors)
    assert ended.status == 1
    assert "the system starts no more threads for this process (can't start new thread), which needs about" in line
    assert [path.name for path in folder.iterdir()] == ["tiny.srflow"]


def test_an_array_that_is_upscaled_where_no_thread_can_be_started_is_a_device_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = """
import threading
from srflow_sdk import DeviceError, Upscaler
with Upscaler("tiny.srflow", device="cpu", threads=1) as upscaler:
    threading.stack_size(8 << 30)
    try:
        upscaler.upscale_file({photo!r}, "large.png")
    except DeviceError as error:
        print(error)
"""
    monkeypatch.setitem(commands.PROGRAMS, "srflow-upscale", program.format(photo=str(PHOTO)))
    ended = run_command("srflow-upscale", [], folder=folder, limits={resource.RLIMIT_AS: 4000 * MB})
    assert ended.errors == ""
    assert ended.output.startswith("the system starts no more threads for this process")
