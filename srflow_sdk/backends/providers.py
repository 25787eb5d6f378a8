"""ONNX Runtime's execution providers, as a table with a row for each, and what is common to starting them.

A new provider is a row here, and its name in :mod:`srflow_sdk.system.device_names`. Plug-in providers are packages
`onnxruntime_ep_*`: each says where its library is, ONNX Runtime loads it, and the library says on which of the
machine's devices it runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from srflow_sdk.backends.base import one_line
from srflow_sdk.errors import DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import BOUNDS, first_command, input_shapes, shapes_text
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.device_names import PluginDevice
from srflow_sdk.system.hardware import cuda_of_wheels, find_gpu
from srflow_sdk.system.raising import is_installed

OrtDevice = Literal["cpu", "cuda", "tensorrt"] | PluginDevice

_FREE = contextlib.nullcontext()


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A row: an execution provider.

    device, name: the SDK's and ONNX Runtime's name. title: for people. fix: what to do if it does not start, where
    ENGINES stands for the command that builds them. options: the provider's own, for a graph of a bundle on a GPU.
    check: looked at before it starts. auto: "auto" tries it, in the order of the table. behind: devices for operators
    that it has no kernel for, besides the CPU. memory: ONNX Runtime's name for where the encoder's outputs stay.
    limited: windows are within the manifest's `default_profile`. one_at_a_time: held during runs. Of plug-ins, module:
    to import. package: pip's name. oldest: ONNX Runtime's version, major and minor. needs: the hardware and drivers.
    """

    device: OrtDevice
    name: str
    title: str
    fix: str = ""
    options: Callable[[Bundle, int, Path], dict[str, str]] = lambda bundle, gpu, graph: {}
    check: Callable[[Bundle], None] = lambda bundle: None
    auto: bool = True
    behind: tuple[OrtDevice, ...] = ()
    memory: Literal["cpu", "cuda"] = "cpu"
    limited: bool = False
    one_at_a_time: contextlib.AbstractContextManager[Any] = _FREE
    module: str = ""
    package: str = ""
    oldest: tuple[int, int] = (0, 0)
    needs: str = ""

    def offered(self) -> bool:
        """True if ONNX Runtime was built with it, or its package is there; only a session can tell if it starts."""
        return is_installed(self.module) if self.module else self.name in onnxruntime().get_available_providers()

    def version(self) -> str:
        """The installed plug-in's version, "" if pip does not know it."""
        from importlib import metadata  # imported here: most machines have none of these packages, and it takes time

        for name in (self.package, f"{self.package}-cu13", f"{self.package}-cu12"):
            with contextlib.suppress(metadata.PackageNotFoundError):
                return metadata.version(name)
        return ""

    def fix_for(self, bundle: Bundle) -> str:
        """The fix to suggest if it does not work as it should."""
        if self.module:
            return f'it needs {self.needs}; use device="cpu", or update it: pip install -U {self.package}'
        precision = bundle.manifest.precision
        build = first_command(bundle.path, runtime="tensorrt", precision=precision, compute_capability=None)
        return self.fix.replace("ENGINES", build)

    def prepare(self, bundle: Bundle, gpu: int) -> None:
        """Load what it needs. Raises: DeviceError, with the fix, if that is not available."""
        ort = onnxruntime()
        self.check(bundle)
        if self.module:
            if gpu >= (count := len(find_devices(self))):
                offers = f"has no device {gpu} here, only {count}" if count else "offers no device here"
                raise DeviceError(f"{self.title} {offers}; {self.fix_for(bundle)}; run srflow-doctor for details")
        elif not self.offered():
            version, fix = ort.__version__, self.fix_for(bundle)
            raise DeviceError(f"the installed ONNX Runtime {version} has no {self.title} support; {fix}")
        elif gpu and find_gpu(gpu) is None:
            raise DeviceError(f"NVIDIA's driver shows no GPU {gpu} here (from 0 on); check it with nvidia-smi")
        elif self.memory == "cuda":
            preload_cuda()

    def configure(self, options: Any, bundle: Bundle, gpu: int, graph: Path) -> list[Any] | None:
        """The providers of a session, the first choice first; None if they are set in its SessionOptions."""
        if self.module:
            options.add_provider_for_devices([find_devices(self)[gpu]], self.options(bundle, gpu, graph))
            return None
        rows = [self, *(PROVIDERS[device] for device in self.behind)]
        chain = [(row.name, row.options(bundle, gpu, graph)) for row in rows if row.device != "cpu"]
        return [*chain, PROVIDERS["cpu"].name]


