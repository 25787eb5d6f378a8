"""The ways to compute one picture on a processor: which runtime, and what its encoder computes in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from srflow_sdk.backends._base import Backend
from srflow_sdk.backends._openvino import openvino_backend
from srflow_sdk.backends._openvino_graphs import has_bf16
from srflow_sdk.backends._ort import OnnxRuntimeBackend
from srflow_sdk.errors import DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import INT8_ENCODER, REQUIRED_FILES
from srflow_sdk.system.device_names import ComputePrecision


@dataclass(frozen=True, kw_only=True)
class Way:
    """A runtime, by its device's name, and what its encoder computes in. The sampler always computes in float32."""

    device: Literal["cpu", "openvino"]
    precision: ComputePrecision

    def __str__(self) -> str:
        return f"{'float32' if self.precision == 'bundle' else self.precision} on {self.device}"


REFERENCE = Way(device="cpu", precision="bundle")
"""What the others are compared with."""


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
