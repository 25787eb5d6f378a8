"""Finds out for `resume` if an input's outputs are there, complete, and as they would be made now."""

from __future__ import annotations

import dataclasses
import sys
import threading
from pathlib import Path

from srflow_apps.batch.jobs import Job, Settings
from srflow_apps.batch.storage import reading
from srflow_sdk.errors import ImageError
from srflow_sdk.files import Provenance, is_as_written, open_image, read_provenance
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.system.device_names import BUNDLE
from srflow_sdk.system.local_files import file_sha256
from srflow_sdk.system.raising import stop_if_set


def is_done(
    job: Job,
    manifest: Manifest,
    *,
    precision: str = BUNDLE,
    settings: Settings,
    cancel: threading.Event,
) -> bool:
    """True if every output of a job exists and was made from the input as it is now, with these settings.

    The device, the tiles' size and the SDK's version do not count. If an earlier report has an output's length and
    hash, it must be that very file; otherwise it must be as it was written, by the hash that it has of itself. Files
    are read whole only if their headers agree.

    precision: what the encoder computes in now; pictures of another are others.

    Raises: ImageError, OSError if the input cannot be read; CancelledError.
    """
    operation = settings.operation
    with reading(job.source) as source:
        found = [made for target in job.targets if (made := _provenance(target)) is not None]
        if len(found) < len(job.targets):
            return False
        with open_image(source, max_pixels=sys.maxsize) as reader:
            size = reader.width, reader.height
            for number, made in enumerate(found, start=operation.sample):
                wanted = operation.provenance(job, manifest, size=size, number=number, source_sha256=made.source_sha256)
                if _what_matters(made) != _what_matters(dataclasses.replace(wanted, precision=precision)):
                    return False
            if {made.source_sha256 for made in found} != {reader.sha256()}:
                return False
    for target in job.targets:
        stop_if_set(cancel)
        with reading(target) as output:
            if not _is_intact(output, str(target), settings=settings):
                return False
    return True


def _is_intact(output: Path, name: str, *, settings: Settings) -> bool:
    recorded = settings.recorded.get(name)
    try:
        if recorded is not None:
            return (output.stat().st_size, file_sha256(output)) == recorded
        return bool(is_as_written(output))
    except (ImageError, OSError):
        return False  # damaged: it is made again


def _provenance(target: Path) -> Provenance | None:
    try:
        with reading(target) as output:
            return read_provenance(output) if output.is_file() else None
    except (ImageError, OSError):
        return None  # unreadable: it is made again


def _what_matters(provenance: Provenance) -> Provenance:
    return dataclasses.replace(provenance, model="", sdk_version="", tile=None, source="", device=None)
