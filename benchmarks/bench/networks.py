"""The full-size ×4 network with random weights that is timed, and its exports.

They are kept in build/bench for the next run.

Time and memory do not depend on the weights.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench.processes import ROOT, MissingError

_SOURCES = (
    "export/srflow_export/**/*.py",
    "training/srflow_training/model/*.py",
    "benchmarks/full_size_checkpoint.py",
)
_TINY = ("nf=8", "growth=4", "blocks=2", "stacked_blocks=[0,1]", "steps=2", "hidden=8")


def sources_digest() -> str:
    """Twelve digits of the code that makes networks and exports, for names of folders."""
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for source in sorted(ROOT.glob(pattern)):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def prepare(root: Path, say: Callable[[str], None], *, tiny: bool = False) -> Path:
    """The folder with network.pth, network.srflow and int8.srflow, made where they are missing.

    tiny: a network of seconds. Raises: MissingError if one cannot be made; without int8.srflow only
        `say` tells.
    """
    folder = root / f"network-{'tiny' if tiny else 'full'}-{sources_digest()}"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "network.pth"
    bundle = folder / "network.srflow"
    sizes = [word for setting in _TINY for word in ("--set", f"network.{setting}")] if tiny else []
    export = ["-c", "from srflow_export.cli import main; main()"]
    commands = {
        "network.pth": ["-m", "benchmarks.full_size_checkpoint", str(checkpoint), *sizes],
        "network.srflow": [*export, "--ckpt", str(checkpoint), "-o", str(bundle), "--halo", "16"],
        "int8.srflow": [
            *export,
            "--bundle",
            str(bundle),
            "--also",
            "int8",
            "-o",
            str(folder / "int8.srflow"),
        ],
    }
    for name, command in commands.items():
        if (folder / name).exists():
            continue
        say(f"makes {name}")
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if not (folder / name).exists():
            why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            if name != "int8.srflow":
                raise MissingError(f"{name} cannot be made: {why}")
            say(f"{name} cannot be made: {why}")
    return folder
