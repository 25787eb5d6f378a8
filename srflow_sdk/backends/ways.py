"""The ways to compute a picture on a processor, and the choice among them.

Each way draws two small photographs, which are compared with float32 on ONNX Runtime; one that is
near enough (:mod:`srflow_sdk.backends.gate`) is timed in turns with that, so that a load hits both,
and closed. The results are kept in the user's cache folder, a JSON file for each machine and model,
until anything that they depend on changes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import platform
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from srflow_sdk._version import __version__
from srflow_sdk.backends.base import Backend
from srflow_sdk.backends.gate import is_within_gate, photographs, picture, psnr
from srflow_sdk.backends.openvino import OpenVinoBackend, has_bf16
from srflow_sdk.backends.ort import OnnxRuntimeBackend
from srflow_sdk.errors import (
    ArgumentError,
    BundleError,
    CancelledError,
    DeviceError,
    OutOfMemoryError,
    SRFlowError,
)
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import FINE_DB, INT8_ENCODER, LEAST_DB, REQUIRED_FILES, Manifest
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.hardware import ComputePrecision, DeviceName, is_installed, processor
from srflow_sdk.system.interrupts import PassingError, memory_errors_typed
from srflow_sdk.system.local_files import write_atomically

# times as fast must a less exact way be to be chosen: less is within what a measurement varies by
WORTH = 1.1
_ROUNDS = 3  # of timing
_QUICK_S = 0.4  # of CPU time: the photographs are too small
# between two runtimes of one int8 graph, unless FINE_DB hides it: they round otherwise
_SAME_DB = 3.0
_SCHEMA = 7
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino")
_log = logging.getLogger(__name__)
_measuring = threading.Lock()  # two at a time would count each other's CPU time


@dataclass(frozen=True, kw_only=True)
class Way:
    """A runtime, by its device's name, and what its encoder computes in.

    The sampler always computes in float32.
    """

    device: Literal["cpu", "openvino"]
    precision: ComputePrecision

    def __str__(self) -> str:
        return f"{'float32' if self.precision == 'bundle' else self.precision} on {self.device}"


REFERENCE = Way(device="cpu", precision="bundle")  # the way that the others are compared with
_OPENVINO, _BF16, _INT8_OPENVINO = (
    Way(device="openvino", precision=one) for one in ("bundle", "bf16", "int8")
)
_INT8_CPU = Way(device="cpu", precision="int8")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One way's CPU time, infinite if not timed, and its PSNR against float32.

    That is the worse of two photographs.
    """

    way: Way
    seconds: float = math.inf
    decibels: float = -math.inf
    error: str | None = None

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.way}: {self.error}"
        decibels = "" if self.decibels == math.inf else f", {self.decibels:.1f} dB"
        seconds = "not timed" if self.seconds == math.inf else f"{self.seconds:.3f} s of CPU time"
        return f"{self.way} {seconds}{decibels}"


