"""ONNX Runtime, on the CPU or through CUDA.

Both graphs are always run through IOBinding: conditioning stays where it was computed, as OrtValues, and the CPU runs
the same code as the GPU.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.backends.base import Backend, Conditioning
from srflow_sdk.bundle import Bundle
from srflow_sdk.errors import BundleError, DeviceError, OutOfMemoryError

OrtDevice = Literal["cpu", "cuda"]
_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_CUDA_MEND = (
    "install the GPU build in place of the CPU one (pip uninstall onnxruntime; pip install onnxruntime-gpu), check the "
    'NVIDIA driver with nvidia-smi, or use device="cpu"; srflow-doctor says more'
)
_FATAL_ONLY = 4
_OUT_OF_MEMORY = re.compile(
    r"failed to allocate memory|bad_alloc|bad allocation|out of memory|AllocateRaw|ALLOC_FAILED", re.IGNORECASE
)


class OrtConditioning(Conditioning):
    """The encoder's outputs by name, as OrtValues on the device."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)
        self._nbytes: int = sum(value.tensor_size_in_bytes() for value in self.values.values())

    @property
    def nbytes(self) -> int:
        return self._nbytes


class OnnxRuntimeBackend(Backend):
    """A bundle's encoder.onnx and sampler.onnx in two ONNX Runtime sessions.

    device: "cpu", or "cuda" for the first GPU. threads: CPU threads for the operators, at most one per core; None
    leaves the choice to ONNX Runtime (one per physical core). encoder, sampler: the graphs' files in the bundle.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: OrtDevice = "cpu",
        threads: int | None = None,
        encoder: str = "encoder.onnx",
        sampler: str = "sampler.onnx",
    ) -> None:
        super().__init__()
        self._bundle = bundle
        self._device = device
        self._threads = threads
        self._files = encoder, sampler
        self._encoder: Any = None
        self._sampler: Any = None
        self._scarce = False

    @property
    def device(self) -> str:
        return self._device

    def activate_impl(self) -> None:
        if self._device == "cuda":
            _prepare_cuda()
        encoder, sampler = map(self._session, self._files)
        _check_graphs(self._bundle, encoder, sampler)
        self._encoder, self._sampler = encoder, sampler

    def deactivate_impl(self) -> None:
        self._encoder = self._sampler = None

    def encode_impl(self, lr: NDArray[np.float32]) -> OrtConditioning:
        session = _still_open(self._encoder)
        names = [output.name for output in session.get_outputs()]
        binding = session.io_binding()
        binding.bind_cpu_input("lr", np.ascontiguousarray(lr, np.float32))
        for name in names:
            binding.bind_output(name, self._device)
        self._run(session, binding, f"encoding {lr.shape[-1]}×{lr.shape[-2]} pixels on {self._device}")
        return OrtConditioning(dict(zip(names, binding.get_outputs(), strict=True)))

    def sample_impl(
        self, conditioning: Conditioning, noise: Mapping[int, NDArray[np.float32]], tau: float
    ) -> NDArray[np.float32]:
        if not isinstance(conditioning, OrtConditioning):
            raise DeviceError(f"conditioning of type {type(conditioning).__name__} belongs to another backend")
        session = _still_open(self._sampler)
        binding = session.io_binding()
        for name, value in conditioning.values.items():
            binding.bind_ortvalue_input(name, value)
        for level, array in noise.items():
            binding.bind_cpu_input(f"noise_level{level}", np.ascontiguousarray(array, np.float32))
        binding.bind_cpu_input("tau", np.array([tau], np.float32))
        binding.bind_output("sr", "cpu")
        self._run(session, binding, f"sampling on {self._device}")
        sr: NDArray[np.float32] = binding.get_outputs()[0].numpy()
        return sr

    def _run(self, session: Any, binding: Any, what: str) -> None:
        options = None
        if self._scarce:
            # The arenas keep what they once took, and leave nothing for anyone else when memory is short.
            options = _onnxruntime().RunOptions()
            arena = "gpu:0" if self._device == "cuda" else "cpu:0"
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", arena)
        try:
            session.run_with_iobinding(binding, options)
        except Exception as error:  # ORT's exceptions have no common base but Exception
            reason = _one_line(error)
            if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(reason):
                self._scarce = True
                raise OutOfMemoryError(f"{what} failed: out of memory ({reason}); use smaller tiles") from error
            raise DeviceError(f"{what} failed: {reason}") from error

    def _session(self, name: str) -> Any:
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = _FATAL_ONLY  # every failure reaches the caller as an exception
        # More threads than cores only wait for each other, and each costs memory.
        options.intra_op_num_threads = min(self._threads, os.cpu_count() or 1) if self._threads else 0
        # Threads that spin between operators take the processor from the other session and from the app: with another
        # load on the machine, spinning made a call 1.3 to 1.4 times slower.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Memory plans are kept per input shape, and tiles come in several: the full-size ×4 network took 0.7 GB more
        # over nine tiles with them, and no less time.
        options.enable_mem_pattern = False
        providers: list[Any] = [_CPU]
        if self._device == "cuda":
            # Tiles come in several shapes: an exhaustive search would run again for each. TF32 would round the
            # conditioning of a float32 bundle to 10 bits.
            providers.insert(0, (_CUDA, {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}))
        path = self._bundle.file(name)
        try:
            session = ort.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
        except Exception as error:  # ORT's exceptions have no common base but Exception
            if self._device == "cuda":
                raise DeviceError(f"CUDA cannot run {name}: {_one_line(error)}; {_CUDA_MEND}") from error
            raise BundleError(
                f"{path} is not a graph that ONNX Runtime {ort.__version__} can load: {_one_line(error)}; "
                "export the bundle again, or pip install -U onnxruntime"
            ) from error
        if self._device == "cuda" and _CUDA not in session.get_providers():
            raise DeviceError(f"ONNX Runtime has CUDA support but could not start it here; {_CUDA_MEND}")
        return session


def _onnxruntime() -> Any:
    """The module. What is left of it after one of two builds was uninstalled imports, but is empty."""
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(
            f"ONNX Runtime cannot be imported: {_one_line(error)}; srflow-doctor says the mend"
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise DeviceError("ONNX Runtime is broken: the module is there, its files are not; srflow-doctor says the mend")
    return onnxruntime


def cuda_offered() -> bool:
    """Whether the installed ONNX Runtime was built with CUDA; whether a GPU is there only a session can tell."""
    return _CUDA in _onnxruntime().get_available_providers()


def _prepare_cuda() -> None:
    """Load CUDA's libraries from their pip packages, if that is how they are installed."""
    ort = _onnxruntime()
    if not cuda_offered():
        raise DeviceError(f"the installed ONNX Runtime {ort.__version__} has no CUDA support; {_CUDA_MEND}")
    if hasattr(ort, "preload_dlls"):
        # It prints what it does not find, which matters only if the session then fails, and that says so itself.
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()


def _still_open(session: Any) -> Any:
    """The session, unless another thread closed the backend in the middle of this call."""
    if session is None:
        raise DeviceError("the backend was closed while it was in use; close it when no thread needs it any more")
    return session


def _check_graphs(bundle: Bundle, encoder: Any, sampler: Any) -> None:
    """The two graphs must fit together and the manifest."""
    wanted = {output.name for output in encoder.get_outputs()} | {"tau"}
    wanted |= {f"noise_level{entry.level}" for entry in bundle.manifest.latent_levels}
    found = {value.name for value in sampler.get_inputs()}
    lr_only = [value.name for value in encoder.get_inputs()] == ["lr"]
    if not lr_only or wanted != found or [value.name for value in sampler.get_outputs()] != ["sr"]:
        odd = ", ".join(sorted(wanted ^ found)) or "lr or sr"
        raise BundleError(f"{bundle.path}: encoder and sampler do not fit together ({odd}); export the bundle again")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
