"""The commands that torch computes for do not spin while they wait, unless the user asks for
that."""

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
EVALUATE = (
    "from srflow_evaluation.cli import evaluate; evaluate(['report', '--hr', 'hr', '--model', "
    "'m.srflow'])"
)
INSTEAD_OF_TORCH = (
    "import os, sys\nsys.exit(f'imported with {os.environ.get(\"OMP_WAIT_POLICY\")}')\n"
)


def printed(program: str, folder: Path, **environ: str) -> str:
    write_tiny_bundle(folder / "m.srflow")
    (folder / "m.pth").write_bytes(b"torch says that this is no checkpoint")
    (folder / "hr").mkdir()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder / "hr" / "black.png")
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**inherited, **environ},
    )
    return done.stderr


@pytest.mark.parametrize(
    ("program", "set_by_user", "policy"),
    [(EVALUATE, {}, "PASSIVE"), (EXPORT, {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")],
)
def test_torch_is_imported_with_the_policy(
    tmp_path: Path, program: str, set_by_user: dict[str, str], policy: str
) -> None:
    (tmp_path / "torch.py").write_text(INSTEAD_OF_TORCH)
    assert f"imported with {policy}" in printed(program, tmp_path, **set_by_user)
