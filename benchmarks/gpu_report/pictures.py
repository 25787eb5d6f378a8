"""Each bundle on each device: is its picture the CPU's, how long do pictures take, and how much memory.

A device runs in a process of its own, so that one that crashes is a row and not the end of the report.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench.timing import in_turn
from benchmarks.bench.worker import MissingError, Worker
from benchmarks.gpu_report.builds import Build
from benchmarks.gpu_report.card import memory_used

MANY = 8  # samples in one call
LEAST_DB = {"fp32": 60.0, "other": 38.0}
"""The PSNR against the CPU's picture that an exact precision, and a reduced one within the gate, must reach."""
_LOAD_LIMIT_S = 600  # engines compile their kernels when they are first opened


def reference(folder: Path, bundle: str, size: int) -> np.ndarray:
    """The CPU's picture from float32 graphs. Raises: MissingError."""
    with Worker(_variant(folder, bundle, "cpu")) as worker:
        return _picture(worker, size)


def measured(
    build: Build, device: str, folder: Path, expected: np.ndarray, *, correct_size: int, size: int, runs: int
) -> dict[str, Any]:
    """Figures of one build on one device; or missing: why.

    psnr, in dB, largest difference and how many values are not finite, of a picture of correct_size×correct_size LR
    pixels; seconds of the first and of a further sample of size×size, and of eight; bytes of the GPU; what was said
    meanwhile. What was found before something failed stays.
    """
    row: dict[str, Any] = {"build": build.label, "device": device, "size": size, "said": []}
    try:
        with Worker(_variant(folder, build.bundle, device), load_limit_s=_LOAD_LIMIT_S) as worker:
            row["said"] = worker.said
            row |= {"load_seconds": worker.loaded["load_seconds"], "runs_on": worker.loaded["runs_on"]}
            row |= compared(_picture(worker, correct_size), expected, exact=build.label.startswith("fp32"))
            jobs = {"first": {"samples": 1}, "further": {"samples": 1, "op": "again"}, "many": {"samples": MANY}}
            times = in_turn(
                {
                    name: lambda job=job: float(worker.run(size=size, **job)["seconds"])  # type: ignore[misc]
                    for name, job in jobs.items()
                },
                runs=runs,
            )
            row |= {name: each.seconds for name, each in times.items()}
            row["gpu_bytes"] = memory_used(worker.process_id)
    except MissingError as error:
        row["missing"] = str(error)
    return row


def compared(picture: np.ndarray, expected: np.ndarray, *, exact: bool) -> dict[str, Any]:
    """psnr (at most 100 dB), largest, not_finite, and whether that is right."""
    not_finite = int(np.sum(~np.isfinite(picture)))
    if picture.shape != expected.shape or not_finite:
        return {"psnr": 0.0, "largest": 1.0, "not_finite": not_finite, "right": False}
    difference = picture.astype(np.float64) - expected
    psnr = min(100.0, -10 * float(np.log10(max(np.mean(difference**2), 1e-10))))
    right = psnr >= LEAST_DB["fp32" if exact else "other"]
    return {"psnr": psnr, "largest": float(np.abs(difference).max()), "not_finite": 0, "right": right}


def _variant(folder: Path, bundle: str, device: str) -> dict[str, Any]:
    common = {"way": "ours", "network": "x4", "precision": "bundle", "threads": 1}
    return {**common, "folder": str(folder), "bundle": bundle.removesuffix(".srflow"), "device": device}


def _picture(worker: Worker, size: int) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "picture.npy"
        worker.run(size=size, op="picture", target=str(target))
        return np.load(target)
