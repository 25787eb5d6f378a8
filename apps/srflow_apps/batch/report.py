"""The report of a batch, as JSON: a row for each input, which `resume` goes by the next time."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srflow_apps.batch.jobs import FolderFile, FolderResult, Recorded, digest
from srflow_apps.batch.operations import Operation
from srflow_apps.batch.storage import reading, remove_leftovers, shown, writing
from srflow_sdk._version import __version__
from srflow_sdk.errors import ImageError
from srflow_sdk.model.model_choice import BY_PICTURE
from srflow_sdk.system.local_files import open_regular, write_atomically
from srflow_sdk.system.plain_text import without_secrets

if TYPE_CHECKING:
    from srflow_apps.batch.plan import Plan

REPORT_SCHEMA = 1
"""Version of the report's fields."""

_EXACT = 200.0  # JSON has no infinity

Rows = Mapping[tuple[Any, ...], dict[str, Any]]
"""The rows of a report by their inputs and outputs, of those that have outputs."""


def batch_report(plan: Plan, result: FolderResult) -> dict[str, Any]:
    """The record of a batch, as JSON values; settings in which the models differ are null.

    The report that this one replaces supplies the measurements of files that are skipped now: `resume` held them to its
    hashes. Its rows for files that were not reached stay under `earlier`.
    """
    settings, models = plan.settings, [bundle.manifest for bundle in plan.bundles]
    first, *others = [settings.operation.described(manifest) for manifest in models]
    name = BY_PICTURE if others else models[0].name
    rows = [_row(file, settings.operation) for file in result.files]
    for row in rows if settings.overwrite else ():  # or the earlier one says nothing of what is there
        if row["status"] == "skipped" and (entry := plan.earlier.get(_pictures(row))) is not None:
            row.update({each: entry.get(each) for each in ("size", "seconds", "model", "why", "note", "outputs")})
    report: dict[str, Any] = {
        "schema": REPORT_SCHEMA,
        "model": {"name": name, "sha256": digest(models), "scale": models[0].scale},
        "settings": {
            **{each: value if all(one[each] == value for one in others) else None for each, value in first.items()},
            **{each: getattr(settings, each) for each in ("max_pixels", "resume", "overwrite", "quality", "lossless")},
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
        "files": rows,
    }
    if plan.earlier and len(rows) < result.total:
        reached = {row["source"] for row in rows}
        report["earlier"] = [row for row in plan.earlier.values() if row["source"] not in reached]
    return report


def _row(file: FolderFile, operation: Operation) -> dict[str, Any]:
    outputs: list[dict[str, Any]] = []
    if file.status == "done":
        for output in file.outputs:
            measured = output.lr_psnr
            decibels = None if measured is None or math.isnan(measured) else min(measured, _EXACT)
            record = {"path": _said(output.path), "sample": output.provenance.sample, "lr_psnr": decibels}
            outputs.append({**record, "bytes": output.size_bytes, "sha256": output.sha256})
    elif file.status == "skipped":
        for place, target in enumerate(file.targets):
            number = operation.sample + (place if operation.interval is None else 0)
            record = {"path": _said(target), "sample": number, "lr_psnr": None}
            outputs.append({**record, "bytes": None, "sha256": None})
    return {
        "source": _said(file.source),
        "status": file.status,
        "error": None if file.error is None else shown(file.error),
        "model": file.model,
        "why": file.why,
        "note": file.note,
        "size": None if file.size is None else list(file.size),
        "seconds": None if file.seconds is None else round(file.seconds, 3),
        "outputs": outputs,
    }


def _said(path: Path) -> str:
    return without_secrets(shown(str(path)))  # of URLs that are misspelt, too


def _pictures(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["source"], *((output["path"], output["sample"]) for output in row["outputs"]))


def read_report(path: Path) -> Rows:
    """The rows of an earlier report; none if there is no report that can be read."""
    no_report = (ImageError, OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError)
    with contextlib.suppress(*no_report), reading(path) as local, open_regular(local) as file:
        report = json.loads(file.read(), parse_constant=lambda _: None)
        if report["schema"] == REPORT_SCHEMA:
            return {_pictures(row): row for row in [*report.get("earlier", []), *report["files"]] if row["outputs"]}
    return {}


def recorded_in(rows: Rows) -> Recorded:
    """Lengths and hashes of the outputs that rows are about, by their paths."""
    outputs = [output for row in rows.values() for output in row["outputs"]]
    return {one["path"]: (one["bytes"], one["sha256"]) for one in outputs if one.get("bytes") and one.get("sha256")}


def write_report(plan: Plan, result: FolderResult) -> None:
    """Write the report of a batch, if it is to have one, completely or not at all. Raises: ImageError."""
    if (path := plan.report) is None:
        return
    report = batch_report(plan, result)
    remove_leftovers([path])
    try:
        with writing([path]) as (local,):
            write_atomically(local, (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise ImageError(f"the report {path} cannot be written: {error.strerror or error}") from error
