"""The ways to compute one picture on a processor: opens them, and measures what each takes and gives, once for each
machine and model.

Every way draws two small photographs, which are compared with float32 on ONNX Runtime; one that is near enough is timed
in turns with that, so that a load hits both, and closed. What was measured is kept in the user's cache folder until
anything that it depends on changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from srflow_sdk._version import __version__
from srflow_sdk.backends._agreement import photographs, picture, psnr
from srflow_sdk.backends._base import Backend
from srflow_sdk.backends._kept_graphs import processor
from srflow_sdk.backends._openvino import openvino_backend
from srflow_sdk.backends._openvino_graphs import has_bf16
from srflow_sdk.backends._ort import OnnxRuntimeBackend
from srflow_sdk.errors import CancelledError, DeviceError, OutOfMemoryError, SRFlowError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.json_records import read_record
from srflow_sdk.model.manifest import INT8_ENCODER, LEAST_DB, REQUIRED_FILES, Manifest
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.device_names import ComputePrecision
from srflow_sdk.system.local_files import LOCKS_EXIST, lock, write_atomically
from srflow_sdk.system.raising import PassingError, memory_errors_typed

_ROUNDS = (2, 5)  # at least and at most
_TIMING_S = 0.5  # after so long there are no further rounds
_QUICK_S = 0.4  # of CPU time

_FOLDER = "precision"
_SCHEMA = 5
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino")
_MAX_BYTES = 1 << 16

_log = logging.getLogger(__name__)
_Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Way:
    """A runtime, by its device's name, and what its encoder computes in. The sampler always computes in float32."""

    device: Literal["cpu", "openvino"]
    precision: ComputePrecision

    def __str__(self) -> str:
        return f"{'float32' if self.precision == 'bundle' else self.precision} on {self.device}"


REFERENCE = Way(device="cpu", precision="bundle")
"""The way that the others are compared with."""


