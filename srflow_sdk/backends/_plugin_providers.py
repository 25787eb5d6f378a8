"""ONNX Runtime's plug-in providers, which are separate packages: finds and registers them, and chooses a device.

Each package `onnxruntime_ep_*` has a function that says where its library is. ONNX Runtime loads the library, and the
library says which of the machine's devices it runs on.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from dataclasses import dataclass
from typing import Any, Literal

from srflow_sdk.backends._ort_providers import Provider, one_line, onnxruntime
from srflow_sdk.errors import DeviceError
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.device_names import PluginDevice
from srflow_sdk.system.raising import is_installed

_OLDEST_RUNTIME = (1, 24)  # what the oldest of these packages asks for


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A plug-in provider.

    provider: ONNX Runtime's name for it. module: what to import. distributions: pip's names, the one to install first.
    needs: the hardware and drivers that it requires. memory: as :attr:`Provider.memory`.
    """

    device: PluginDevice
    title: str
    provider: str
    module: str
    distributions: tuple[str, ...]
    needs: str
    memory: Literal["cpu", "cuda"] = "cpu"

    @property
    def fix(self) -> str:
        """The command that installs it."""
        return f"pip install {self.distributions[0]}"

    @property
    def installed(self) -> bool:
        """True if its package is there. Nothing is imported."""
        return is_installed(self.module)

    @property
    def version(self) -> str:
        """The installed package's version, "" if pip does not know it."""
        from importlib import metadata  # imported here: most machines have none of these packages, and it takes time

        for name in self.distributions:
            with contextlib.suppress(metadata.PackageNotFoundError):
                return metadata.version(name)
        return ""


PLUGINS: dict[PluginDevice, Plugin] = {
    plugin.device: plugin
    for plugin in (
        Plugin(
            device="rtx",
            title="NV TensorRT-RTX",
            provider="NvTensorRTRTXExecutionProvider",
            module="onnxruntime_ep_nv_tensorrt_rtx",
            distributions=(
                "onnxruntime-ep-nv-tensorrt-rtx",
                "onnxruntime-ep-nv-tensorrt-rtx-cu13",
                "onnxruntime-ep-nv-tensorrt-rtx-cu12",
            ),
            needs="an NVIDIA RTX GPU of the 30 series or newer and its driver",
            memory="cuda",
        ),
        Plugin(
            device="webgpu",
            title="WebGPU",
            provider="WebGpuExecutionProvider",
            module="onnxruntime_ep_webgpu",
            distributions=("onnxruntime-ep-webgpu",),
            needs="a GPU with a driver for Vulkan (Linux, with libvulkan.so.1), Direct3D 12 or Metal",
        ),
    )
}

_registering = threading.Lock()
_registered: set[str] = set()
_webgpu_runs = threading.Lock()


def find_devices(plugin: Plugin) -> list[Any]:
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


def has_gpu(plugin: Plugin) -> bool:
    """True if the provider runs on a GPU here. Raises: DeviceError as :func:`find_devices`."""
    gpu = onnxruntime().OrtHardwareDeviceType.GPU
    return any(device.device.type == gpu for device in find_devices(plugin))


def described(device: Any) -> str:
    """A device for people, such as "CPU, AMD EPYC"."""
    name = device.ep_metadata.get("FULL_DEVICE_NAME") or device.device.vendor
    return f"{device.device.type.name}, {name}" if name else str(device.device.type.name)


class PluginProvider(Provider):
    """The best device of a plug-in provider, and the CPU for operators that it has no kernel for.

    model_sha256: keeps the models' caches apart.
    """

    def __init__(self, plugin: Plugin, *, model_sha256: str) -> None:
        self.plugin = plugin
        self.device = plugin.device
        self.provider = plugin.provider
        self.title = f"ONNX Runtime's {plugin.title} provider"
        self.fix = f'it needs {plugin.needs}; use device="cpu", or update it: pip install -U {plugin.distributions[0]}'
        self.memory = plugin.memory
        self.gpu = 0 if plugin.memory == "cuda" else None
        if plugin.device == "webgpu":
            # All sessions share one queue and one pool of buffers. For the same reason conditioning is kept in main
            # memory: Python may free it in any thread at any time.
            self.one_at_a_time = _webgpu_runs
        self._model_sha256 = model_sha256
        self._chosen: Any = None

    def prepare(self) -> None:
        found = find_devices(self.plugin)
        if not found:
            raise DeviceError(f"{self.title} offers no device here; {self.fix}; run srflow-doctor for details")
        self._chosen = found[0]

    def configure(self, options: Any, graph: str) -> None:
        options.add_provider_for_devices([self._chosen], self._settings())

    def _settings(self) -> dict[str, str]:
        if self.device == "webgpu":
            # In its preferred layout, NHWC, version 0.4.0 computes 3×3 convolutions of 6 channels wrongly where the
            # number of output channels is a multiple of 4, and this network has those.
            return {"preferredLayout": "NCHW"}
        key = f"{self._model_sha256[:16]}-{self.plugin.version or 'unknown'}"
        cache = cache_folder(f"onnxruntime-{self.device}", key)
        return {} if cache is None else {"nv_runtime_cache_path": str(cache)}


def _register(plugin: Plugin) -> None:
    """Load a provider's library into ONNX Runtime, once in a process. It is never unloaded: sessions may use it."""
    with _registering:
        if plugin.module in _registered:
            return
        if not plugin.installed:
            raise DeviceError(
                f"{plugin.title} is not installed: {plugin.fix}. It needs {plugin.needs}; run srflow-doctor for details"
            )
        ort = onnxruntime()
        oldest = ".".join(map(str, _OLDEST_RUNTIME))
        if tuple(int(part) for part in ort.__version__.split(".")[:2]) < _OLDEST_RUNTIME:
            raise DeviceError(
                f"{plugin.title} needs ONNX Runtime {oldest} or newer, but {ort.__version__} is installed: "
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
                f"{plugin.title} {plugin.version} cannot be loaded: {reason}; it needs {plugin.needs}; use "
                f'device="cpu", or install it again: pip install --force-reinstall --no-deps {plugin.distributions[0]}'
            ) from error
        _registered.add(plugin.module)
