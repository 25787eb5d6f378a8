from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .bare_environment import ROOT


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Without the variables of a make that runs these tests: they would change what the inner make
    # prints.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("python", "says"),
    [
        (None, "is not on the PATH"),
        (
            'case "$1" in --version) echo Python 3.8.1;; *) exit 1;; esac',
            "Python 3.8.1 is too old: use 3.10 or newer",
        ),
        ('case "$2" in *version_info*) exit 0;; *) exit 1;; esac', "apt install python3-venv"),
    ],
)
def test_a_python_that_will_not_do_is_one_clear_line(
    tmp_path: Path, python: str | None, says: str
) -> None:
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


def test_the_gpus_report_has_plugins_without_an_nvcc_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "python"
    calls = tmp_path / "calls"
    script.write_text(f'#!/bin/sh\necho "$*" >> {calls}\necho onnxruntime-gpu==1\n')
    script.chmod(0o755)
    for tool in ("grep", "rm"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    done = make(f"VENV={tmp_path}", f"PATH={tmp_path}", "gpu-report")
    assert done.returncode == 0, done.stderr
    assert calls.read_text().splitlines()[-2:] == [
        "-m srflow_export.native tensorrt",
        "-m benchmarks.gpu_report gpu-report.md",
    ]
