"""ONNX Runtime, on the CPU or through any of its providers.

Both graphs are always run through IOBinding: conditioning stays where it was computed, as OrtValues, and the CPU runs
the same code as the GPU.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.backends._base import Backend, Conditioning, own, still_open
from srflow_sdk.backends._declared import check_conditioning, check_inverted, check_sampler
from srflow_sdk.backends._kept_folders import discard
from srflow_sdk.backends._kept_graphs import kept_graph, load_options, saved_by
from srflow_sdk.backends._native_library import find_native_library, register, runs_on_cuda
from srflow_sdk.backends._ort_providers import (
    CPU,
    CpuProvider,
    CudaProvider,
    OrtDevice,
    Provider,
    TensorRTProvider,
    one_line,
    onnxruntime,
)
from srflow_sdk.backends._plugin_providers import PLUGINS
from srflow_sdk.errors import BundleError, CancelledError, DeviceError, OutOfMemoryError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import LrProfile
from srflow_sdk.model.manifest import INT8_ENCODER, INVERTER, REQUIRED_FILES
from srflow_sdk.system.interrupts import interruptible, is_cancelled
from srflow_sdk.system.raising import PassingError, lack_of_threads

_log = logging.getLogger(__name__)
_FATAL_ONLY = 4
_BFLOAT16_DEVICES = ("tensorrt", "rtx")
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

    device: "cpu"; "cuda", or "tensorrt" with CUDA behind it; or a plug-in provider's name.
    gpu: which GPU, by number.
    threads: CPU threads for the operators, at most one per core; None leaves the choice to ONNX Runtime (one per
        physical core).
    graphs: the encoder's and the sampler's file in the bundle; None: those that the device can run, which are the
        float32 ones if it has no bfloat16 convolution.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: OrtDevice = "cpu",
        gpu: int = 0,
        threads: int | None = None,
        graphs: tuple[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._bundle = bundle
        self._provider = _provider(bundle, device, gpu)
        self._threads = threads
        self._graphs = graphs or default_graphs(bundle, device)
        self._encoder: Any = None
        self._sampler: Any = None
        self._inverter: Any = None
        self._loading = threading.Lock()

    @property
    def device(self) -> str:
        return self._provider.device

    @property
    def gpu(self) -> int | None:
        return self._provider.gpu

    @property
    def window_limits(self) -> LrProfile | None:
        return self._provider.limits

    @property
    def fix(self) -> str:
        """The fix to suggest if the device does not work as it should."""
        return self._provider.fix

    def activate_impl(self) -> None:
        self._provider.prepare()
        self._encoder, self._sampler = self._opened_encoder(), self._opened_sampler()
        if type(self._encoder) is type(self._sampler) is onnxruntime().InferenceSession:
            check_sampler(self._bundle, self._encoder, self._sampler)

    def _opened_encoder(self) -> Any:
        """Load the encoder, into whatever runs it."""
        return self._session(self._graphs[0])

    def _opened_sampler(self) -> Any:
        return self._session(self._graphs[1])

    def deactivate_impl(self) -> None:
        self._encoder = self._sampler = self._inverter = None

    def encode_impl(self, lr: NDArray[np.float32]) -> OrtConditioning:
        session = still_open(self._encoder)
        binding = session.io_binding()
        binding.bind_cpu_input("lr", np.ascontiguousarray(lr, np.float32))
        names = [output.name for output in session.get_outputs()]
        for name in names:
            binding.bind_output(name, self._provider.memory, self._provider.gpu or 0)
        self._run(session, binding, f"encoding {lr.shape[-1]}×{lr.shape[-2]} pixels on {self.device}")
        values = dict(zip(names, binding.get_outputs(), strict=True))
        batch, _, height, width = lr.shape
        shapes = {name: value.shape() for name, value in values.items()}
        check_conditioning(self._bundle.manifest, shapes, batch=batch, height=height, width=width)
        return OrtConditioning(values)

    def sample_impl(
        self, conditioning: Conditioning, noise: Mapping[int, NDArray[np.float32]], tau: float
    ) -> NDArray[np.float32]:
        session = still_open(self._sampler)
        binding = session.io_binding()
        for name, value in own(conditioning, OrtConditioning).values.items():
            binding.bind_ortvalue_input(name, value)
        for level, array in noise.items():
            binding.bind_cpu_input(f"noise_level{level}", np.ascontiguousarray(array, np.float32))
        binding.bind_cpu_input("tau", np.array([tau], np.float32))
        binding.bind_output("sr", "cpu")
        self._run(session, binding, f"sampling on {self.device}")
        sr: NDArray[np.float32] = binding.get_outputs()[0].numpy()
        return sr

    @property
    def can_invert(self) -> bool:
        return INVERTER in self._bundle.manifest.files and self._graphs in (
            REQUIRED_FILES,
            (INT8_ENCODER, REQUIRED_FILES[1]),
        )

    def invert_impl(
        self, conditioning: Conditioning, hr: NDArray[np.float32]
    ) -> tuple[dict[int, NDArray[np.float32]], NDArray[np.float32]]:
        binding = (session := self._loaded_inverter()).io_binding()
        for name, value in own(conditioning, OrtConditioning).values.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_cpu_input("hr", np.ascontiguousarray(hr, np.float32))
        levels = [entry.level for entry in self._bundle.manifest.latent_levels]
        for name in (*(f"latent_level{level}" for level in levels), "log_density"):
            binding.bind_output(name, "cpu")
        self._run(session, binding, f"inverting {hr.shape[-1]}×{hr.shape[-2]} pixels on {self.device}")
        *found, log_density = (value.numpy() for value in binding.get_outputs())
        latents = dict(zip(levels, found, strict=True))
        check_inverted(latents, log_density, hr, scale=self._bundle.manifest.scale)
        return latents, log_density

    def _loaded_inverter(self) -> Any:
        """The inverter's session, which is loaded when it is first needed: most programs never do."""
        still_open(self._encoder)
        with self._loading:
            if self._inverter is None:
                self._inverter = self._session(INVERTER)
            return self._inverter

    def _run(self, session: Any, binding: Any, what: str) -> None:
        if is_cancelled():  # short runs would end before anybody looked
            raise CancelledError("cancelled by the caller")
        options = onnxruntime().RunOptions()
        if self._scarce:
            # The arenas keep what they once took, and leave nothing for others.
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", self._provider.arena)
        try:
            with self._provider.one_at_a_time:
                interruptible(
                    lambda: session.run_with_iobinding(binding, options),
                    stop=lambda: setattr(options, "terminate", True),  # before its next operator
                )
        except Exception as error:  # ORT's exceptions have no common base but Exception
            if is_cancelled():
                raise CancelledError("cancelled by the caller") from error
            reason = one_line(error)
            if isinstance(error, MemoryError) or is_out_of_memory(reason):
                self._scarce = True
                raise OutOfMemoryError(f"{what} failed: out of memory ({reason}); use smaller tiles") from error
            raise DeviceError(f"{what} failed: {reason}") from error

    def _session(self, name: str) -> Any:
        ort = onnxruntime()
        options = self._options()
        kernels = self._register_native_library(options)
        provider = self._provider
        path = self._bundle.file(name)
        try:
            providers = provider.configure(options, name)
            is_kept = provider.provider == CPU and not kernels
            session = (self._kept_session(name) if is_kept else None) or _made(path, options, providers)
        except Exception as error:  # ORT's exceptions have no common base but Exception
            if isinstance(error, MemoryError) or is_out_of_memory(str(error)):
                raise OutOfMemoryError(
                    f"{path}: memory ran out while the graph was loaded ({one_line(error)}); close other programs"
                ) from error
            if "pthread_create" in str(error):
                raise PassingError(lack_of_threads(error)) from error
            if provider.provider != CPU:
                raise DeviceError(f"{provider.title} cannot run {name}: {one_line(error)}; {provider.fix}") from error
            raise BundleError(
                f"{path} is not a graph that ONNX Runtime {ort.__version__} can load: {one_line(error)}; "
                "export the bundle again, or pip install -U onnxruntime"
            ) from error
        _check_runs_there(session, provider, name)
        return session

    def _kept_session(self, name: str) -> Any:
        """A session of the graph as it was optimised before, or one that keeps it for the next time; None: neither."""
        files = self._bundle.manifest.files  # without hashes while the bundle is being written
        hashes = [str(files[file].get("sha256", "")) for file in (name, REQUIRED_FILES[1])]  # it may hold the weights
        kept = kept_graph("".join(hashes)) if all(hashes) else None
        if kept is None:
            return None
        options = self._options()
        path = load_options(kept, options)
        try:
            if path is not None:
                return _made(path, options, [CPU])
            with saved_by(kept, options):
                return _made(self._bundle.file(name), options, [CPU])
        except Exception as error:  # ORT's exceptions have no common base but Exception
            if is_cancelled():
                raise
            # No room on the disk, for example. If the graph itself is the cause, loading it says so.
            _log.info("%s: not kept, or not loaded, in optimised form: %s", self._bundle.file(name), one_line(error))
            if path is not None:
                discard(kept)
            return None

    def _options(self) -> Any:
        options = onnxruntime().SessionOptions()
        options.log_severity_level = _FATAL_ONLY  # every failure reaches the caller as an exception
        # More threads than cores only wait for each other, and each costs memory.
        options.intra_op_num_threads = min(self._threads, os.cpu_count() or 1) if self._threads else 0
        # Threads that spin between operators take the processor from the other session and from the app: under another
        # load, spinning made a call 1.3 to 1.4 times slower.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        # Memory plans are kept per input shape, and tiles come in several: the full-size ×4 network took 0.7 GB more
        # over nine tiles with them, and no less time.
        options.enable_mem_pattern = False
        return options

    def _register_native_library(self, options: Any) -> bool:
        """Register kernels for the bundle's own nodes; without them ONNX Runtime runs the nodes' functions."""
        device = self._provider.device
        is_used = self._bundle.manifest.plugins and device in ("cpu", "cuda")
        library = find_native_library() if is_used else None
        if library is None:
            return False
        if device == "cuda" and not runs_on_cuda(library):
            _log.warning("%s has no kernels for CUDA: continuing without it", library)
            return False
        register(options, library)
        return True