def opened(bundle: Bundle, way: Way, *, threads: int | None) -> Backend:
    """An active backend; its picture is not checked. Raises: DeviceError, BundleError, OutOfMemoryError."""
    graphs = (INT8_ENCODER, REQUIRED_FILES[1]) if way.precision == "int8" else REQUIRED_FILES
    backend: Backend
    if way.device == "openvino":
        if way.precision == "bf16" and not has_bf16():
            raise DeviceError("this processor has no bfloat16 arithmetic")
        hint: Literal["bf16", "f32"] = "bf16" if way.precision == "bf16" else "f32"
        backend = openvino_backend(bundle, threads=threads, graphs=graphs, hint=hint)
    else:
        backend = OnnxRuntimeBackend(bundle, device="cpu", threads=threads, graphs=graphs)
    backend.precision = way.precision
    backend.activate()
    return backend


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The results of one way on this machine.

    seconds: CPU time of one picture, the best of several; infinite if it was not timed.
    decibels: PSNR against float32, the worse of two photographs.
    error: one line if it cannot be used at all.
    passing: the error's class if another start may do better, for example because memory was wanting. Such results are
    not kept; others stay until the processor, a package or the bundle changes.
    """

    way: Way
    seconds: float = math.inf
    decibels: float = -math.inf
    error: str | None = None
    passing: type[DeviceError] | None = None


def measured(
    bundle: Bundle, ways: Sequence[Way], *, threads: int | None, longest_s: float = math.inf
) -> list[Measured]:
    """Measure ways on this machine, or take what earlier starts measured from the cache if nothing has changed since.

    ways: the reference first. threads: of each backend.
    longest_s: after so long no further way is begun, once there is one more result to keep; the next start goes on.
    Returns the results in the order of `ways`. They are kept, unless they failed for want of something that may be
    there another time.

    Raises: DeviceError, BundleError if even the reference does not run; CancelledError.
    """
    key = cache_key(bundle, threads=threads)
    if (found := _all_of(ways, read_measured(key))) is not None:
        return found
    with one_at_a_time():
        known = read_measured(key)
        if (found := _all_of(ways, known)) is not None:  # another process measured while this one waited
            return found
        begun = time.monotonic()
        _log.info("measuring what is fastest on this processor, once for this model …")
        found = _measure(bundle, ways, known, threads=threads, until=begun + longest_s)
        _log.info("measured in %.1f s: %s", time.monotonic() - begun, "; ".join(map(described, found)))
        write_measured(key, {**known, **{one.way: one for one in found}}.values())
        return found


def _all_of(ways: Sequence[Way], known: Mapping[Way, Measured]) -> list[Measured] | None:
    return [known[way] for way in ways] if all(way in known for way in ways) else None


def described(one: Measured) -> str:
    """One measurement in words."""
    if one.error is not None:
        return f"{one.way}: {one.error}"
    decibels = "" if one.decibels == math.inf else f", {one.decibels:.1f} dB"
    seconds = "not timed" if one.seconds == math.inf else f"{one.seconds:.3f} s of CPU time"
    return f"{one.way} {seconds}{decibels}"


def later(way: Way) -> Measured:
    """A way that no start has measured yet."""
    return Measured(way=way, error="not measured yet: the next start does it", passing=PassingError)


@dataclass(frozen=True, kw_only=True)
class _Standard:
    """The reference, its pictures of the photographs, and the image that is timed: every way is compared with them."""

    backend: Backend
    photographs: list[_Array]
    pictures: list[_Array]
    timed: _Array


def _measure(
    bundle: Bundle, ways: Sequence[Way], known: Mapping[Way, Measured], *, threads: int | None, until: float
) -> list[Measured]:
    """All of the ways, those measured now that are not known. Besides the reference, one is open at a time."""
    found, begun = dict(known), False
    with _open(bundle, REFERENCE, threads=threads) as reference:
        photos = photographs(bundle.manifest.size_multiple)
        pictures = [picture(reference, photo, bundle.manifest) for photo in photos]
        quick = _timed(reference, photos[0], bundle.manifest) < _QUICK_S
        timed = mosaic(photos) if quick else photos[0]
        standard = _Standard(backend=reference, photographs=photos, pictures=pictures, timed=timed)
        if REFERENCE not in found:
            (seconds,) = _best_times([reference], timed, bundle.manifest)
            found[REFERENCE] = Measured(way=REFERENCE, seconds=seconds, decibels=math.inf)
        for way in ways:
            if way not in found:
                late = begun and time.monotonic() > until
                found[way] = later(way) if late else _tried(bundle, way, standard, found[REFERENCE], threads=threads)
                begun = begun or found[way].passing is None
    return [found[way] for way in ways]


@contextlib.contextmanager
def _open(bundle: Bundle, way: Way, *, threads: int | None) -> Iterator[Backend]:
    """An active backend, closed at the end of the block."""
    backend = opened(bundle, way, threads=threads)
    try:
        yield backend
    finally:
        backend.deactivate()


def _tried(bundle: Bundle, way: Way, standard: _Standard, reference: Measured, *, threads: int | None) -> Measured:
    """A way's figures, or why it has none. Its time is stated beside the reference's first one: by their ratio now."""
    try:
        with memory_errors_typed(f"while {way} was measured"), _open(bundle, way, threads=threads) as backend:
            found = (picture(backend, photo, bundle.manifest) for photo in standard.photographs)
            decibels = min(psnr(ours, theirs) for ours, theirs in zip(found, standard.pictures, strict=True))
            if decibels < LEAST_DB:
                return Measured(way=way, decibels=decibels)
            own, beside = _best_times([backend, standard.backend], standard.timed, bundle.manifest)
    except CancelledError:
        raise
    except (OutOfMemoryError, PassingError) as error:
        return Measured(way=way, error=str(error), passing=type(error))
    except SRFlowError as error:
        return Measured(way=way, error=str(error))
    return Measured(way=way, seconds=own / beside * reference.seconds, decibels=decibels)


def _best_times(backends: Sequence[Backend], image: _Array, manifest: Manifest) -> list[float]:
    """The shortest time of each, which other programs disturbed least. They take turns, so that a load hits all.

    The first has not run at this size before; its first run, which prepares for that, does not count.
    """
    _timed(backends[0], image, manifest)
    best = [math.inf] * len(backends)
    begun = time.monotonic()
    for number in range(_ROUNDS[1]):
        if number >= _ROUNDS[0] and time.monotonic() - begun > _TIMING_S:
            break
        best = [min(least, _timed(backend, image, manifest)) for least, backend in zip(best, backends, strict=True)]
    return best


def _timed(backend: Backend, image: _Array, manifest: Manifest) -> float:
    """CPU seconds of all threads. Beside other programs, wall-clock times of the same work vary threefold, and these by
    a tenth.
    """
    begun = time.process_time()
    picture(backend, image, manifest)
    return time.process_time() - begun


def mosaic(photos: Sequence[_Array]) -> _Array:
    """Two photographs twice, as one image with doubled sides: closer to the tiles of real pictures for timing."""
    row = np.concatenate(photos, axis=3)
    return np.concatenate([row, row[..., ::-1]], axis=2)


def cache_key(bundle: Bundle, *, threads: int | None) -> dict[str, Any]:
    """All that the measurement depends on, as JSON values."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "schema": _SCHEMA,
        "model_sha256": bundle.model_sha256,
        "processor": processor() or platform.processor() or platform.machine(),
        "cores": cores,
        "threads": threads,
        "versions": {"srflow-sdk": __version__, **{name: _version(name) for name in _PACKAGES}},
    }


def read_measured(key: dict[str, Any]) -> dict[Way, Measured]:
    """Read what earlier processes wrote; empty if there is no file for exactly this key, or it is damaged."""
    path = _path(key)
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MAX_BYTES))
        return {one.way: one for one in (read_record(Measured, entry) for entry in content["measured"])}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return {}


def write_measured(key: dict[str, Any], measured: Iterable[Measured]) -> None:
    """Keep what lasts for the next process: the whole file or none. Without a usable folder, nothing is kept."""
    path = _path(key)
    if path is None:
        return
    entries = [asdict(one) for one in measured if one.passing is None]
    with contextlib.suppress(OSError):  # it only costs time
        write_atomically(path, (json.dumps({"key": key, "measured": entries}, indent=1) + "\n").encode())


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Waits while another process of this user measures: the two would only slow each other down."""
    folder = cache_folder(_FOLDER)
    if folder is None or not LOCKS_EXIST:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _path(key: dict[str, Any]) -> Path | None:
    folder = cache_folder(_FOLDER)
    if folder is None:
        return None
    return folder / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]}.json"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
