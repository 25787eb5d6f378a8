"""The full-size networks with random weights that are timed, and their exports; kept in build/bench for the next run.

Time and memory do not depend on the weights. The name of the folder has a hash of the code that makes them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench.worker import ROOT

PRESETS = {"x4": "published-x4", "x8-faces": "published-x8-faces"}
_INT8_LIMIT_S = 600
_SOURCES = ("export/srflow_export/**/*.py", "training/srflow_training/model/*.py", "benchmarks/full_size_checkpoint.py")


@dataclass(frozen=True)
class Networks:
    """folder: with NAME.pth, NAME.srflow and NAME-direct.onnx of each name; NAME-int8.srflow, if the gate passes it."""

    folder: Path

    def why_no_int8(self, name: str) -> str | None:
        """One clause; None: there is a bundle with a second encoder in int8."""
        if (self.folder / f"{name}-int8.srflow").is_dir():
            return None
        return (self.folder / f"{name}-int8.txt").read_text(encoding="utf-8")


def sources_digest() -> str:
    """Twelve digits of the code that makes networks and exports, for names of folders."""
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for source in sorted(ROOT.glob(pattern)):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def prepared(root: Path, names: list[str], say: Callable[[str], None], *, tiny: bool = False) -> Networks:
    """Make what is missing of these networks under `root`.

    tiny: networks of seconds, for `--quick` and tests.

    Raises: subprocess.CalledProcessError if a checkpoint or a float32 export fails.
    """
    networks = Networks(root / f"networks-{'tiny' if tiny else 'full'}-{sources_digest()}")
    networks.folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        checkpoint = networks.folder / f"{name}.pth"
        if not checkpoint.is_file():
            say(f"{name}: a network with random weights")
            _run(_maker("checkpoint", name, checkpoint, tiny=tiny))
        direct = networks.folder / f"{name}-direct.onnx"
        if not direct.is_file():
            say(f"{name}: its direct ONNX export")
            _run(_maker("direct", name, direct, tiny=tiny))
        bundle = networks.folder / f"{name}.srflow"
        if not bundle.is_dir():
            say(f"{name}: its bundle")
            _run(_export("--ckpt", str(checkpoint), "-o", str(bundle), "--halo", "16"))
        _int8_bundle(networks.folder, name, say)
    return networks


def _int8_bundle(folder: Path, name: str, say: Callable[[str], None]) -> None:
    bundle, reason = folder / f"{name}-int8.srflow", folder / f"{name}-int8.txt"
    if bundle.is_dir() or reason.is_file():
        return
    say(f"{name}: its encoder in int8, at most {_INT8_LIMIT_S} s")
    try:
        command = _export("--bundle", str(folder / f"{name}.srflow"), "--also", "int8", "-o", str(bundle))
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_INT8_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        reason.write_text(f"its quantisation took longer than {_INT8_LIMIT_S} s", encoding="utf-8")
        return
    if not bundle.is_dir():
        words = [line for line in done.stderr.splitlines() if line.strip()] or ["it could not be quantised"]
        reason.write_text(words[-1], encoding="utf-8")


def _maker(what: str, name: str, target: Path, *, tiny: bool) -> list[str]:
    return [sys.executable, "-m", "benchmarks.bench.make_network", what, name, str(target), *(["--tiny"] * tiny)]


def _export(*options: str) -> list[str]:
    return [sys.executable, "-c", "from srflow_export.cli import main; main()", *options]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        with contextlib.suppress(OSError):
            sys.stderr.write(done.stderr[-2000:] + os.linesep)
        raise subprocess.CalledProcessError(done.returncode, command)
