"""Inputs that do not exist are an error at once: before torch is loaded, or a model of a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"numpy", "onnxruntime", "torch", "pyvips"}
RUNTIME = HEAVY - {"torch"}  # a batch tells of it among its other files
MANIFESTS = {"numpy"}  # these commands read the embedded model's manifest, or know its fields
TRAIN = "--config x4-small --data a --out run"
NO_FILE = "a.png: there is no such file"
NO_FOLDER = "no such folder: name a folder of pictures"
_RUN = """
import sys
from {module} import {name} as command
status = 0
try:
    command(sys.argv[1:])
except SystemExit as end:
    status = end.code
print(*{heavy} & {{*sys.modules}})
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("command", "arguments", "says", "may_load"),
    [
        ("srflow_apps.commands.cli:upscale", "a.png -o b.png", NO_FILE, RUNTIME),
        ("srflow_apps.commands.cli:restore", "a.png -o b.png", NO_FILE, RUNTIME),
        ("srflow_export.cli:main", "a.pth", "a.pth: no such file", MANIFESTS),
        ("srflow_training.cli:train", TRAIN, f"--data a: {NO_FOLDER}", MANIFESTS),
        ("srflow_evaluation.cli:evaluate", "report --hr a", f"--hr a: {NO_FOLDER}", MANIFESTS),
    ],
)
def test_a_missing_input_is_said_before_anything_heavy_is_loaded(
    command: str, arguments: str, says: str, may_load: set[str], tmp_path: Path
) -> None:
    module, name = command.split(":")
    script = _RUN.format(module=module, name=name, heavy=HEAVY)
    words = [sys.executable, "-c", script, *arguments.split()]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, f"error: {says}\n")
    assert {*done.stdout.split()} <= may_load
    assert not list(tmp_path.iterdir())