def _cuda_options(bundle: Bundle, gpu: int, graph: Path) -> dict[str, str]:
    # Tiles come in several shapes: an exhaustive search would run again for each. TF32 would round the conditioning of
    # a float32 bundle to 10 bits.
    return {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0", "device_id": str(gpu)}


def _check_tensorrt(bundle: Bundle) -> None:
    if (precision := bundle.manifest.precision) != "fp32":
        raise DeviceError(
            "ONNX Runtime's TensorRT does not build strongly typed engines, so it would not keep the types of this "
            f"bundle ({precision}); {PROVIDERS['tensorrt'].fix_for(bundle)}"
        )
    turn_tf32_off()


def _tensorrt_options(bundle: Bundle, gpu: int, graph: Path) -> dict[str, str]:
    """Caches for the engines that its first session builds, for minutes, and the sizes that they are built for."""
    # No trt_fp16_enable: precision is what the graph says, and TensorRT 11 has no such flag any more.
    chosen, manifest, found = {"device_id": str(gpu)}, bundle.manifest, find_gpu(gpu)
    versions = f"onnxruntime{onnxruntime().__version__}-tensorrt{tensorrt_library_version()}"
    name = f"{bundle.model_sha256[:16]}-{versions}-{found.in_file_names if found else 'unknown'}"
    if (cache := cache_folder("onnxruntime-tensorrt", name)) is not None:
        for kind in ("engine", "timing"):
            chosen |= {f"trt_{kind}_cache_enable": "1", f"trt_{kind}_cache_path": str(cache)}
    inputs = [(value.name, value.shape) for value in unoptimised(graph).get_inputs()]
    shapes = input_shapes(inputs, manifest.default_profile, scale=manifest.scale, graph=graph.name)
    return chosen | {f"trt_profile_{bound}_shapes": shapes_text(shapes, bound) for bound in BOUNDS}


def _rtx_options(bundle: Bundle, gpu: int, graph: Path) -> dict[str, str]:
    version = PROVIDERS["rtx"].version() or "unknown"
    cache = cache_folder("onnxruntime-rtx", f"{bundle.model_sha256[:16]}-{version}")
    return {} if cache is None else {"nv_runtime_cache_path": str(cache)}


PROVIDERS: dict[str, Provider] = {
    row.device: row
    for row in (
        Provider(device="cpu", name="CPUExecutionProvider", title="ONNX Runtime", auto=False),
        Provider(
            device="cuda",
            name="CUDAExecutionProvider",
            title="CUDA",
            fix="install the GPU build in place of the CPU one (pip uninstall onnxruntime; pip install "
            'onnxruntime-gpu), check the NVIDIA driver with nvidia-smi, or use device="cpu"; run srflow-doctor for '
            "details",
            options=_cuda_options,
            memory="cuda",
        ),
        Provider(
            device="tensorrt",
            name="TensorrtExecutionProvider",
            title="TensorRT",
            fix='use device="cuda", or build engines: ENGINES; run srflow-doctor for details',
            options=_tensorrt_options,
            check=_check_tensorrt,
            auto=False,  # its first start takes minutes
            behind=("cuda",),
            memory="cuda",
            limited=True,  # TensorRT reserves memory for the largest
        ),
        Provider(
            device="rtx",
            name="NvTensorRTRTXExecutionProvider",
            title="NV TensorRT-RTX",
            options=_rtx_options,
            check=lambda bundle: turn_tf32_off(),  # first: the plug-in's library starts NVIDIA's
            memory="cuda",
            module="onnxruntime_ep_nv_tensorrt_rtx",
            package="onnxruntime-ep-nv-tensorrt-rtx",
            # The first whose Python names NVIDIA as the vendor of "cuda" memory, which a plug-in's allocator needs:
            # onnxruntime_inference_collection.py, get_vendor_id_for_device_type (microsoft/onnxruntime issue 26079).
            oldest=(1, 25),
            needs="an NVIDIA RTX GPU of the 30 series or newer and its driver",
        ),
        Provider(
            device="webgpu",
            name="WebGpuExecutionProvider",
            title="WebGPU",
            # In its preferred layout, NHWC, version 0.4.0 computes 3×3 convolutions of 6 channels wrongly where the
            # number of output channels is a multiple of 4, and this network has those.
            options=lambda bundle, gpu, graph: {"preferredLayout": "NCHW"},
            # All sessions share one queue and one pool of buffers. For the same reason conditioning is kept in main
            # memory: Python may free it in any thread at any time.
            one_at_a_time=threading.Lock(),
            module="onnxruntime_ep_webgpu",
            package="onnxruntime-ep-webgpu",
            oldest=(1, 24),  # what the oldest of these packages asks for
            needs="a GPU with a driver for Vulkan (Linux, with libvulkan.so.1), Direct3D 12 or Metal",
        ),
    )
}

_registering = threading.Lock()
_registered: set[str] = set()


def find_devices(plugin: Provider) -> list[Any]:
    """The OrtEpDevices that a plug-in can run the network on, GPUs first. Its library is loaded.

    Neural processors are left out, because they compute in half precision whatever the graph says; so are devices that
    are only compiled for. Raises: DeviceError if the package is not installed or its library cannot be loaded.
    """
    ort = onnxruntime()
    with _registering:
        if plugin.module not in _registered:
            _register(plugin, ort)
            _registered.add(plugin.module)
    order = [ort.OrtHardwareDeviceType.GPU, ort.OrtHardwareDeviceType.CPU]
    found = [one for one in ort.get_ep_devices() if one.ep_name == plugin.name and one.device.type in order]
    real = [one for one in found if not one.device.metadata.get("is_virtual")]
    return sorted(real, key=lambda one: order.index(one.device.type))


def on_gpu(plugin: Provider) -> bool:
    """True if the plug-in runs on a GPU here: on the CPU, WebGPU only has a renderer for tests. Raises: DeviceError."""
    absent = plugin.memory == "cuda" and find_gpu() is None
    return not absent and any(one.device.type.name == "GPU" for one in find_devices(plugin))


def _register(plugin: Provider, ort: Any) -> None:
    """Load a plug-in's library into ONNX Runtime. It is never unloaded: sessions may use it."""
    needs = f"it needs {plugin.needs}"
    if not plugin.offered():
        raise DeviceError(f"{plugin.title} is not installed: pip install {plugin.package}; {needs}; see srflow-doctor")
    if tuple(map(int, ort.__version__.split(".")[:2])) < plugin.oldest:
        oldest = ".".join(map(str, plugin.oldest))
        raise DeviceError(
            f"{plugin.title} needs ONNX Runtime {oldest} or newer, but {ort.__version__} is installed: "
            f'pip install -U "onnxruntime>={oldest}"'
        )
    try:
        # An application may have registered it already; twice would show every device twice.
        if all(one.ep_name != plugin.name for one in ort.get_ep_devices()):
            helper = importlib.import_module(plugin.module)
            ort.register_execution_provider_library(plugin.module, helper.get_library_path())
    except Exception as error:  # ORT's exceptions have no common base but Exception, and a package may raise any
        # ONNX Runtime names the library's whole path before it says what is missing.
        reason = one_line(str(error).rpartition("with error: ")[2])
        again = f'use device="cpu", or install it again: pip install --force-reinstall --no-deps {plugin.package}'
        raise DeviceError(f"{plugin.title} {plugin.version()} cannot be loaded: {reason}; {needs}; {again}") from error


def onnxruntime() -> Any:
    """Import ONNX Runtime. What is left of it after one of two builds was uninstalled still imports, but is empty."""
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(f"ONNX Runtime cannot be imported: {one_line(error)}; srflow-doctor shows the fix") from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise DeviceError("ONNX Runtime is broken: the module exists, its files do not; srflow-doctor shows the fix")
    return onnxruntime


def unoptimised(graph: Path) -> Any:
    """A session on the CPU that says what a graph takes and gives; ONNX Runtime's errors are passed on."""
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(graph), options, providers=[PROVIDERS["cpu"].name])


