"""ONNX Runtime's execution providers: how to make sessions that run on the CPU, through CUDA or through TensorRT."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import re
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

from srflow_sdk.errors import DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import BOUNDS, LrProfile, first_command, input_shapes, shapes_text
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.device_names import PluginDevice
from srflow_sdk.system.hardware import find_gpu

OrtDevice = Literal["cpu", "cuda", "tensorrt"] | PluginDevice
CPU, CUDA, TENSORRT = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))

# Tiles come in several shapes: an exhaustive search would run again for each. TF32 would round the conditioning of a
# float32 bundle to 10 bits.
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}


class Provider(ABC):
    """An execution provider of ONNX Runtime. :meth:`prepare` comes first, then :meth:`configure` for each graph.

    device: the SDK's name. provider: ONNX Runtime's name. title: name for people. fix: what to do if it does not start.
    memory: ONNX Runtime's name for the memory where the encoder's outputs stay. gpu: as :attr:`Backend.gpu`.
    arena: the pool of memory that it can be asked to shrink.
    limits: as :attr:`Backend.window_limits`. one_at_a_time: held during runs, by providers that need it.
    """

    device: OrtDevice
    provider: str
    title: str
    fix: str
    memory: Literal["cpu", "cuda"] = "cpu"
    gpu: int | None = None
    arena: str = "cpu:0"
    limits: LrProfile | None = None
    one_at_a_time: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()

    def prepare(self) -> None:
        """Load what it needs. Raises: DeviceError, with the fix, if that is not available."""
        onnxruntime()

    @abstractmethod
    def configure(self, options: Any, graph: str) -> list[Any] | None:
        """The providers of a session, the first choice first; None if they were set in the SessionOptions.

        graph: the graph's file in the bundle.
        """


class CpuProvider(Provider):
    """ONNX Runtime's own kernels."""

    device = "cpu"
    provider = CPU
    title = "ONNX Runtime"
    fix = "pip install -U onnxruntime"

    def configure(self, options: Any, graph: str) -> list[Any]:
        return [CPU]


class CudaProvider(Provider):
    """CUDA, and the CPU for operators without a CUDA kernel."""

    device = "cuda"
    provider = CUDA
    title = "CUDA"
    fix = (
        "install the GPU build in place of the CPU one (pip uninstall onnxruntime; pip install onnxruntime-gpu), check "
        'the NVIDIA driver with nvidia-smi, or use device="cpu"; run srflow-doctor for details'
    )
    memory = "cuda"

    def __init__(self, gpu: int = 0) -> None:
        self.gpu, self.arena = gpu, f"gpu:{gpu}"

    def prepare(self) -> None:
        if not cuda_offered():
            raise DeviceError(f"the installed ONNX Runtime {onnxruntime().__version__} has no CUDA support; {self.fix}")
        _check_number(self.gpu)
        preload_cuda()

    def configure(self, options: Any, graph: str) -> list[Any]:
        return [(CUDA, _CUDA_OPTIONS | {"device_id": str(self.gpu)}), CPU]


