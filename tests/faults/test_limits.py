"""Threads that cannot be started: one line that says what is needed."""

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
MB = 1_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_bundle(tmp_path / "tiny.srflow")
    return tmp_path


def without_progress(errors: str) -> list[str]:
    """Lines of standard error that are no progress, of which a slow machine sees some."""
    return [line for line in errors.splitlines() if line != "preparing" and not line.endswith("%")]


def run(folder: Path) -> Ended:
    arguments = [PHOTO, "-o", "large.png", "--model", "tiny.srflow", "--device", "cpu", "--threads", "1"]
    return run_command("srflow-upscale", arguments, folder=folder, limits={resource.RLIMIT_AS: 4000 * MB})


def test_a_thread_that_cannot_be_started_is_one_line_with_what_is_needed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks = "import threading; threading.stack_size(8 << 30); "  # no room for one of these
    monkeypatch.setitem(commands.PROGRAMS, "srflow-upscale", stacks + commands.PROGRAMS["srflow-upscale"])
    ended = run(folder)
    (line,) = without_progress(ended.errors)
    assert ended.status == 1
    assert "the system starts no more threads for this process: raise its limits" in line
    assert {path.name for path in folder.iterdir()} - {"cache"} == {"tiny.srflow"}


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
