"""The commands that torch computes for do not spin while they wait, unless the user asks for that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.sdk.tiny_bundle import write_tiny_bundle

EXPORT = "from srflow_export.cli import main; main(['m.pth'])"
EVALUATE = "from srflow_evaluation.cli import evaluate; evaluate(['report', '--hr', 'hr', '--model', 'm.srflow'])"


def printed_by_openmp(program: str, folder: Path, **environ: str) -> str:
    write_tiny_bundle(folder / "m.srflow")
    (folder / "m.pth").write_bytes(b"torch says that this is no checkpoint")
    (folder / "hr").mkdir()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder / "hr" / "black.png")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**inherited, "OMP_DISPLAY_ENV": "verbose", **environ},
    )
    return done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP prints this, which Linux's torch brings")
@pytest.mark.parametrize("program", [EXPORT, EVALUATE], ids=["export", "evaluate"])
def test_threads_sleep_while_they_wait(tmp_path: Path, program: str) -> None:
    assert "GOMP_SPINCOUNT = '0'" in printed_by_openmp(program, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP prints this, which Linux's torch brings")
def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    printed = printed_by_openmp(EXPORT, tmp_path, OMP_WAIT_POLICY="ACTIVE")
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in printed
    assert "GOMP_SPINCOUNT = '0'" not in printed
