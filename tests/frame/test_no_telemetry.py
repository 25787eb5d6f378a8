"""Nothing that the SDK loads reports to anybody, or writes outside of what docs/faq.md and
SECURITY.md name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

SCRIPT = """
from srflow_sdk import Upscaler
with Upscaler(device="cpu", threads=1) as up:
    up.upscale_file("photo.png", "large.png")
"""


def test_a_picture_leaves_nothing_of_onnx_runtimes_telemetry_at_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    work = tmp_path / "work"
    for folder in (home, work, home / "temporary"):
        folder.mkdir()
    Image.new("RGB", (16, 16), "olive").save(work / "photo.png")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ORT_", "XDG_", "SRFLOW_"))
    }
    environment = {**kept, "HOME": str(home), "TMPDIR": str(home / "temporary")}
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=work, env=environment, check=True)
    written = {path.relative_to(home).parts[:2] for path in home.rglob("*") if path.is_file()}
    assert written <= {(".cache", "srflow-sdk")}
