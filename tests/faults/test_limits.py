"""Threads that cannot be started: one line that says what is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="Windows has no limits on processes")

import resource

from tests.sdk.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="macOS does not hold processes to RLIMIT_AS")
PHOTO = Path(__file__).parents[2] / "examples" / "photos" / "cat.png"
NO_ROOM = "import threading; threading.stack_size(8 << 30)\n"  # for the stack of one more thread
COMMAND = "from srflow_apps.commands.cli import upscale; upscale()"
CALL = """
from srflow_sdk import DeviceError, Upscaler
with Upscaler(sys.argv[-1], device="cpu", threads=1) as upscaler:
    try:
        upscaler.upscale_file(sys.argv[1], "large.png")
    except DeviceError as error:
        sys.exit(str(error))
"""


@pytest.mark.parametrize(
    "program", [NO_ROOM + COMMAND, f"import sys{CALL.replace('    try', '    ' + NO_ROOM + '    try')}"]
)
def test_a_thread_that_cannot_be_started_is_one_line_with_what_is_needed(program: str, tmp_path: Path) -> None:
    model = write_tiny_bundle(tmp_path / "tiny.srflow")
    options = ["-o", "large.png", "--device", "cpu", "--threads", "1", "--quiet", "--model", model]
    done = subprocess.run(
        [sys.executable, "-c", program, PHOTO, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (4_000_000_000,) * 2),
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert "the system starts no more threads for this process: raise its limits" in line
    assert list(tmp_path.iterdir()) == [model]
