"""Backends: what runs a bundle's graphs, and the choice among them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator

from srflow_sdk._checks import one_of, whole
from srflow_sdk.backends.base import Backend, Conditioning, Drawing, Finish
from srflow_sdk.backends.gate import check_agreement
from srflow_sdk.backends.openvino import OpenVinoBackend, gpu_offered
from srflow_sdk.backends.ort import OnnxRuntimeBackend
from srflow_sdk.backends.providers import PROVIDERS, onnxruntime
from srflow_sdk.errors import BundleError, DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import FLOAT32_DB, LEAST_DB
from srflow_sdk.system.hardware import (
    ComputePrecision,
    Device,
    DeviceName,
    Precision,
    find_gpu,
    split_device,
)

__all__ = [
    "Backend",
    "ComputePrecision",
    "Conditioning",
    "Device",
    "Drawing",
    "Finish",
    "OnnxRuntimeBackend",
    "Precision",
    "open_backend",
]

_log = logging.getLogger(__name__)
_WITHOUT = "continuing without %s: %s"


def open_backend(
    bundle: Bundle,
    *,
    device: Device = "auto",
    threads: int | None = None,
    precision: Precision = "bundle",
) -> Backend:
    """Open an active backend for a bundle; the caller deactivates it.

    Args:
        bundle: The bundle.
        device: "cpu"; "cuda"; "tensorrt", the bundle's own engines; "rtx" (TensorRT-RTX) or
            "webgpu", plug-ins of ONNX Runtime; "openvino"; or "auto", the first that really starts
            of engines, CUDA, RTX, WebGPU and OpenVINO (the last three only on a GPU), and the CPU.
            It skips devices that are offered but do not start, with a warning. "cuda:1" is the
            second GPU, also of "tensorrt" and "rtx".
        threads: CPU threads, at least 1; None leaves the choice to the backend.
        precision: "bundle" computes as the bundle was exported. "bf16" and "int8" let the encoder
            compute in less, on the processor. "fastest" is the fastest of these within the gate
            (:mod:`srflow_sdk.backends.gate`), measured once; a GPU that starts, or a bundle of less
            than float32, computes as exported. The backend's `precision` says what it became.

    Raises:
        ArgumentError: An unknown device, number of threads or precision.
        DeviceError: The device cannot be used.
        BundleError: The graphs cannot be loaded.
    """
    name, gpu = split_device(device)
    if threads is not None:
        whole("threads", threads, least=1, also="None or ")
    one_of("precision", precision, Precision)
    if name == "auto" and precision in ("bundle", "fastest"):
        for candidate in _list_devices(bundle):
            try:
                return _open_device(bundle, candidate, threads=threads)
            except (DeviceError, BundleError) as error:
                # engines may be damaged while the graphs are not
                _log.warning(_WITHOUT, candidate, error)
    if name == "auto" and not PROVIDERS["cuda"].offered() and (idle_gpu := find_gpu()):
        _log.warning(
            "%s is not used, as this ONNX Runtime is built without CUDA; srflow-doctor prints the "
            'commands that put one with CUDA in its place; device="cpu" is as wanted',
            idle_gpu.name,
        )
    measures = bundle.manifest.precision == "fp32" and name in ("auto", "cpu", "openvino")
    if precision != "bundle" and (measures or precision != "fastest"):
        from srflow_sdk.backends.ways import open_measured

        return open_measured(bundle, name, threads=threads, precision=precision)
    return _open_device(bundle, "cpu" if name == "auto" else name, gpu=gpu, threads=threads)


def _list_devices(bundle: Bundle) -> Iterator[DeviceName]:
    """Devices in the order of "auto", as far as can be told without starting them.

    Without the CPU.
    """
    onnxruntime()  # without it there is one error, and no warning for each device
    offers: list[tuple[DeviceName, Callable[[], bool]]] = []
    if bundle.manifest.engines:
        from srflow_sdk.backends.tensorrt import tensorrt_offered

        offers.append(("tensorrt", functools.partial(tensorrt_offered, bundle)))
    offers += [(row.device, row.suits_auto) for row in PROVIDERS.values()]
    offers.append(("openvino", gpu_offered))
    for device, offered in offers:
        try:
            if offered():
                yield device
        except DeviceError as error:
            _log.warning(_WITHOUT, device, error)


def _open_device(
    bundle: Bundle, device: DeviceName, *, gpu: int = 0, threads: int | None
) -> Backend:
    """An active backend, whose picture is near the CPU's."""
    backend: Backend
    if device == "openvino":
        backend = OpenVinoBackend(bundle, threads=threads)
    elif device == "tensorrt":
        from srflow_sdk.backends.tensorrt import TensorRTBackend

        backend = TensorRTBackend(bundle, gpu=gpu)
    else:
        backend = OnnxRuntimeBackend(bundle, device=device, gpu=gpu, threads=threads)
    backend.activate()
    if device == "cpu":
        return backend
    try:
        with OnnxRuntimeBackend(bundle, threads=threads) as reference:
            # OpenVINO computes float32 graphs in float32: a seed stays a picture. Others may be
            # told to use TF32.
            exact = device == "openvino" and bundle.manifest.precision == "fp32"
            check_agreement(
                backend, reference, bundle.manifest, least_db=FLOAT32_DB if exact else LEAST_DB
            )
    except BaseException:
        backend.deactivate()
        raise
    return backend
