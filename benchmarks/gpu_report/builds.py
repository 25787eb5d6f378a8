"""Bundles and engines of one network, by srflow-export: how long each takes, its memory, and how large it is."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench.worker import without_paths
from srflow_sdk import Bundle

_RTX = (75, 80, 86, 89, 120, 121)


@dataclass(frozen=True)
class Build:
    """label: in the tables. options: of srflow-export. devices: of the SDK, that run the result."""

    label: str
    options: tuple[str, ...]
    devices: tuple[str, ...]

    @property
    def bundle(self) -> str:
        """Its folder's name."""
        return f"{self.label.replace(' ', '-').replace(',', '')}.srflow"

    def timed_size(self, folder: Path, device: str, size: int) -> int:
        """LR pixels a side that the device takes: without engines, TensorRT makes them for the model's own sizes."""
        if device != "tensorrt" or {"--trt", "--rtx"} & set(self.options):
            return size
        return min(size, *Bundle.open(folder / self.bundle).manifest.default_profile.max)


def gpu_builds(compute_capability: int, *, size: int) -> list[Build]:
    """Every precision and kind of engine for a card, for LR images of up to size×size pixels."""
    shapes = ("--shapes", f"{min(64, size)},{size},{size}")
    builds = [
        Build("fp32", (), ("cuda", "tensorrt")),
        Build("fp16", ("--precision", "fp16"), ("cuda", "tensorrt")),
        Build("fp32 engines", ("--trt", "fp32", *shapes), ("tensorrt",)),
        Build("fp16 engines", ("--trt", "fp16", *shapes), ("tensorrt",)),
        Build("fp16 engines, plugins", ("--trt", "fp16", "--plugins", *shapes), ("tensorrt",)),
    ]
    if compute_capability in _RTX:
        rtx = ("--rtx", "fp16", "--sm", str(compute_capability), *shapes)
        builds.append(Build("fp16 RTX engines", rtx, ("tensorrt", "rtx")))
    return builds


def built(build: Build, checkpoint: Path, folder: Path) -> dict[str, Any]:
    """Run srflow-export. Figures: seconds, peak_bytes (of its process), disk_bytes; or missing: why."""
    target = folder / build.bundle
    script = "from srflow_export.cli import main; main()"
    command = [sys.executable, "-c", script, "--ckpt", str(checkpoint), "-o", str(target), "--halo", "16"]
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen([*command, *build.options], stdout=subprocess.DEVNULL, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)  # the memory of this child alone
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        words = [line.strip() for line in errors if line.strip()]
    found = asdict(build) | {"seconds": time.perf_counter() - started, "peak_bytes": used.ru_maxrss << 10}
    found["said"] = [without_paths(line) for line in words]
    if process.returncode != 0:  # with a bundle, if only its engines failed
        return found | {"missing": found["said"][-1] if words else f"exit status {process.returncode}"}
    return found | {"disk_bytes": sum(file.stat().st_size for file in target.rglob("*") if file.is_file())}
