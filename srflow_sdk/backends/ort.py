"""ONNX Runtime, on the CPU or through any of its providers.

Both graphs are always run through IOBinding: conditioning stays where it was computed, as
OrtValues, and the CPU runs the same code as the GPU.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.backends.base import (
    Backend,
    Conditioning,
    Drawing,
    Inverted,
    one_line,
    runtime_errors,
    still_open,
)
from srflow_sdk.backends.native_library import find_native_library, has_cuda_kernels, register
from srflow_sdk.backends.providers import PROVIDERS, onnxruntime
from srflow_sdk.errors import BundleError, DeviceError, OutOfMemoryError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import INVERTER, REQUIRED_FILES
from srflow_sdk.pixels.in_memory import Floats
from srflow_sdk.system.cache_folder import keeping, kept_folder
from srflow_sdk.system.hardware import DeviceName, processor
from srflow_sdk.system.interrupts import interruptible, is_cancelled

_log = logging.getLogger(__name__)
_FATAL_ONLY = 4
_KEPT = "graph.onnx", "weights.bin"


@dataclass(frozen=True, eq=False)
class OrtConditioning(Conditioning):
    """The encoder's outputs by name, as OrtValues on the device."""

    values: dict[str, Any]

    @property
    def nbytes(self) -> int:
        return sum(value.tensor_size_in_bytes() for value in self.values.values())


