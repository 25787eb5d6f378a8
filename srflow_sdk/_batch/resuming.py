"""Whether an input's outputs are there already, complete, and made as they would be made now."""

from __future__ import annotations

import dataclasses
import functools
import sys
import threading
from pathlib import Path

from srflow_sdk._batch.jobs import Job, Settings
from srflow_sdk._batch.operations import Operation
from srflow_sdk._batch.storage import Storage, reading
from srflow_sdk._device_names import BUNDLE
from srflow_sdk._files import Provenance, decoded_size, is_whole, open_image, read_provenance
from srflow_sdk._raising import stop_if_set
from srflow_sdk._system.hashing import file_sha256
from srflow_sdk.errors import ImageError
from srflow_sdk.manifest import Manifest


def is_done(
    job: Job,
    manifest: Manifest,
    *,
    precision: str = BUNDLE,
    settings: Settings,
    storage: Storage,
    cancel: threading.Event,
) -> bool:
    """Whether every output of a job exists and was made from the input as it is now, with these settings.

    precision: what the encoder computes in now; pictures of another are others. The device, the tiles' size and the
    SDK's version do not count. An output must have the size that it would have now. If an
    earlier report says how long it is and what its hash is, it must be that very file; otherwise it must decode without
    a complaint to its end. Files are read whole only if their headers agree.

    Raises: ImageError, OSError if the input cannot be read; CancelledError.
    """
    operation = settings.operation
    if not all(map(storage.exists, job.targets)):
        return False
    with reading(storage, job.source) as source:
        found = [made for target in job.targets if (made := _provenance(target, storage)) is not None]
        if len(found) < len(job.targets):
            return False
        with open_image(source, max_pixels=sys.maxsize) as reader:
            width, height = reader.width, reader.height
            wanted = (
                _is_wanted(made, number, manifest, operation, size=(width, height), precision=precision)
                for number, made in enumerate(found, start=operation.sample)
            )
            if not all(wanted) or {made.source_sha256 for made in found} != {reader.sha256()}:
                return False
    size = operation.output_size((width, height), manifest)
    for target in job.targets:
        with reading(storage, target) as output:
            if not _is_intact(output, str(target), size, settings=settings, cancel=cancel):
                return False
    return True


def _is_wanted(
    found: Provenance, number: int, manifest: Manifest, operation: Operation, *, size: tuple[int, int], precision: str
) -> bool:
    wanted = operation.provenance(manifest, size=size, number=number, source_sha256=found.source_sha256)
    return _what_matters(found) == _what_matters(dataclasses.replace(wanted, precision=precision))


def _is_intact(output: Path, name: str, size: tuple[int, int], *, settings: Settings, cancel: threading.Event) -> bool:
    if not is_whole(output):  # copies may have been cut short
        return False
    recorded = settings.recorded.get(name)
    try:
        if recorded is not None and (output.stat().st_size, file_sha256(output)) != (recorded.size, recorded.sha256):
            return False
        stop = functools.partial(stop_if_set, cancel)
        return decoded_size(output, header_only=recorded is not None, after_band=stop) == size
    except (ImageError, OSError):
        return False  # damaged: it is made again


def _provenance(target: Path, storage: Storage) -> Provenance | None:
    try:
        with reading(storage, target) as output:
            return read_provenance(output) if output.is_file() else None
    except (ImageError, OSError):
        return None  # unreadable: it is made again


def _what_matters(provenance: Provenance) -> Provenance:
    return dataclasses.replace(provenance, model="", sdk_version="", tile=None, source="", device=None)
