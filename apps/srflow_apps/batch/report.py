"""The report of a batch, a JSON file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, get_args

from srflow_apps.batch.models import digest
from srflow_apps.batch.operations import Operation
from srflow_apps.batch.plan import Plan
from srflow_apps.batch.results import FolderFile, FolderResult, Status
from srflow_apps.batch.storage import prepare_folders, show_names, write_locally
from srflow_sdk import __version__
from srflow_sdk.model.model_choice import BY_PICTURE
from srflow_sdk.plain_text import without_secrets
from srflow_sdk.system.local_files import write_atomically, writing_errors

_EXACT = 200.0  # dB, as JSON has no infinity


def batch_report(plan: Plan, result: FolderResult) -> dict[str, Any]:
    """The record of a batch, as JSON values; settings in which the models differ are null."""
    settings = plan.settings
    upscaler = plan.models.upscaler
    models = [bundle.manifest for bundle in plan.models.bundles]
    first, *others = [settings.operation.describe(manifest) for manifest in models]
    same = {
        each: value if all(one[each] == value for one in others) else None
        for each, value in first.items()
    }
    name = BY_PICTURE if others else models[0].name
    return {
        "schema": 1,  # the version of these fields
        "model": {"name": name, "sha256": digest(models), "scale": models[0].scale},
        "settings": {
            **same,
            **{
                each: getattr(settings, each)
                for each in ("max_pixels", "resume", "overwrite", "quality", "lossless")
            },
            "tile": "none" if plan.tile is None else plan.tile,
            "device": upscaler.device if upscaler else "ray",
            "precision": upscaler and upscaler.precision,
            "sdk_version": __version__,
        },
        "summary": {
            "inputs": result.total,
            **{status: result.count(status) for status in get_args(Status)},
            "interrupted": result.interrupted,
        },
        "files": [_row(file, settings.operation) for file in result.files],
    }


def _row(file: FolderFile, operation: Operation) -> dict[str, Any]:
    def said(what: object) -> str:  # of URLs that are misspelt, too
        return without_secrets(show_names(str(what)))

    outputs: list[dict[str, Any]] = []
    for place, target in enumerate(() if file.status == "failed" else file.targets):
        made = file.outputs[place] if file.outputs else None
        psnr = (
            None
            if made is None or made.lr_psnr is None or math.isnan(made.lr_psnr)
            else min(made.lr_psnr, _EXACT)
        )
        number = operation.sample + (place if operation.interval is None else 0)
        content = {"bytes": made and made.size_bytes, "sha256": made and made.sha256}
        outputs.append({"path": said(target), "sample": number, "lr_psnr": psnr, **content})
    return {
        "source": said(file.source),
        "status": file.status,
        "error": file.error and said(file.error),
        **{each: getattr(file, each) for each in ("model", "why", "note", "size")},
        "seconds": None if file.seconds is None else round(file.seconds, 3),
        "outputs": outputs,
    }


def write_report(plan: Plan, result: FolderResult, path: Path) -> None:
    """Write the report of a batch, completely or not at all. Raises: ImageError."""
    report = batch_report(plan, result)
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    prepare_folders([path])
    with writing_errors(f"the report {path}"), write_locally([path]) as (local,):
        write_atomically(local, text.encode())
