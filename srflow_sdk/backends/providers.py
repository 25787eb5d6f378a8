"""ONNX Runtime's execution providers, a row for each, and how all of them are started.

A new provider is a row here, and its name in :mod:`srflow_sdk.system.hardware`. Plug-in
providers are packages `onnxruntime_ep_*`: each says where its library is, ONNX Runtime loads it,
and the library says on which of the machine's devices it runs.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from srflow_sdk.backends.base import one_line
from srflow_sdk.errors import DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.hardware import DeviceName, find_gpu, is_installed

_FREE = contextlib.nullcontext()


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A row: an execution provider.

    Attributes:
        device, name: the SDK's and ONNX Runtime's name.
        title: for people.
        fix: what to do if it does not start.
        options: the provider's own, for a bundle and the number of a GPU.
        check: of that number, before it starts; it raises DeviceError.
        bfloat16: it has bfloat16 convolutions.
        memory: ONNX Runtime's name for where the encoder's outputs stay.
        one_at_a_time: held during runs.
        module: of a plug-in, to import.
        package: of a plug-in, pip's name.
        needs: of a plug-in, the hardware and drivers.
    """

    device: DeviceName
    name: str
    title: str
    fix: str = ""
    options: Callable[[Bundle, int], dict[str, str]] = lambda bundle, gpu: {}
    check: Callable[[int], object] = lambda gpu: None
    bfloat16: bool = False
    memory: Literal["cpu", "cuda"] = "cpu"
    one_at_a_time: contextlib.AbstractContextManager[Any] = _FREE
    module: str = ""
    package: str = ""
    needs: str = ""

    def offered(self) -> bool:
        """True if ONNX Runtime was built with it, or its package is there.

        Only a session can tell if it starts.
        """
        return (
            is_installed(self.module)
            if self.module
            else self.name in onnxruntime().get_available_providers()
        )

    def suits_auto(self) -> bool:
        """True if "auto" tries it.

        A plug-in needs a GPU: on the CPU, WebGPU only has a renderer for tests.
        """
        if (
            self.device == "cpu"
            or not self.offered()
            or (self.module and self.memory == "cuda" and not find_gpu())
        ):
            return False
        return not self.module or any(one.device.type.name == "GPU" for one in find_devices(self))

    def version(self) -> str:
        """The installed plug-in's version, "" if pip does not know it."""
        # imported here: most machines have none of these packages, and it takes time
        from importlib import metadata

        for name in (self.package, f"{self.package}-cu13", f"{self.package}-cu12"):
            for package in metadata.distributions(name=name):
                return package.version
        return ""

    def how_to_fix(self) -> str:
        """The fix to suggest if it does not work as it should."""
        return self.fix or (
            f'it needs {self.needs}; use device="cpu", or update it: pip install -U {self.package}'
        )

    def prepare(self, gpu: int) -> None:
        """Load what it needs. Raises: DeviceError, with the fix, if that is not available."""
        if not self.module and not self.offered():
            version = onnxruntime().__version__
            raise DeviceError(
                f"the installed ONNX Runtime {version} has no {self.title} support; "
                f"{self.how_to_fix()}"
            )
        self.check(gpu)
        if self.module and gpu >= (count := len(find_devices(self))):
            raise DeviceError(
                f"{self.title} offers no device {gpu} here, but {count} in all; "
                f"{self.how_to_fix()}; run srflow-doctor for details"
            )

    def configure(self, options: Any, bundle: Bundle, gpu: int) -> list[Any] | None:
        """The providers of a session, the first choice first.

        None if they are set in its SessionOptions.
        """
        if self.module:
            options.add_provider_for_devices([find_devices(self)[gpu]], self.options(bundle, gpu))
            return None
        # A FusedConv of CUDA clears its output on another stream than it computes on, and computes
        # in TF32 where cuDNN cannot fuse (conv.cc in 1.20 and later).
        if self.device == "cuda":
            options.add_session_config_entry(
                "optimization.disable_specified_optimizers", "ConvActivationFusion"
            )
        cpu = PROVIDERS["cpu"].name
        return [cpu] if self.name == cpu else [(self.name, self.options(bundle, gpu)), cpu]


def _check_cuda(gpu: int) -> None:
    if gpu and find_gpu(gpu) is None:
        raise DeviceError(
            f"NVIDIA's driver shows no GPU {gpu} here (from 0 on); check it with nvidia-smi"
        )
    # CUDA's libraries may be pip packages. What is not found is printed, and matters only if the
    # session then fails.
    if preload := getattr(onnxruntime(), "preload_dlls", None):
        with contextlib.redirect_stdout(io.StringIO()):
            preload()