class OnnxRuntimeBackend(Backend):
    """A bundle's encoder.onnx and sampler.onnx in two ONNX Runtime sessions.

    Args:
        bundle: The bundle.
        device: "cpu", "cuda", "rtx" or "webgpu".
        gpu: Which GPU, by number.
        threads: CPU threads for the operators, at most one per core; None leaves the choice to ONNX
            Runtime (one per physical core).
        graphs: The encoder's and the sampler's file in the bundle; None: those that the device can
            run, which are the float32 ones if it has no bfloat16 convolution.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: DeviceName = "cpu",
        gpu: int = 0,
        threads: int | None = None,
        graphs: tuple[str, str] | None = None,
    ) -> None:
        self._bundle = bundle
        # more than cores only wait for each other, and each costs memory
        self._threads = threads and min(threads, os.cpu_count() or 1)
        self._provider = PROVIDERS[device]
        self._number = gpu
        self.gpu = gpu if self._provider.memory == "cuda" else None
        self.samples_at_once = device == "cpu" and threads != 1
        fits = bundle.manifest.precision != "bf16" or self._provider.bfloat16
        self._graphs = (
            graphs or (None if fits else bundle.manifest.float32_graphs) or REQUIRED_FILES
        )
        self._encoder: Any = None
        self._sampler: Any = None
        self._inverter: Any = None
        self._kernels: GpuDrawing | None = None
        self._loading = threading.Lock()

    @property
    def device(self) -> str:
        return self._provider.device

    @property
    def fix(self) -> str:
        return self._provider.how_to_fix()

    def activate_impl(self) -> None:
        self._provider.prepare(self._number)
        self._encoder, self._sampler = map(self._session, self._graphs)
        if self._provider.device == "cuda":
            try:
                self._kernels = gpu_drawing(self._number)
            except DeviceError as error:
                _log.warning("latents are drawn, and pictures rounded, by the processor: %s", error)

    def deactivate_impl(self) -> None:
        self._encoder = self._sampler = self._inverter = None

    def encode_impl(self, lr: Floats) -> Conditioning:
        session = still_open(self._encoder)
        what = f"encoding {lr.shape[-1]}×{lr.shape[-2]} pixels on {self.device}"
        names = [output.name for output in session.get_outputs()]
        return OrtConditioning(
            self._run(session, {"lr": lr}, names, what, where=self._provider.memory)
        )

    def sample_impl(
        self, conditioning: Conditioning, noise: Mapping[int, Floats], tau: float
    ) -> Floats:
        sr: Floats = self._decode(conditioning, noise, tau, where="cpu").numpy()
        return sr

    def begin(self, conditioning: Conditioning, drawing: Drawing) -> Callable[[], NDArray[Any]]:
        kernels = self._kernels
        if kernels is None:
            return super().begin(conditioning, drawing)

        def decode(noise: dict[int, Any]) -> Any:
            return self._decode(conditioning, noise, drawing.tau, where=self._provider.memory)

        return lambda: kernels.draw(drawing, decode)

    def _decode(
        self, conditioning: Conditioning, noise: Mapping[int, Any], tau: float, *, where: str
    ) -> Any:
        """The sampler's picture 1×3×H×W, as an OrtValue. noise: arrays or OrtValues."""
        session = still_open(self._sampler)
        assert isinstance(conditioning, OrtConditioning)  # for the type checker
        inputs = {
            **conditioning.values,
            **{f"noise_level{level}": array for level, array in noise.items()},
            "tau": np.array([tau]),
        }
        return self._run(session, inputs, ["sr"], f"sampling on {self.device}", where=where)["sr"]

    @property
    def can_invert(self) -> bool:
        return self._graphs[1] == REQUIRED_FILES[1] and INVERTER in self._bundle.manifest.files

    def invert_impl(self, conditioning: Conditioning, hr: Floats) -> Inverted:
        still_open(self._encoder)
        with self._loading:  # when it is first needed: most programs never do
            if self._inverter is None:
                self._inverter = self._session(INVERTER)
            session = self._inverter
        levels = [entry.level for entry in self._bundle.manifest.latent_levels]
        names = [f"latent_level{level}" for level in levels]
        assert isinstance(conditioning, OrtConditioning)  # for the type checker
        what = f"inverting {hr.shape[-1]}×{hr.shape[-2]} pixels on {self.device}"
        inputs = {**conditioning.values, "hr": hr}
        outputs = self._run(session, inputs, [*names, "log_density"], what)
        *latents, log_density = (value.numpy() for value in outputs.values())
        return dict(zip(levels, latents, strict=True)), log_density

    def _run(
        self,
        session: Any,
        inputs: Mapping[str, Any],
        outputs: list[str],
        what: str,
        *,
        where: str = "cpu",
    ) -> dict[str, Any]:
        """Compute the outputs by name, as OrtValues.

        inputs: arrays, which become float32, and OrtValues.
        """
        binding = session.io_binding()
        options = onnxruntime().RunOptions()
        for name, value in inputs.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, np.ascontiguousarray(value, np.float32))
            else:
                binding.bind_ortvalue_input(name, value)
        for name in outputs:
            binding.bind_output(name, where, 0 if where == "cpu" else self._number)
        if self._scarce:
            # The arenas keep what they once took, and leave nothing for others.
            arena = "cpu:0" if self.gpu is None or self._provider.module else f"gpu:{self.gpu}"
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", arena)
        try:
            with runtime_errors(f"{what} failed"), self._provider.one_at_a_time:
                interruptible(
                    lambda: session.run_with_iobinding(binding, options),
                    stop=lambda: setattr(options, "terminate", True),  # before its next operator
                )
        except OutOfMemoryError:
            self._scarce = True
            raise
        return dict(zip(outputs, binding.get_outputs(), strict=True))

    def _session(self, name: str) -> Any:
        provider = self._provider
        path = self._bundle.file(name)
        options = self._options()
        on_cpu = provider.device == "cpu"
        library = None
        # others run the nodes' functions
        if self._bundle.manifest.plugins and provider.device in ("cpu", "cuda"):
            library = find_native_library()
        if library is not None and not on_cpu and not has_cuda_kernels(library):
            _log.warning("%s has no kernels for CUDA: continuing without it", library)
        elif library is not None:
            register(options, library)
        fix = "export the bundle again, or pip install -U onnxruntime" if on_cpu else self.fix
        what = f"{path} is not a graph that {provider.title} can run"
        with runtime_errors(what, fix, BundleError if on_cpu else DeviceError):
            session = self._kept_session(name) if on_cpu and library is None else None
            session = session or _load_session(
                path, options, provider.configure(options, self._bundle, self._number)
            )
        # ONNX Runtime does not report that a provider did not start, or runs none of the nodes.
        running = set(session.get_providers())
        if provider.name not in running:
            raise DeviceError(
                f"ONNX Runtime has {provider.title} support but could not start it here; {self.fix}"
            )
        # where this ONNX Runtime records it
        with contextlib.suppress(AttributeError, RuntimeError):
            running = {part.ep_name for part in session.get_provider_graph_assignment_info()}
        if provider.name not in running:
            others = ", ".join(sorted(running))
            raise DeviceError(f"{provider.title} runs no part of {name}: {others} does; {self.fix}")
        return session

    def _kept_session(self, name: str) -> Any:
        """Open the graph as it was optimised before, or keep it so; None: neither."""
        # without hashes while the bundle is being written
        ort = onnxruntime()
        files = self._bundle.manifest.files
        # it may hold the weights
        hashes = [files[file].get("sha256") for file in (name, REQUIRED_FILES[1])]
        made_from = [*hashes, ort.__version__, ort.get_build_info(), processor()]
        kept = kept_folder("graphs", *made_from) if all(made_from) else None
        if kept is None:
            return None
        options = self._options()
        is_kept = kept.is_dir()
        try:
            if is_kept:
                # it is optimised
                options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
                return _load_session(kept / _KEPT[0], options, [self._provider.name])
            with keeping(kept) as part:
                options.optimized_model_filepath = str(part / _KEPT[0])
                prefix = "session.optimized_model_external_initializers"
                options.add_session_config_entry(f"{prefix}_file_name", _KEPT[1])
                options.add_session_config_entry(f"{prefix}_min_size_in_bytes", "1024")
                return _load_session(self._bundle.file(name), options, [self._provider.name])
        except Exception as error:  # ORT's exceptions have no common base but Exception
            if is_cancelled():
                raise
            # No room on the disk, for example. If the graph itself is the cause, loading it says
            # so.
            _log.info(
                "%s: not kept, or not loaded, in optimised form: %s",
                self._bundle.file(name),
                one_line(error),
            )
            if is_kept:
                shutil.rmtree(kept, ignore_errors=True)
            return None

    def _options(self) -> Any:
        options = onnxruntime().SessionOptions()
        options.log_severity_level = _FATAL_ONLY  # every failure reaches the caller as an exception
        options.intra_op_num_threads = self._threads or 0
        # Under another load, threads that spin between operators made a call 1.3 to 1.4 times
        # slower.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        # Memory plans are kept per input shape, and tiles come in several: 0.7 GB over nine tiles
        # of a full-size model.
        options.enable_mem_pattern = False
        return options


