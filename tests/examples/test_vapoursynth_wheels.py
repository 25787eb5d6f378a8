"""The tests of examples/vapoursynth, in an environment of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.frame.bare_environment import make_environment_of
from tests.frame.conftest import built

__all__ = ["built"]


@pytest.mark.slow
def test_the_tests_of_vapoursynth_pass_with_its_wheels(built: Path, tmp_path: Path) -> None:
    """Which a developer's environment may lack, and its Python."""
    packages = ("pytest>=8.3", "vapoursynth", "vapoursynth-bestsource")
    commands = make_environment_of("3.13", tmp_path / "env", next(built.glob("*.whl")), *packages)
    # By itself: the wheel instead of the tree, and none of the packages that the other tests need.
    options = ["--noconftest", "--import-mode=importlib", "-p", "no:cacheprovider"]
    tests = Path(__file__).with_name("test_vapoursynth.py")
    command = [commands / "python", "-m", "pytest", *options, tests]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
