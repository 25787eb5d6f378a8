"""The ways to compute one picture on a processor, and how near to float32 the fastest must be.

A way is a runtime and what its encoder computes in. The rule by which `precision="fastest"` may choose one:

- Decibels are image-space PSNR against the float32 picture with the same latents, at the bundle's default temperature.
- A bundle promises 43 dB if every row that its export recorded for the int8 encoder reaches 43, otherwise 38 dB, the
  bound of every export.
- bf16 must reach what the bundle promises, on two photographs, on this machine.
- int8 needs recorded rows that all reach 38 dB, and must come within 1 dB of what the bundle promises on this machine:
  the export proved the graph on more and larger photographs, and here it is the runtime that is checked.
- Another runtime in float32 must reach 90 dB on this machine, so that a seed stays a picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from srflow_sdk.backends._base import Backend
from srflow_sdk.backends._openvino import openvino_backend
from srflow_sdk.backends._openvino_graphs import has_bf16
from srflow_sdk.backends._ort import OnnxRuntimeBackend
from srflow_sdk.errors import DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import INT8_ENCODER, REQUIRED_FILES, Manifest
from srflow_sdk.model.psnr_bounds import FINE_DB, FLOAT32_DB, LEAST_DB
from srflow_sdk.system.device_names import ComputePrecision

INT8_ROWS = "encoder.int8+sampler"
"""The graph that a manifest's rows about its int8 encoder name."""

_SMALLER_PHOTOGRAPHS_DB = 1.0


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


def recorded_db(manifest: Manifest) -> float:
    """The least PSNR in dB that the export recorded for the int8 encoder; -inf if it recorded none."""
    rows = [row.get("psnr_db") for row in manifest.parity if row.get("graph") == INT8_ROWS]
    found = (float(value) if isinstance(value, (int, float)) else -math.inf for value in rows)
    return min(found, default=-math.inf)


def promised_db(manifest: Manifest) -> float:
    """The PSNR in dB that the pictures of this bundle in reduced precision are held to."""
    return FINE_DB if recorded_db(manifest) >= FINE_DB else LEAST_DB


def int8_is_proved(manifest: Manifest) -> bool:
    """True if the export recorded that the int8 encoder's pictures are near enough."""
    return recorded_db(manifest) >= LEAST_DB


def is_within_gate(way: Way, decibels: float, manifest: Manifest) -> bool:
    """True if "fastest" may choose a way whose pictures on this machine have this PSNR against float32."""
    if way.precision == "bundle":
        return decibels >= FLOAT32_DB
    if way.precision == "bf16":
        return decibels >= promised_db(manifest)
    return int8_is_proved(manifest) and decibels >= max(promised_db(manifest) - _SMALLER_PHOTOGRAPHS_DB, LEAST_DB)