def _rtx_options(bundle: Bundle, gpu: int) -> dict[str, str]:
    version = PROVIDERS["rtx"].version() or "unknown"
    cache = cache_folder("onnxruntime-rtx", f"{bundle.model_sha256[:16]}-{version}")
    return {} if cache is None else {"nv_runtime_cache_path": str(cache)}


PROVIDERS: dict[str, Provider] = {  # in the order of "auto"
    row.device: row
    for row in (
        Provider(device="cpu", name="CPUExecutionProvider", title="ONNX Runtime"),
        Provider(
            device="cuda",
            name="CUDAExecutionProvider",
            title="CUDA",
            fix="run srflow-doctor, which prints the commands that put the GPU build for this "
            "driver in place of the "
            'CPU one, check the NVIDIA driver with nvidia-smi, or use device="cpu"',
            # Tiles come in several shapes: an exhaustive search would run again for each. TF32
            # would round the conditioning of a float32 bundle to 10 bits; without it, half
            # precision would lose its tensor cores, too.
            options=lambda bundle, gpu: {
                "cudnn_conv_algo_search": "HEURISTIC",
                "use_tf32": str(int(bundle.manifest.precision != "fp32")),
                "device_id": str(gpu),
            },
            check=_check_cuda,
            memory="cuda",
        ),
        Provider(
            device="rtx",
            name="NvTensorRTRTXExecutionProvider",
            title="NV TensorRT-RTX",
            options=_rtx_options,
            bfloat16=True,
            memory="cuda",
            module="onnxruntime_ep_nv_tensorrt_rtx",
            package="onnxruntime-ep-nv-tensorrt-rtx",
            needs="an NVIDIA RTX GPU of the 30 series or newer and its driver",
        ),
        Provider(
            device="webgpu",
            name="WebGpuExecutionProvider",
            title="WebGPU",
            # In its preferred layout, NHWC, version 0.4.0 computes 3×3 convolutions of 6 channels
            # wrongly where the number of output channels is a multiple of 4, as those at level 1 of
            # all samplers.
            options=lambda bundle, gpu: {"preferredLayout": "NCHW"},
            # All sessions share one queue and one pool of buffers. For the same reason conditioning
            # is kept in main memory: Python may free it in any thread at any time.
            one_at_a_time=threading.Lock(),
            module="onnxruntime_ep_webgpu",
            package="onnxruntime-ep-webgpu",
            needs="a GPU with a driver for Vulkan (Linux, with libvulkan.so.1), Direct3D 12 or "
            "Metal",
        ),
    )
}

_registering = threading.Lock()
_registered: set[str] = set()


def find_devices(plugin: Provider) -> list[Any]:
    """The OrtEpDevices that a plug-in computes float32 on, GPUs first. Its library is loaded.

    Raises: DeviceError.
    """
    ort = onnxruntime()
    with _registering:
        if plugin.module not in _registered:
            _register(plugin, ort)
            _registered.add(plugin.module)
    order = [ort.OrtHardwareDeviceType.GPU, ort.OrtHardwareDeviceType.CPU]
    devices = [
        one
        for one in ort.get_ep_devices()
        if one.ep_name == plugin.name and one.device.type in order
    ]
    real = [one for one in devices if not one.device.metadata.get("is_virtual")]
    return sorted(real, key=lambda one: order.index(one.device.type))


def _register(plugin: Provider, ort: Any) -> None:
    """Load a plug-in's library into ONNX Runtime. It is never unloaded: sessions may use it."""
    needs = f"it needs {plugin.needs}"
    if not plugin.offered():
        raise DeviceError(
            f"{plugin.title} is not installed: pip install {plugin.package}; {needs}; see "
            "srflow-doctor"
        )
    try:
        # An application may have registered it already; twice would show every device twice.
        if all(one.ep_name != plugin.name for one in ort.get_ep_devices()):
            helper = importlib.import_module(plugin.module)
            ort.register_execution_provider_library(plugin.module, helper.get_library_path())
    except Exception as error:
        # ORT's exceptions have no common base but Exception, and a package may raise any
        # ONNX Runtime names the library's whole path before it says what is missing.
        reason = one_line(str(error).rpartition("with error: ")[2])
        again = (
            'use device="cpu", or install it again: pip install --force-reinstall --no-deps '
            f"{plugin.package}"
        )
        raise DeviceError(
            f"{plugin.title} {plugin.version()} cannot be loaded: {reason}; {needs}; {again}"
        ) from error


def onnxruntime() -> Any:
    """Import ONNX Runtime.

    What is left of it after one of two builds was uninstalled still imports, but is empty.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(
            f"ONNX Runtime cannot be imported: {one_line(error)}; srflow-doctor shows the fix"
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise DeviceError(
            "ONNX Runtime is broken: the module exists, its files do not; srflow-doctor shows the "
            "fix"
        )
    return onnxruntime
