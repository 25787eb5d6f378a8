"""ONNX Runtime's plug-in providers, which are separate packages: finds and registers them, and chooses a device.

Each package `onnxruntime_ep_*` has a function that says where its library is. ONNX Runtime loads the library, and the
library says which of the machine's devices it runs on.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from abc import abstractmethod
from typing import Any

from srflow_sdk.backends._ort_providers import Provider, one_line, onnxruntime, turn_tf32_off
from srflow_sdk.errors import DeviceError
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.device_names import PluginDevice
from srflow_sdk.system.raising import is_installed


class PluginProvider(Provider):
    """A plug-in provider: a device that it finds, and the CPU for operators that it has no kernel for.

    name: for people. module: what to import. distributions: pip's names, the one to install first.
    needs: the hardware and drivers that it requires.
    oldest_runtime: ONNX Runtime's version, major and minor.
    number: the device's in the order of :func:`find_devices`, whose first is the best.
    model_sha256: keeps the models' caches apart.
    """

    device: PluginDevice
    name: str
    module: str
    distributions: tuple[str, ...]
    needs: str
    oldest_runtime: tuple[int, int]

    def __init__(self, number: int = 0, *, model_sha256: str) -> None:
        self._number = number
        self.title = f"ONNX Runtime's {self.name} provider"
        self.fix = f'it needs {self.needs}; use device="cpu", or update it: pip install -U {self.distributions[0]}'
        self._model_sha256 = model_sha256
        self._chosen: Any = None

    @classmethod
    def installed(cls) -> bool:
        """True if its package is there. Nothing is imported."""
        return is_installed(cls.module)

    @classmethod
    def version(cls) -> str:
        """The installed package's version, "" if pip does not know it."""
        from importlib import metadata  # imported here: most machines have none of these packages, and it takes time

        for name in cls.distributions:
            with contextlib.suppress(metadata.PackageNotFoundError):
                return metadata.version(name)
        return ""

    def prepare(self) -> None:
        found = find_devices(type(self))
        if self._number >= len(found):
            offers = f"has no device {self._number} here, only {len(found)}" if found else "offers no device here"
            raise DeviceError(f"{self.title} {offers}; {self.fix}; run srflow-doctor for details")
        self._chosen = found[self._number]

    def configure(self, options: Any, graph: str) -> None:
        options.add_provider_for_devices([self._chosen], self._settings())

    @abstractmethod
    def _settings(self) -> dict[str, str]:
        """The provider's own options."""


class RtxProvider(PluginProvider):
    """NVIDIA's TensorRT-RTX."""

    device = "rtx"
    provider = "NvTensorRTRTXExecutionProvider"
    name = "NV TensorRT-RTX"
    module = "onnxruntime_ep_nv_tensorrt_rtx"
    distributions = (
        "onnxruntime-ep-nv-tensorrt-rtx",
        "onnxruntime-ep-nv-tensorrt-rtx-cu13",
        "onnxruntime-ep-nv-tensorrt-rtx-cu12",
    )
    needs = "an NVIDIA RTX GPU of the 30 series or newer and its driver"
    # The first whose Python names NVIDIA as the vendor of "cuda" memory, which a plug-in's allocator needs:
    # onnxruntime_inference_collection.py, get_vendor_id_for_device_type (microsoft/onnxruntime issue 26079).
    oldest_runtime = (1, 25)
    memory = "cuda"

    def prepare(self) -> None:
        turn_tf32_off()  # first: the plug-in's library starts NVIDIA's
        super().prepare()
        self.gpu = self._number

    def _settings(self) -> dict[str, str]:
        cache = cache_folder("onnxruntime-rtx", f"{self._model_sha256[:16]}-{self.version() or 'unknown'}")
        return {} if cache is None else {"nv_runtime_cache_path": str(cache)}