def open_measured(
    bundle: Bundle,
    device: DeviceName,
    *,
    threads: int | None,
    precision: Literal["bf16", "int8", "fastest"],
) -> Backend:
    """Open the backend that computes so on the processor, measured once a machine and model."""
    has = bundle.manifest.precision
    openvino = is_installed("openvino")
    if device not in ("auto", "cpu", "openvino"):
        raise ArgumentError(
            f'precision="{precision}" is for processors: use device="cpu", "openvino" or "auto"'
        )
    if has != "fp32":
        raise ArgumentError(
            f'precision="{precision}" is for float32 bundles; this one computes in {has} already, '
            "so leave it out"
        )
    if precision == "int8" and INT8_ENCODER not in bundle.manifest.files:
        raise BundleError(
            f"{bundle.path} has no {INT8_ENCODER}, which int8 needs; to add it: srflow-export "
            f"--bundle {bundle.path} --also int8 -o with-int8.srflow"
        )
    if precision == "bf16" and device == "cpu":
        raise ArgumentError(
            'precision="bf16" is computed by OpenVINO: use device="openvino" or "auto"'
        )
    if precision == "bf16" and not has_bf16():  # which says so if OpenVINO is not installed
        raise DeviceError(
            "this processor has no bfloat16 arithmetic, so bf16 would be slower than float32; use "
            'precision="bundle", '
            'or "fastest", which takes the fastest that this processor has'
        )
    if device == "openvino" and not openvino:
        return _open_way(bundle, _OPENVINO, threads)  # which says so
    if precision == "int8" and (device == "cpu" or not openvino):
        return _open_way(bundle, _INT8_CPU, threads)
    measurements = measured(bundle, threads=threads)
    chosen = choose(measurements, bundle.manifest, device=device, precision=precision)
    if chosen is None:
        why = "; ".join(map(str, measurements.values()))
        fix = 'precision="bundle"' if precision == "bf16" else 'device="cpu" or "auto"'
        raise DeviceError(
            f"{precision} gives no picture near enough on OpenVINO here ({why}); use {fix}"
        )
    try:
        return _open_way(bundle, chosen, threads)
    except (DeviceError, BundleError) as error:
        if precision != "fastest" or chosen == REFERENCE or device == "openvino":
            raise
        _log.warning("continuing in float32 on the CPU: %s", error)
        return _open_way(bundle, REFERENCE, threads)


def choose(
    measurements: Mapping[Way, Measured],
    manifest: Manifest,
    *,
    device: str,
    precision: str = "fastest",
) -> Way | None:
    """The fastest way near enough on a device ("auto", "cpu" or "openvino").

    None if that has none.
    """
    best: Measured | None = None
    for one in sorted(
        measurements.values(),
        key=lambda one: ((one.way != REFERENCE) + (one.way.precision != "bundle"), one.seconds),
    ):
        if precision == "fastest":
            near = one.way == REFERENCE or is_within_gate(one.way.precision, one.decibels, manifest)
            near &= one.seconds < math.inf
        else:
            same = (
                min(measurements[_INT8_CPU].decibels - _SAME_DB, FINE_DB)
                if precision == "int8"
                else LEAST_DB
            )
            near = one.way.precision == precision and (one.way == _INT8_CPU or one.decibels >= same)
        if (
            near
            and device in ("auto", one.way.device)
            and (best is None or one.seconds * WORTH < best.seconds)
        ):
            best = one
    return None if best is None else best.way


def measured(bundle: Bundle, *, threads: int | None) -> dict[Way, Measured]:
    """Measure all ways, or take an earlier start's results.

    Nothing is kept if a failure may pass.
    """
    file = _file(bundle, threads)
    with _measuring:
        if known := _read(file):
            return known
        begun = time.monotonic()
        _log.info("measuring what is fastest on this processor, once for this model …")
        measurements, lasting = _measure(bundle, threads)
        _log.info(
            "measured in %.1f s: %s", time.monotonic() - begun, "; ".join(map(str, measurements))
        )
        if file is not None and lasting:
            with contextlib.suppress(OSError):  # it only costs time
                write_atomically(
                    file,
                    (json.dumps([asdict(one) for one in measurements], indent=1) + "\n").encode(),
                )
        return {one.way: one for one in measurements}