def preload_cuda() -> None:
    """Load CUDA's libraries from their pip packages, if that is how they are installed."""
    ort = onnxruntime()
    if hasattr(ort, "preload_dlls"):
        # It prints what it does not find, which matters only if the session then fails, and its error says so itself.
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()


def turn_tf32_off() -> None:
    """Keep TensorRT's float32 convolutions in float32, for this process, unless its environment says otherwise."""
    # Neither TensorRT provider has an option for it, and TensorRT's default is on (microsoft/onnxruntime issue 26029).
    # NVIDIA's libraries read the variable when they first start.
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")


def tensorrt_library_version() -> str:
    """Load the TensorRT that ONNX Runtime was linked against and return its version, such as "10.15.1".

    Raises: DeviceError, with the major version needed, if it is not installed.
    """
    folder = Path(str(onnxruntime().__file__)).parent / "capi"
    linked = b"".join(path.read_bytes() for path in folder.glob("*onnxruntime_providers_tensorrt.*"))
    found = re.search(rb"nvinfer(?:\.so\.|_)(\d+)", linked)
    major = int(found[1]) if found else 10
    # Its Python package, if there is one, loads the libraries that came with it.
    with contextlib.suppress(ImportError, OSError):
        importlib.import_module("tensorrt")
    name = f"nvinfer_{major}.dll" if sys.platform == "win32" else f"libnvinfer.so.{major}"
    try:
        number = int(ctypes.CDLL(name).getInferLibVersion())
    except (OSError, AttributeError) as error:
        package = f"tensorrt-cu{cuda_of_wheels(gpu.cuda) if (gpu := find_gpu()) else 12}"
        raise DeviceError(
            f"the installed ONNX Runtime needs TensorRT {major}, which cannot be loaded ({one_line(error)}): "
            f'pip install "{package}=={major}.*", or use device="cuda"; run srflow-doctor for details'
        ) from error
    # 101501 is 10.15.1; before TensorRT 10 it was 8601 for 8.6.1.
    step = 10_000 if number >= 100_000 else 1_000
    return f"{number // step}.{number % step // 100}.{number % 100}"
