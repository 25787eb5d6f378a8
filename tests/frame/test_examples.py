"""Examples that need what a developer's environment may lack: Ray on this machine; VapourSynth's wheels and Python."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .bare_environment import ROOT, make_environment_of

ENVIRON = {
    "RAY_ADDRESS": "local",  # else Ray joins any cluster that runs on this machine, one of another test too
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),  # so that workers find what this process finds
    "RAY_USAGE_STATS_ENABLED": "0",
}


@pytest.mark.slow
def test_a_table_of_files_becomes_a_table_of_results(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    with (tmp_path / "photos.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "target"])
        writer.writerows([tmp_path / name, tmp_path / "large" / name] for name in ("a.png", "bad.png"))
    command = [sys.executable, ROOT / "examples" / "ray_batch.py", tmp_path / "photos.csv", tmp_path / "made"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env={**os.environ, **ENVIRON})
    assert done.returncode == 0, done.stderr
    rows = [row for path in (tmp_path / "made").glob("*.csv") for row in csv.DictReader(path.open(newline=""))]
    assert {Path(row["source"]).name: row["status"] for row in rows} == {"a.png": "done", "bad.png": "failed"}
    assert any("this is not an image file" in row["error"] for row in rows)
    assert Image.open(tmp_path / "large" / "a.png").size == (40, 48)


@pytest.mark.slow
def test_its_tests_pass_with_vapoursynths_wheels(wheel: Path, tmp_path: Path) -> None:
    packages = ("pytest>=8.3", "vapoursynth", "vapoursynth-bestsource")
    commands = make_environment_of("3.13", tmp_path / "env", wheel, *packages)
    # By itself: the wheel instead of the tree, and none of the packages that the other tests need.
    options = ["--noconftest", "--import-mode=importlib", "-p", "no:cacheprovider"]
    command = [commands / "python", "-m", "pytest", *options, ROOT / "tests/examples/test_vapoursynth.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
