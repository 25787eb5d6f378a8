"""The report of a batch, as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from srflow_apps.batch.jobs import FolderFile, FolderResult, Recorded, Settings
from srflow_apps.batch.one_file import digest
from srflow_apps.batch.operations import Operation
from srflow_apps.batch.storage import reading, remove_leftovers, writing
from srflow_apps.batch.url_paths import UrlPath
from srflow_sdk._version import __version__
from srflow_sdk.drawing.tiles import TileSize
from srflow_sdk.errors import ImageError
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.model_choice import BY_PICTURE
from srflow_sdk.system.device_names import BUNDLE
from srflow_sdk.system.local_files import check_replaceable, open_regular, write_atomically
from srflow_sdk.system.plain_text import without_secrets

REPORT_SCHEMA = 1
"""Version of the report's fields."""

_HOW = (
    *("model", "operation", "tau", "auto_tau", "seed", "consistent", "scale", "reduction", "linear_light", "interval"),
    *("over", "enlarge", "scheme", "statistics", "precision"),
)
_EXACT = 200.0  # JSON has no infinity


def batch_report(
    result: FolderResult,
    *,
    models: Sequence[Manifest],
    settings: Settings,
    tile: TileSize,
    earlier: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The record of a batch, as JSON values.

    A file's `size` is the input's width and height; `lr_psnr` is in dB, at most 200 (output and input agree exactly),
    null if it was not measured. Files that were not reached before an interrupt are not listed.

    models: the one that drew, or several if each picture had the one that suits it: the files name theirs then, and
    settings in which the models differ are null.
    tile: as requested.
    earlier: the report that this one replaces; it supplies the measurements of files that are skipped now, and its
    entries for files that were not reached stay under `earlier`.
    """
    name = models[0].name if len(models) == 1 else BY_PICTURE
    report: dict[str, Any] = {
        "schema": REPORT_SCHEMA,
        "model": {"name": name, "sha256": digest(models), "scale": models[0].scale},
        "settings": {
            **_common([settings.operation.described(manifest) for manifest in models]),
            "max_pixels": settings.max_pixels,
            "resume": settings.resume,
            "overwrite": settings.overwrite,
            "quality": settings.quality,
            "lossless": settings.lossless,
            "tile": "none" if tile is None else tile,
            "device": result.device,
            "precision": result.precision,
            "sdk_version": __version__,
        },
        "summary": {
            "inputs": result.total,
            "done": result.count("done"),
            "skipped": result.count("skipped"),
            "failed": result.count("failed"),
            "interrupted": result.interrupted,
        },
        "files": [_file(file, settings.operation) for file in result.files],
    }
    if earlier is not None:
        rest = _carry_over(earlier, report)
        if len(result.files) < result.total:
            report["earlier"] = rest
    return report


def _common(descriptions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The values that all descriptions share; null where they differ."""
    return {
        name: value if all(other[name] == value for other in descriptions) else None
        for name, value in descriptions[0].items()
    }


def read_report(path: Path) -> dict[str, Any] | None:
    """Read an earlier report; None if there is none that can be read."""
    try:
        with reading(path) as local, open_regular(local) as file:
            report = json.loads(file.read(), parse_constant=_refuse_constant)
    except (ImageError, OSError, ValueError, RecursionError):
        return None
    return report if isinstance(report, dict) and report.get("schema") == REPORT_SCHEMA else None


def recorded_in(report: dict[str, Any] | None) -> Recorded:
    """Lengths and hashes of the outputs that a report is about, by their paths."""
    found: dict[str, tuple[int, str]] = {}
    try:
        for file in [*report.get("earlier", []), *report["files"]] if report is not None else ():
            for output in file["outputs"]:
                path, size, sha256 = output["path"], output.get("bytes"), output.get("sha256")
                if isinstance(path, str) and isinstance(size, int) and isinstance(sha256, str):
                    found[path] = size, sha256
    except (AttributeError, KeyError, TypeError):
        return {}  # not written by us
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def check_report(path: Path) -> None:
    """Raises: ImageError if a report cannot have this name because it is that of a pipe or a device."""
    if isinstance(path, UrlPath):
        return
    try:
        check_replaceable(path)
    except OSError as error:
        raise ImageError(f"the report {path} cannot be written: {error.strerror}") from error


def write_report(path: Path, report: dict[str, Any], *, in_words: Callable[[str], str] = str) -> None:
    """Write a report, completely or not at all. in_words: changes its texts. Raises: ImageError if that fails."""
    report = _with_texts(report, lambda text: without_secrets(in_words(text)))  # of URLs that are misspelt, too
    remove_leftovers([path])
    try:
        with writing([path]) as (local,):
            write_atomically(local, (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise ImageError(f"the report {path} cannot be written: {error.strerror or error}") from error


def _file(file: FolderFile, operation: Operation) -> dict[str, Any]:
    if file.status == "done":
        outputs = [
            {
                "path": str(output.path),
                "sample": output.provenance.sample,
                "lr_psnr": _decibels(output.lr_psnr),
                "bytes": output.size_bytes,
                "sha256": output.sha256,
            }
            for output in file.outputs
        ]
    elif file.status == "skipped":
        unknown = {"lr_psnr": None, "bytes": None, "sha256": None}
        numbered = zip(operation.numbers(len(file.targets)), file.targets, strict=True)
        outputs = [{"path": str(target), "sample": number, **unknown} for number, target in numbered]
    else:
        outputs = []
    return {
        "source": str(file.source),
        "status": file.status,
        "error": file.error,
        "model": file.model,
        "why": file.why,
        "size": None if file.size is None else list(file.size),
        "seconds": None if file.seconds is None else round(file.seconds, 3),
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
            file.update({name: entry.get(name) for name in ("size", "seconds", "model", "why", "outputs")})
    sources = {file["source"] for file in report["files"]}
    return [file for file in measured.values() if file["source"] not in sources]


def _how(report: dict[str, Any], name: str) -> Any:
    if name == "model":
        return report["model"]["sha256"]
    return report["settings"].get(name, BUNDLE if name == "precision" else None)  # older reports do not say


def _pictures(file: dict[str, Any]) -> tuple[Any, ...]:
    """Which pictures an entry is about."""
    return (file["source"], *((output["path"], output["sample"]) for output in file["outputs"]))


def _decibels(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else min(value, _EXACT)


def _with_texts(value: Any, changed: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {name: _with_texts(each, changed) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_texts(each, changed) for each in value]
    return changed(value) if isinstance(value, str) else value
