"""What was measured on this machine, kept in the user's cache folder until anything that it depends on changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from srflow_sdk._version import __version__
from srflow_sdk.backends._precision_ways import Way
from srflow_sdk.errors import DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system import locks
from srflow_sdk.system.atomic import write_atomically
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.processor import first_core

_FOLDER = "precision"
_SCHEMA = 3
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino")
_MAX_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one way gave here. seconds: CPU time of one picture, the best of several; None if it was not timed.
    decibels: PSNR against float32, the worse of two photographs. error: one line if it cannot be used at all. passing:
    the error's class if another start may do better: memory was wanting, for example. Otherwise it stays so until the
    processor, a package or the bundle changes.
    """

    way: Way
    seconds: float | None = None
    decibels: float = -math.inf
    error: str | None = None
    passing: type[DeviceError] | None = None


def cache_key(bundle: Bundle, *, threads: int | None) -> dict[str, Any]:
    """All that the measurement depends on, as JSON values."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "schema": _SCHEMA,
        "model_sha256": bundle.model_sha256,
        "processor": _processor(),
        "cores": cores,
        "threads": threads,
        "versions": {"srflow-sdk": __version__, **{name: _version(name) for name in _PACKAGES}},
    }


def read_measured(key: dict[str, Any]) -> dict[Way, Measured]:
    """What earlier processes wrote; empty if there is nothing for exactly this key, or it is damaged."""
    path = _path(key)
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MAX_BYTES))
        if content["key"] != key:
            return {}
        return {one.way: one for one in map(_measured, content["measured"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def write_measured(key: dict[str, Any], measured: Iterable[Measured]) -> None:
    """Keep what lasts for the next process: the whole file or none. Without a usable folder, nothing is kept."""
    path = _path(key)
    if path is None:
        return
    entries = [
        {
            "way": asdict(one.way),
            "seconds": one.seconds,
            "decibels": one.decibels if math.isfinite(one.decibels) else None,
            "equal": one.decibels == math.inf,
            "error": one.error,
        }
        for one in measured
        if one.passing is None
    ]
    with contextlib.suppress(OSError):  # it only costs time
        write_atomically(path, (json.dumps({"key": key, "measured": entries}, indent=1) + "\n").encode())


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Waits while another process of this user measures: the two would only slow each other down."""
    folder = cache_folder(_FOLDER)
    if folder is None or not locks.LOCKS_EXIST:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        locks.lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _path(key: dict[str, Any]) -> Path | None:
    folder = cache_folder(_FOLDER)
    if folder is None:
        return None
    return folder / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]}.json"


def _measured(entry: dict[str, Any]) -> Measured:
    """Raises: KeyError, TypeError, ValueError if it is not what :func:`write_measured` writes."""
    seconds, decibels, error = entry["seconds"], entry["decibels"], entry["error"]
    if decibels is None:
        decibels = math.inf if entry["equal"] is True else -math.inf
    if error is not None and not isinstance(error, str):
        raise TypeError("error")
    way, seconds = Way(**entry["way"]), None if seconds is None else float(seconds)
    return Measured(way=way, seconds=seconds, decibels=float(decibels), error=error)


def _processor() -> dict[str, str]:
    """The processor's name and a hash of its instruction sets, as far as the system tells them."""
    fields = first_core()
    name = fields.get("model name") or platform.processor() or platform.machine()
    instructions = fields.get("flags") or fields.get("Features") or platform.machine()
    ordered = " ".join(sorted(instructions.split()))
    return {"name": name, "instructions": hashlib.sha256(ordered.encode()).hexdigest()[:16]}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