class GpuDrawing:
    """Draws pictures on a GPU, in OrtValues there, by the kernels of engines.

    Thread-safe. Raises: DeviceError.
    """

    def __init__(self, number: int) -> None:
        # here, as processors do without
        from srflow_sdk.backends.tensorrt_engines.cuda import CudaGpu
        from srflow_sdk.backends.tensorrt_engines.execution import DrawingKernels

        self._gpu = CudaGpu.open(number)
        with self._gpu.current():
            self._kernels, self._stream = DrawingKernels(self._gpu), self._gpu.new_stream()
        self._bounds: tuple[Any, Any] = None, None  # of the tile that was drawn last, on the GPU

    def draw(self, drawing: Drawing, decode: Callable[[dict[int, Any]], Any]) -> NDArray[Any]:
        """The core of a picture, as :meth:`Backend.begin` has it.

        decode: of noise by level it makes the picture 1×3×H×W. ONNX Runtime has a stream of its
        own, so that each waits for the other.
        """
        from srflow_sdk.backends.tensorrt_engines.execution import is_usable, state_of

        # Many names, as kernels take the addresses of all that they read and write.
        finish = drawing.finish
        core = drawing.core
        with runtime_errors("drawing on the GPU failed"), self._gpu.current():
            state = self._there(np.frombuffer(state_of(drawing), np.uint8))
            maps = {level: self._there(array) for level, array in drawing.maps.items()}
            noise = {
                level: self._empty((1, *shape), np.float32)
                for level, shape in drawing.shapes.items()
            }
            at = [
                {level: array.data_ptr() for level, array in arrays.items()}
                for arrays in (noise, maps)
            ]
            for launch in self._kernels.latents(drawing, state.data_ptr(), *at):
                self._stream.start(launch)
            self._stream.synchronize()
            picture = decode(noise)
            if finish is None:
                values: NDArray[Any] = picture.numpy()[0].transpose(1, 2, 0)[core.slices]
                return values
            kept, bounds = self._bounds
            # they go up once for all samples of a tile
            if finish.bounds is not None and kept is not finish:
                bounds = self._there(finish.bounds)
                self._bounds = finish, bounds
            where = 0 if finish.bounds is None else bounds.data_ptr()
            target = self._empty((core.height, core.width, 3), finish.dtype)
            places = picture.data_ptr(), where, target.data_ptr()
            self._stream.start(
                self._kernels.finish(drawing, state.data_ptr(), picture.shape()[2:], *places)
            )
            self._stream.synchronize()
            levels: NDArray[Any] = target.numpy()
            return levels if is_usable(state.numpy()) else np.full(levels.shape, np.nan, np.float32)

    def _there(self, array: NDArray[Any]) -> Any:
        return onnxruntime().OrtValue.ortvalue_from_numpy(array, "cuda", self._gpu.number)

    def _empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return onnxruntime().OrtValue.ortvalue_from_shape_and_type(
            shape, dtype, "cuda", self._gpu.number
        )


gpu_drawing = functools.cache(GpuDrawing)  # the kernels of a GPU, for the life of the process


def _load_session(path: Path, options: Any, providers: list[Any] | None) -> Any:
    def stop() -> None:
        with contextlib.suppress(AttributeError):  # ONNX Runtime < 1.21 cannot
            options.set_load_cancellation_flag(True)

    return interruptible(
        lambda: onnxruntime().InferenceSession(
            str(path), options, providers=providers, enable_fallback=0
        ),
        stop=stop,
    )