class TensorRTProvider(Provider):
    """TensorRT through ONNX Runtime, which builds engines from the graphs, then CUDA, then the CPU.

    The first session builds engines, which takes minutes; the user's cache keeps them. Windows are limited, because
    TensorRT reserves memory for the largest.
    """

    device = "tensorrt"
    provider = TENSORRT
    title = "ONNX Runtime's TensorRT provider"
    memory = "cuda"

    def __init__(self, bundle: Bundle, gpu: int = 0) -> None:
        self.gpu, self.arena = gpu, f"gpu:{gpu}"
        command = first_command(
            bundle.path, runtime="tensorrt", precision=bundle.manifest.precision, compute_capability=None
        )
        self.fix = f'use device="cuda", or build engines: {command}; run srflow-doctor for details'
        self._bundle = bundle
        self._cache: Path | None = None
        self.limits = self._profile = bundle.manifest.default_profile

    def prepare(self) -> None:
        precision = self._bundle.manifest.precision
        if precision != "fp32":
            raise DeviceError(
                f"{self.title} does not build strongly typed engines, so it would not keep the types of this bundle "
                f"({precision}); {self.fix}"
            )
        ort = onnxruntime()
        if TENSORRT not in ort.get_available_providers():
            raise DeviceError(f"the installed ONNX Runtime {ort.__version__} has no TensorRT support; {self.fix}")
        _check_number(self.gpu)
        turn_tf32_off()
        preload_cuda()
        version, gpu = tensorrt_library_version(), find_gpu(self.gpu or 0)
        name = gpu.in_file_names if gpu else "unknown"
        self._cache = cache_folder(
            "onnxruntime-tensorrt",
            f"{self._bundle.model_sha256[:16]}-onnxruntime{ort.__version__}-tensorrt{version}-{name}",
        )

    def configure(self, options: Any, graph: str) -> list[Any]:
        # No trt_fp16_enable: precision is what the graph says, and TensorRT 11 has no such flag any more.
        on_gpu = {"device_id": str(self.gpu)}
        chosen = dict(on_gpu)
        if self._cache is not None:
            for kind in ("engine", "timing"):
                chosen |= {f"trt_{kind}_cache_enable": "1", f"trt_{kind}_cache_path": str(self._cache)}
        inputs = [(value.name, value.shape) for value in unoptimised(self._bundle.file(graph)).get_inputs()]
        shapes = input_shapes(inputs, self._profile, scale=self._bundle.manifest.scale, graph=graph)
        for bound in BOUNDS:
            chosen[f"trt_profile_{bound}_shapes"] = shapes_text(shapes, bound)
        return [(TENSORRT, chosen), (CUDA, _CUDA_OPTIONS | on_gpu), CPU]


def onnxruntime() -> Any:
    """Import ONNX Runtime. What is left of it after one of two builds was uninstalled still imports, but is empty."""
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(f"ONNX Runtime cannot be imported: {one_line(error)}; srflow-doctor shows the fix") from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise DeviceError("ONNX Runtime is broken: the module exists, its files do not; srflow-doctor shows the fix")
    return onnxruntime


def unoptimised(path: Path) -> Any:
    """A session on the CPU that says what a graph takes and gives; ONNX Runtime's errors are passed on."""
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=[CPU])


def cuda_offered() -> bool:
    """True if the installed ONNX Runtime was built with CUDA; only a session can tell whether there is a GPU."""
    return CUDA in onnxruntime().get_available_providers()


def preload_cuda() -> None:
    """Load CUDA's libraries from their pip packages, if that is how they are installed."""
    ort = onnxruntime()
    if hasattr(ort, "preload_dlls"):
        # It prints what it does not find, which matters only if the session then fails, and its error says so itself.
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()


def _check_number(gpu: int | None) -> None:
    """Raises: DeviceError for a GPU, other than the first, that the driver does not show."""
    if gpu and find_gpu(gpu) is None:
        raise DeviceError(
            f"NVIDIA's driver shows no GPU {gpu} here (they are numbered from 0); check it with nvidia-smi"
        )


def turn_tf32_off() -> None:
    """Keep TensorRT's float32 convolutions in float32, for this process, unless its environment says otherwise.

    Neither TensorRT provider has an option for it, and TensorRT's default is on (microsoft/onnxruntime issue 26029).
    NVIDIA's libraries read the variable when they first start.
    """
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
        raise DeviceError(
            f"the installed ONNX Runtime needs TensorRT {major}, which cannot be loaded ({one_line(error)}): "
            f'pip install "tensorrt=={major}.*", or use device="cuda"; run srflow-doctor for details'
        ) from error
    # 101501 is 10.15.1; before TensorRT 10 it was 8601 for 8.6.1.
    step = 10_000 if number >= 100_000 else 1_000
    return f"{number // step}.{number % step // 100}.{number % 100}"


def one_line(error: object) -> str:
    """An exception's text in one line, for the end of an error message."""
    return " ".join(str(error).split())[:300]
