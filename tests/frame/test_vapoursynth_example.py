"""tests/examples/test_vapoursynth.py on a Python that VapourSynth has wheels for, which need not be the developer's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .bare_environment import ROOT, make_environment_of


@pytest.mark.slow
def test_its_tests_pass_with_vapoursynths_wheels(wheel: Path, tmp_path: Path) -> None:
    packages = ("pytest>=8.3", "vapoursynth", "vapoursynth-bestsource")
    commands = make_environment_of("3.13", tmp_path / "env", wheel, *packages)
    # By itself: the wheel instead of the tree, and none of the packages that the other tests need.
    options = ["--noconftest", "--import-mode=importlib", "-p", "no:cacheprovider"]
    command = [commands / "python", "-m", "pytest", *options, ROOT / "tests/examples/test_vapoursynth.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
