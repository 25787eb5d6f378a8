"""The report of a batch, as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srflow_apps.batch.jobs import FolderFile, FolderResult, Recorded, digest
from srflow_apps.batch.operations import Operation
from srflow_apps.batch.storage import reading, remove_leftovers, shown, writing
from srflow_apps.batch.url_paths import UrlPath
from srflow_sdk._version import __version__
from srflow_sdk.errors import ImageError
from srflow_sdk.model.model_choice import BY_PICTURE
from srflow_sdk.system.local_files import check_replaceable, open_regular, write_atomically
from srflow_sdk.system.plain_text import without_secrets

if TYPE_CHECKING:
    from srflow_apps.batch.plan import Plan

REPORT_SCHEMA = 1
"""Version of the report's fields."""

_EXACT = 200.0  # JSON has no infinity


def batch_report(plan: Plan, result: FolderResult) -> dict[str, Any]:
    """The record of a batch, as JSON values.

    A file's `size` is the input's width and height; `lr_psnr` is in dB, at most 200 (output and input agree exactly),
    null if it was not measured. Files that were not reached before an interrupt are not listed. If each picture had
    the model that suits it, the files name theirs, and settings in which the models differ are null.

    The report that this one replaces supplies the measurements of files that are skipped now, and its entries for files
    that were not reached stay under `earlier`.
    """
    settings, models = plan.settings, [bundle.manifest for bundle in plan.bundles]
    first, *others = [settings.operation.described(manifest) for manifest in models]
    report: dict[str, Any] = {
        "schema": REPORT_SCHEMA,
        "model": {
            "name": BY_PICTURE if others else models[0].name,
            "sha256": digest(models),
            "scale": models[0].scale,
        },
        "settings": {
            **{name: value if all(one[name] == value for one in others) else None for name, value in first.items()},
            "max_pixels": settings.max_pixels,
            "resume": settings.resume,
            "overwrite": settings.overwrite,
            "quality": settings.quality,
            "lossless": settings.lossless,
            "tile": "none" if plan.tile is None else plan.tile,
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
    if plan.earlier is not None:
        rest = _carry_over(plan.earlier, report)
        if len(result.files) < result.total:
            report["earlier"] = rest
    return report


def _file(file: FolderFile, operation: Operation) -> dict[str, Any]:
    outputs: list[dict[str, Any]] = []
    if file.status == "done":
        for output in file.outputs:
            measured = output.lr_psnr
            decibels = None if measured is None or math.isnan(measured) else min(measured, _EXACT)
            record = {"path": str(output.path), "sample": output.provenance.sample, "lr_psnr": decibels}
            outputs.append({**record, "bytes": output.size_bytes, "sha256": output.sha256})
    elif file.status == "skipped":
        numbered = zip(operation.numbers(len(file.targets)), file.targets, strict=True)
        unknown = {"lr_psnr": None, "bytes": None, "sha256": None}
        outputs = [{"path": str(target), "sample": number, **unknown} for number, target in numbered]
    return {
        "source": str(file.source),
        "status": file.status,
        "error": file.error,
        "model": file.model,
        "why": file.why,
        "note": file.note,
        "size": None if file.size is None else list(file.size),
        "seconds": None if file.seconds is None else round(file.seconds, 3),
        "outputs": outputs,
    }


def _carry_over(earlier: dict[str, Any], report: dict[str, Any]) -> list[dict[str, Any]]:
    """Take from an earlier report what it says about files that were skipped now: `resume` held them to its hashes.

    Returns its entries about files that were not reached.
    """

    def pictures(file: dict[str, Any]) -> tuple[Any, ...]:
        return (file["source"], *((output["path"], output["sample"]) for output in file["outputs"]))

    try:
        entries = [*earlier.get("earlier", []), *earlier["files"]]
        measured = {pictures(file): file for file in entries if file["outputs"]}
    except (AttributeError, KeyError, TypeError):
        return []  # not written by us
    for file in report["files"] if report["settings"]["overwrite"] else ():  # or it says nothing of what is there
        if file["status"] == "skipped" and (entry := measured.get(pictures(file))) is not None:
            file.update({name: entry.get(name) for name in ("size", "seconds", "model", "why", "note", "outputs")})
    sources = {file["source"] for file in report["files"]}
    return [file for file in measured.values() if file["source"] not in sources]


def read_report(path: Path) -> dict[str, Any] | None:
    """Read an earlier report; None if there is none that can be read."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        with reading(path) as local, open_regular(local) as file:
            report = json.loads(file.read(), parse_constant=refuse)
    except (ImageError, OSError, ValueError, RecursionError):
        return None
    return report if isinstance(report, dict) and report.get("schema") == REPORT_SCHEMA else None


def recorded_in(report: dict[str, Any]) -> Recorded:
    """Lengths and hashes of the outputs that a report is about, by their paths."""
    found: dict[str, tuple[int, str]] = {}
    try:
        for output in (output for file in [*report.get("earlier", []), *report["files"]] for output in file["outputs"]):
            path, size, sha256 = output["path"], output.get("bytes"), output.get("sha256")
            if isinstance(path, str) and isinstance(size, int) and isinstance(sha256, str):
                found[path] = size, sha256
    except (AttributeError, KeyError, TypeError):
        return {}  # not written by us
    return found


def check_report(path: Path) -> None:
    """Raises: ImageError if a report cannot have this name because it is that of a pipe or a device."""
    try:
        if not isinstance(path, UrlPath):
            check_replaceable(path)
    except OSError as error:
        raise ImageError(f"the report {path} cannot be written: {error.strerror}") from error


def write_report(plan: Plan, result: FolderResult) -> None:
    """Write the report of a batch, completely or not at all. Raises: ImageError."""
    path = plan.report
    assert path is not None  # for the type checker
    # Of URLs that are misspelt, too.
    report = _with_texts(batch_report(plan, result), lambda text: without_secrets(shown(text)))
    remove_leftovers([path])
    try:
        with writing([path]) as (local,):
            write_atomically(local, (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise ImageError(f"the report {path} cannot be written: {error.strerror or error}") from error


def _with_texts(value: Any, changed: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {name: _with_texts(each, changed) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_with_texts(each, changed) for each in value]
    return changed(value) if isinstance(value, str) else value
