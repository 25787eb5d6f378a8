"""The report of a batch, as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from srflow_sdk._batch.running import JobResult, Settings, Summary
from srflow_sdk._drawing.output_size import OutputSize, named_scale
from srflow_sdk._system.atomic import remove_stale_parts, write_atomically
from srflow_sdk._version import __version__
from srflow_sdk.errors import ImageError
from srflow_sdk.manifest import Manifest
from srflow_sdk.tiles import TileSize

REPORT_SCHEMA = 1
"""Version of the report's fields."""

_HOW = ("model", "tau", "auto_tau", "seed", "consistent")
_EXACT = 200.0  # JSON has no infinity


def batch_report(
    summary: Summary,
    *,
    manifest: Manifest,
    settings: Settings,
    tile: TileSize,
    device: str,
    earlier: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What a batch did, as JSON values.

    tile: as requested. device: where it ran. A file's `size` is the input's width and height; `lr_psnr` is in dB, at
    most 200 (output and input agree exactly), null if it was not measured. Files that were not reached before an
    interrupt are not listed. earlier: the report that this one replaces; it supplies the measurements of files that are
    skipped now, and its entries for files that were not reached stay under `earlier`.
    """
    draw = settings.draw
    report: dict[str, Any] = {
        "schema": REPORT_SCHEMA,
        "model": {"name": manifest.name, "sha256": manifest.digest, "scale": manifest.scale},
        "settings": {
            "tau": draw.tau_number(manifest),
            "auto_tau": draw.auto_tau(manifest),
            "seed": draw.seed,
            "sample": draw.sample,
            "consistent": draw.consistent,
            "scale": _scale(draw.scale, manifest),
            "reduction": draw.reduction,
            "linear_light": draw.linear_light,
            "max_pixels": settings.max_pixels,
            "resume": settings.resume,
            "overwrite": settings.overwrite,
            "quality": settings.quality,
            "lossless": settings.lossless,
            "tile": "none" if tile is None else tile,
            "device": device,
            "sdk_version": __version__,
        },
        "summary": {
            "inputs": summary.jobs,
            "done": summary.count("done"),
            "skipped": summary.count("skipped"),
            "failed": summary.count("failed"),
            "interrupted": summary.interrupted,
        },
        "files": [_file(result, first=draw.sample) for result in summary.results],
    }
    if earlier is not None:
        rest = _carry_over(earlier, report)
        if len(summary.results) < summary.jobs:
            report["earlier"] = rest
    return report


def read_report(path: Path) -> dict[str, Any] | None:
    """Read an earlier report; None if there is none that can be read."""
    try:
        report = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError):
        return None
    return report if isinstance(report, dict) and report.get("schema") == REPORT_SCHEMA else None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write a report, completely or not at all. Raises: ImageError if it cannot be written."""
    remove_stale_parts(path)
    try:
        write_atomically(path, (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise ImageError(f"the report {path} cannot be written: {error.strerror or error}") from error


def _scale(scale: float | OutputSize | None, manifest: Manifest) -> Any:
    """A number, or the size in pixels that was asked for."""
    return dataclasses.asdict(scale) if isinstance(scale, OutputSize) else named_scale(scale, manifest)


def _file(result: JobResult, *, first: int) -> dict[str, Any]:
    if result.file is not None:
        outputs = [
            {"path": str(output.path), "sample": output.provenance.sample, "lr_psnr": _decibels(output.lr_psnr)}
            for output in result.file.outputs
        ]
    elif result.status == "skipped":
        targets = enumerate(result.job.targets, start=first)
        outputs = [{"path": str(target), "sample": number, "lr_psnr": None} for number, target in targets]
    else:
        outputs = []
    return {
        "source": str(result.job.source),
        "status": result.status,
        "error": result.error,
        "size": None if result.file is None else list(result.file.size),
        "seconds": None if result.file is None else round(result.file.seconds, 3),
        "outputs": outputs,
    }


def _carry_over(earlier: dict[str, Any], report: dict[str, Any]) -> list[dict[str, Any]]:
    """Fill in what an earlier report says about files that were skipped, if it is about the same pictures.

    Returns its entries about other files.
    """
    try:
        if any(_how(earlier, name) != _how(report, name) for name in _HOW):
            return []
        entries = [*earlier.get("earlier", []), *earlier["files"]]
        measured = {_pictures(file): file for file in entries if file["outputs"]}
    except (AttributeError, KeyError, TypeError):
        return []  # not written by us
    for file in report["files"]:
        if file["status"] == "skipped" and (entry := measured.get(_pictures(file))) is not None:
            file.update({name: entry.get(name) for name in ("size", "seconds", "outputs")})
    sources = {file["source"] for file in report["files"]}
    return [file for file in measured.values() if file["source"] not in sources]


def _how(report: dict[str, Any], name: str) -> Any:
    return report["model"]["sha256"] if name == "model" else report["settings"].get(name)


def _pictures(file: dict[str, Any]) -> tuple[Any, ...]:
    """Which pictures an entry is about."""
    return (file["source"], *((output["path"], output["sample"]) for output in file["outputs"]))


def _decibels(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else min(value, _EXACT)