def is_out_of_memory(message: str) -> bool:
    """True if this is what ONNX Runtime or TensorRT says when memory runs out."""
    return _OUT_OF_MEMORY.search(message) is not None


def _made(path: Path, options: Any, providers: list[Any] | None) -> Any:
    def stop() -> None:
        with contextlib.suppress(AttributeError):  # ONNX Runtime < 1.21 cannot
            options.set_load_cancellation_flag(True)

    return interruptible(
        lambda: onnxruntime().InferenceSession(str(path), options, providers=providers, enable_fallback=0), stop=stop
    )


def default_graphs(bundle: Bundle, device: OrtDevice) -> tuple[str, str]:
    """An encoder and a sampler of the bundle that the device can run."""
    if bundle.manifest.precision == "bf16" and device not in _BFLOAT16_DEVICES:
        return bundle.manifest.float32_graphs or REQUIRED_FILES
    return REQUIRED_FILES


def _provider(bundle: Bundle, device: OrtDevice, gpu: int) -> Provider:
    if device == "cpu":
        return CpuProvider()
    if device == "cuda":
        return CudaProvider(gpu)
    if device == "tensorrt":
        return TensorRTProvider(bundle, gpu)
    return PLUGINS[device](gpu, model_sha256=bundle.model_sha256)


def _check_runs_there(session: Any, provider: Provider, name: str) -> None:
    """Check what ONNX Runtime does not report: that the provider started, and that it runs some of the nodes."""
    if provider.provider not in session.get_providers():
        raise DeviceError(f"ONNX Runtime has {provider.title} support but could not start it here; {provider.fix}")
    try:
        taken = {part.ep_name for part in session.get_provider_graph_assignment_info()}
    except (AttributeError, RuntimeError):  # this ONNX Runtime does not record it
        return
    if provider.provider not in taken:
        raise DeviceError(
            f"{provider.title} runs no part of {name} (ONNX Runtime gave all of it to "
            f"{', '.join(sorted(taken)) or 'none'}); {provider.fix}"
        )