class WebGpuProvider(PluginProvider):
    """WebGPU. All sessions share one queue and one pool of buffers, so one runs at a time.

    For the same reason conditioning is kept in main memory: Python may free it in any thread at any time.
    """

    device = "webgpu"
    provider = "WebGpuExecutionProvider"
    name = "WebGPU"
    module = "onnxruntime_ep_webgpu"
    distributions = ("onnxruntime-ep-webgpu",)
    needs = "a GPU with a driver for Vulkan (Linux, with libvulkan.so.1), Direct3D 12 or Metal"
    oldest_runtime = (1, 24)  # what the oldest of these packages asks for
    one_at_a_time = threading.Lock()

    def _settings(self) -> dict[str, str]:
        # In its preferred layout, NHWC, version 0.4.0 computes 3×3 convolutions of 6 channels wrongly where the number
        # of output channels is a multiple of 4, and this network has those.
        return {"preferredLayout": "NCHW"}


PLUGINS: dict[PluginDevice, type[PluginProvider]] = {"rtx": RtxProvider, "webgpu": WebGpuProvider}

_registering = threading.Lock()
_registered: set[str] = set()


def find_devices(plugin: type[PluginProvider]) -> list[Any]:
    """The OrtEpDevices that the provider can run the network on, the best first. Its library is loaded.

    Neural processors are left out, because they compute in half precision whatever the graph says; so are devices that
    are only compiled for.

    Raises: DeviceError if the package is not installed or its library cannot be loaded.
    """
    ort = onnxruntime()
    _register(plugin)
    kinds = ort.OrtHardwareDeviceType
    order = [kinds.GPU, kinds.CPU]
    found = [
        device
        for device in ort.get_ep_devices()
        if device.ep_name == plugin.provider
        and device.device.type in order
        and not device.device.metadata.get("is_virtual")
    ]
    return sorted(found, key=lambda device: order.index(device.device.type))


def has_gpu(plugin: type[PluginProvider]) -> bool:
    """True if the provider runs on a GPU here. Raises: DeviceError as :func:`find_devices`."""
    gpu = onnxruntime().OrtHardwareDeviceType.GPU
    return any(device.device.type == gpu for device in find_devices(plugin))


def described(device: Any) -> str:
    """A device for people, such as "CPU, AMD EPYC"."""
    name = device.ep_metadata.get("FULL_DEVICE_NAME") or device.device.vendor
    return f"{device.device.type.name}, {name}" if name else str(device.device.type.name)


def _register(plugin: type[PluginProvider]) -> None:
    """Load a provider's library into ONNX Runtime, once in a process. It is never unloaded: sessions may use it."""
    with _registering:
        if plugin.module in _registered:
            return
        if not plugin.installed():
            raise DeviceError(
                f"{plugin.name} is not installed: pip install {plugin.distributions[0]}. It needs {plugin.needs}; run "
                "srflow-doctor for details"
            )
        ort = onnxruntime()
        oldest = ".".join(map(str, plugin.oldest_runtime))
        if tuple(int(part) for part in ort.__version__.split(".")[:2]) < plugin.oldest_runtime:
            raise DeviceError(
                f"{plugin.name} needs ONNX Runtime {oldest} or newer, but {ort.__version__} is installed: "
                f'pip install -U "onnxruntime>={oldest}"'
            )
        try:
            # An application may have registered it already; twice would show every device twice.
            if all(device.ep_name != plugin.provider for device in ort.get_ep_devices()):
                helper = importlib.import_module(plugin.module)
                ort.register_execution_provider_library(plugin.module, helper.get_library_path())
        except Exception as error:  # ORT's exceptions have no common base but Exception, and a package may raise any
            # ONNX Runtime names the library's whole path before it says what is missing.
            reason = one_line(str(error).rpartition("with error: ")[2])
            raise DeviceError(
                f"{plugin.name} {plugin.version()} cannot be loaded: {reason}; it needs {plugin.needs}; use "
                f'device="cpu", or install it again: pip install --force-reinstall --no-deps {plugin.distributions[0]}'
            ) from error
        _registered.add(plugin.module)
