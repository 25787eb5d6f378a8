"""Whether an input's outputs are there already, complete, and made as they would be made now."""

from __future__ import annotations

import dataclasses
import functools
import logging
import sys
import threading
from pathlib import Path

from srflow_apps.batch.jobs import Job, Settings
from srflow_apps.batch.operations import Operation
from srflow_apps.batch.storage import exists, reading
from srflow_sdk.errors import ImageError
from srflow_sdk.files import Provenance, is_as_written, open_image, read_provenance
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.system.device_names import BUNDLE
from srflow_sdk.system.local_files import file_sha256
from srflow_sdk.system.raising import stop_if_set

_log = logging.getLogger(__name__)


def is_done(
    job: Job,
    manifest: Manifest,
    *,
    precision: str = BUNDLE,
    settings: Settings,
    cancel: threading.Event,
) -> bool:
    """Whether every output of a job exists and was made from the input as it is now, with these settings.

    precision: what the encoder computes in now; pictures of another are others. The device, the tiles' size and the
    SDK's version do not count. If an earlier report says how long an output is and what its hash
    is, it must be that very file; otherwise it must be as it was written, by the hash that it has of itself. Files are
    read whole only if their headers agree.

    Raises: ImageError, OSError if the input cannot be read; CancelledError.
    """
    operation = settings.operation
    if not all(map(exists, job.targets)):
        return False
    with reading(job.source) as source:
        found = [made for target in job.targets if (made := _provenance(target)) is not None]
        if len(found) < len(job.targets):
            return False
        with open_image(source, max_pixels=sys.maxsize) as reader:
            size = reader.width, reader.height
            wanted = (
                _is_wanted(made, number, job, manifest, operation, size=size, precision=precision)
                for number, made in enumerate(found, start=operation.sample)
            )
            if not all(wanted) or {made.source_sha256 for made in found} != {reader.sha256()}:
                return False
    for target in job.targets:
        stop_if_set(cancel)
        with reading(target) as output:
            if not _is_intact(output, str(target), settings=settings):
                return False
    return True


def _is_wanted(
    found: Provenance,
    number: int,
    job: Job,
    manifest: Manifest,
    operation: Operation,
    *,
    size: tuple[int, int],
    precision: str,
) -> bool:
    wanted = operation.provenance(job, manifest, size=size, number=number, source_sha256=found.source_sha256)
    return _what_matters(found) == _what_matters(dataclasses.replace(wanted, precision=precision))


def _is_intact(output: Path, name: str, *, settings: Settings) -> bool:
    recorded = settings.recorded.get(name)
    try:
        if recorded is not None:
            return (output.stat().st_size, file_sha256(output)) == recorded
        as_written = is_as_written(output)
    except (ImageError, OSError):
        return False  # damaged: it is made again
    if as_written is None:
        _tell_of_old_outputs()
    return bool(as_written)


@functools.cache
def _tell_of_old_outputs() -> None:
    """Say it once."""
    _log.warning("outputs that have no hash of their content, such as those of earlier versions, are made again")


def _provenance(target: Path) -> Provenance | None:
    try:
        with reading(target) as output:
            return read_provenance(output) if output.is_file() else None
    except (ImageError, OSError):
        return None  # unreadable: it is made again


def _what_matters(provenance: Provenance) -> Provenance:
    return dataclasses.replace(provenance, model="", sdk_version="", tile=None, source="", device=None)
