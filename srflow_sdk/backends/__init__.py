"""Backends: what runs a bundle's graphs, and the choice among them."""

from __future__ import annotations

import logging
from numbers import Integral
from typing import Literal, get_args

from srflow_sdk.backends.base import Backend, Conditioning
from srflow_sdk.backends.ort import OnnxRuntimeBackend, cuda_offered
from srflow_sdk.bundle import Bundle
from srflow_sdk.errors import ArgumentError, DeviceError

__all__ = ["Backend", "Conditioning", "Device", "OnnxRuntimeBackend", "open_backend"]

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
_log = logging.getLogger(__name__)


def open_backend(bundle: Bundle, *, device: Device = "auto", threads: int | None = None) -> Backend:
    """An active backend for a bundle; the caller deactivates it.

    device: "cpu", "cuda", or "auto": CUDA if ONNX Runtime has it and it really starts, else the CPU.
    threads: CPU threads, at least 1; None leaves the choice to the backend.

    Raises: ArgumentError for unknown devices or threads, DeviceError if the device cannot be used, BundleError if the
    graphs cannot be loaded.
    """
    if device not in get_args(Device):
        raise ArgumentError(f"device is {device!r}; it is one of {', '.join(get_args(Device))}")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, Integral) or threads < 1):
        raise ArgumentError(f"threads is {threads!r}; it is a whole number from 1, or None")
    if device == "tensorrt":
        raise DeviceError(
            f'{bundle.path} holds no TensorRT engines; use device="cuda" or device="cpu", which run its ONNX graphs'
        )
    if device == "cuda" or (device == "auto" and cuda_offered()):
        try:
            return _activated(OnnxRuntimeBackend(bundle, device="cuda", threads=threads))
        except DeviceError as error:
            if device == "cuda":
                raise
            _log.warning("running on the CPU: %s", error)
    return _activated(OnnxRuntimeBackend(bundle, device="cpu", threads=threads))


def _activated(backend: Backend) -> Backend:
    backend.activate()
    return backend
