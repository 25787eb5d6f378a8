"""Backends: what runs a bundle's graphs, and the choice among them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, get_args

from srflow_sdk._checks import one_of, whole
from srflow_sdk.backends._agreement import check_agreement, takes_test_image
from srflow_sdk.backends._base import Backend, Conditioning, Drawing
from srflow_sdk.backends._openvino import openvino_backend
from srflow_sdk.backends._openvino_graphs import gpu_offered
from srflow_sdk.backends._ort import OnnxRuntimeBackend
from srflow_sdk.backends._ort_providers import OrtDevice, cuda_offered
from srflow_sdk.backends._plugin_providers import PLUGINS, has_gpu
from srflow_sdk.errors import BundleError, DeviceError, SRFlowError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import FLOAT32_DB, LEAST_DB
from srflow_sdk.system.device_names import ComputePrecision, Device, PluginDevice, Precision, split_device
from srflow_sdk.system.hardware import find_gpu

if TYPE_CHECKING:
    from srflow_sdk.backends._tensorrt import TensorRTBackend

__all__ = [
    "Backend",
    "ComputePrecision",
    "Conditioning",
    "Device",
    "Drawing",
    "OnnxRuntimeBackend",
    "Precision",
    "open_backend",
]

_TRUSTED = ("cpu", "cuda")  # the others' pictures are compared with the CPU's before they are used
_log = logging.getLogger(__name__)


def open_backend(
    bundle: Bundle,
    *,
    device: Device = "auto",
    threads: int | None = None,
    precision: Precision = "bundle",
) -> Backend:
    """Open an active backend for a bundle; the caller deactivates it.

    device: "cpu"; "cuda"; "tensorrt", which runs the bundle's own engines, or its graphs through ONNX Runtime's
    TensorRT provider if it has none; a plug-in provider of ONNX Runtime: "rtx" (TensorRT-RTX) or "webgpu"; "openvino";
    or "auto", the first of these that really starts: the bundle's engines, CUDA, RTX, WebGPU and OpenVINO (the last
    three only on a GPU), the CPU. Devices that are offered but do not start are skipped with a warning. "cuda",
    "tensorrt" and "rtx" take the number of a GPU, such as "cuda:1"; without one it is the first.
    threads: CPU threads, at least 1; None leaves the choice to the backend.

    precision: "bundle" computes as the bundle was exported. "bf16" lets OpenVINO's encoder compute in bfloat16, "int8"
    runs the bundle's quantised encoder, on the processor; with device "auto", a measurement chooses the runtime.
    "fastest" is the fastest of these on this machine within the gate (:mod:`srflow_sdk.backends._precision`): a
    GPU that starts computes as the bundle was exported, and so does a bundle of less than float32. Measurements are
    kept in the cache folder. The backend's `precision` says what it became.

    Raises: ArgumentError for unknown devices, threads or precisions, DeviceError if the device cannot be used,
    BundleError if the graphs cannot be loaded.
    """
    name, gpu = split_device(device)
    if threads is not None:
        whole("threads", threads, least=1, also="None or ")
    one_of("precision", precision, Precision)
    chooses = precision == "fastest" and bundle.manifest.precision == "fp32"
    if precision in ("bf16", "int8"):
        from srflow_sdk.backends._precision import open_less_precise

        return open_less_precise(bundle, name, threads=threads, precision=precision)
    for candidate in _offered(bundle) if name == "auto" else ():
        try:
            return _opened(bundle, candidate, threads=threads)
        except (DeviceError, BundleError) as error:  # engines may be damaged while the graphs are not
            _warn(candidate, error)
    if chooses and name in ("auto", "cpu", "openvino"):
        from srflow_sdk.backends._precision import open_fastest

        return open_fastest(bundle, name, threads=threads)
    return _opened(bundle, "cpu" if name == "auto" else name, gpu=gpu, threads=threads)


def _offered(bundle: Bundle) -> Iterator[OrtDevice | Literal["openvino"]]:
    """Devices in the order of "auto", as far as can be told without starting them; without the CPU."""
    if bundle.manifest.engines:
        from srflow_sdk.backends._tensorrt import tensorrt_offered

        if tensorrt_offered(bundle):
            yield "tensorrt"
    if cuda_offered():
        yield "cuda"
    for name in get_args(PluginDevice):
        plugin = PLUGINS[name]
        try:
            # Not on the CPU: there WebGPU only has a renderer for tests.
            if plugin.installed() and (name != "rtx" or find_gpu() is not None) and has_gpu(plugin):
                yield name
        except DeviceError as error:
            _warn(name, error)
    try:
        if gpu_offered():  # on processors ONNX Runtime is faster in float32
            yield "openvino"
    except DeviceError as error:
        _warn("openvino", error)


def _warn(device: str, error: SRFlowError) -> None:
    _log.warning("continuing without %s: %s", device, error)


def _opened(bundle: Bundle, device: OrtDevice | Literal["openvino"], *, gpu: int = 0, threads: int | None) -> Backend:
    backend = _made(bundle, device, gpu=gpu, threads=threads)
    try:
        backend.activate()
    except DeviceError as error:
        if device == "tensorrt" and not bundle.manifest.engines:
            raise DeviceError(
                f"{bundle.path} has no TensorRT engines, and its graphs cannot be run: {error}"
            ) from error
        if device == "rtx" and any(record.runtime == "tensorrt_rtx" for record in bundle.manifest.engines):
            raise DeviceError(
                f'{error}; the engines in {bundle.path} do not need ONNX Runtime: use device="tensorrt"'
            ) from error
        raise
    if device in _TRUSTED or not takes_test_image(backend, bundle.manifest):
        return backend
    try:
        with OnnxRuntimeBackend(bundle, device="cpu", threads=threads) as reference:
            # OpenVINO computes float32 graphs in float32: a seed stays a picture. Others may be told to use TF32.
            exact = device == "openvino" and bundle.manifest.precision == "fp32"
            least = FLOAT32_DB if exact else LEAST_DB
            check_agreement(backend, reference, bundle.manifest, fix=backend.fix, least_db=least)
    except BaseException:
        backend.deactivate()
        raise
    return backend


def _made(
    bundle: Bundle, device: OrtDevice | Literal["openvino"], *, gpu: int, threads: int | None
) -> OnnxRuntimeBackend | TensorRTBackend:
    if device == "openvino":
        return openvino_backend(bundle, threads=threads)
    if device == "tensorrt" and bundle.manifest.engines:
        from srflow_sdk.backends._tensorrt import TensorRTBackend

        return TensorRTBackend(bundle, gpu=gpu)
    return OnnxRuntimeBackend(bundle, device=device, gpu=gpu, threads=threads)
