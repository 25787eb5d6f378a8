from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .bare_environment import ROOT


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Without the variables of a make that runs these tests: they would change what the inner make prints.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    return subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("python", "says"),
    [
        (None, "is not on the PATH"),
        ('case "$1" in --version) echo Python 3.8.1;; *) exit 1;; esac', "Python 3.8.1 is too old: use 3.10 or newer"),
        ('case "$2" in *version_info*) exit 0;; *) exit 1;; esac', "apt install python3-venv"),
    ],
)
def test_a_python_that_will_not_do_is_one_clear_line(tmp_path: Path, python: str | None, says: str) -> None:
    script = tmp_path / "python"
    if python is not None:
        script.write_text(f"#!/bin/sh\n{python}\n")
        script.chmod(0o755)
    done = make(f"PYTHON={script}", f"VENV={tmp_path / 'venv'}", "demo")
    error, _make_itself = done.stderr.splitlines()
    assert done.returncode != 0
    assert error.startswith("error: ")
    assert says in error
    assert not (tmp_path / "venv").exists()