def _measure(bundle: Bundle, threads: int | None) -> tuple[list[Measured], bool]:
    """The results, the reference first, and whether they last.

    Besides the reference, one way is open at a time.
    """
    # Many names: the reference stays open while each way is compared with it.
    manifest = bundle.manifest
    lasting = True
    ways = [_INT8_OPENVINO, _INT8_CPU] if INT8_ENCODER in manifest.files else []
    ways = [
        way for way in (*ways, _BF16, _OPENVINO) if way.device == "cpu" or is_installed("openvino")
    ]
    with _make_backend(bundle, REFERENCE, threads) as reference:
        photos = photographs(manifest.size_multiple)
        expected = [picture(reference, photo, manifest) for photo in photos]
        timed = photos[0]
        # two photographs twice: closer to the tiles of real ones
        if _seconds(reference, timed, manifest) < _QUICK_S:
            row = np.concatenate(photos, axis=3)
            timed = np.concatenate([row, row[..., ::-1]], axis=2)
        (exact,) = _best_times([reference], timed, manifest)
        measurements = [Measured(way=REFERENCE, seconds=exact, decibels=math.inf)]
        for way in ways:
            try:
                with (
                    memory_errors_typed(f"while {way} was measured"),
                    _make_backend(bundle, way, threads) as backend,
                ):
                    pairs = zip(photos, expected, strict=True)
                    decibels = min(
                        psnr(picture(backend, photo, manifest), theirs) for photo, theirs in pairs
                    )
                    seconds = math.inf
                    # stated beside the reference's first time: by their ratio now
                    if decibels >= LEAST_DB:
                        own, beside = _best_times([backend, reference], timed, manifest)
                        seconds = own / beside * exact
                measurements.append(Measured(way=way, seconds=seconds, decibels=decibels))
            except CancelledError:
                raise
            except SRFlowError as error:
                lasting &= not isinstance(error, (OutOfMemoryError, PassingError))
                measurements.append(Measured(way=way, error=str(error)))
    return measurements, lasting


def _make_backend(bundle: Bundle, way: Way, threads: int | None) -> Backend:
    """A backend, not yet active; its picture is not checked. Raises: DeviceError."""
    graphs = (INT8_ENCODER if way.precision == "int8" else REQUIRED_FILES[0], REQUIRED_FILES[1])
    backend: Backend
    if way.device == "cpu":
        backend = OnnxRuntimeBackend(bundle, threads=threads, graphs=graphs)
    elif way.precision == "bf16" and not has_bf16():
        raise DeviceError("this processor has no bfloat16 arithmetic")
    else:
        backend = OpenVinoBackend(bundle, threads=threads, graphs=graphs)
    backend.precision = way.precision
    return backend


def _open_way(bundle: Bundle, way: Way, threads: int | None) -> Backend:
    backend = _make_backend(bundle, way, threads)
    backend.activate()
    return backend


def _best_times(backends: Sequence[Backend], image: Any, manifest: Manifest) -> list[float]:
    """The shortest time of each, which other programs disturbed least.

    They take turns, so that a load hits all.
    """
    _seconds(backends[0], image, manifest)
    rounds = [[_seconds(backend, image, manifest) for backend in backends] for _ in range(_ROUNDS)]
    return [min(times) for times in zip(*rounds, strict=True)]


def _seconds(backend: Backend, image: Any, manifest: Manifest) -> float:
    """CPU seconds of all threads.

    Beside other programs, wall-clock times vary threefold, and these by a tenth.
    """
    begun = time.process_time()
    picture(backend, image, manifest)
    return time.process_time() - begun


def _file(bundle: Bundle, threads: int | None) -> Path | None:
    """The file in the cache for all that the measurement depends on; None if there is no cache."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    chip = processor() or platform.processor() or platform.machine()
    versions = [
        (name, package.version)
        for name in _PACKAGES
        for package in metadata.distributions(name=name)
    ]
    about = _SCHEMA, __version__, versions, bundle.model_sha256, chip, cores, threads
    folder = cache_folder("precision")
    return folder and folder / f"{sha256(repr(about).encode()).hexdigest()[:32]}.json"


def _read(file: Path | None) -> dict[Way, Measured]:
    """The results of an earlier start; empty if there is no such file, or it is damaged."""
    try:
        entries = json.loads(file.read_text("utf-8")) if file else []
        measurements = [Measured(**{**entry, "way": Way(**entry["way"])}) for entry in entries]
        return {one.way: one for one in measurements}
    except (OSError, ValueError, TypeError, RecursionError):
        return {}
