"""OpenVINO's own runtime, on processors of any maker and on Intel's GPUs.

The encoder may compute in bfloat16; the sampler, which the flow's divisions make sensitive, always
computes in float32. On a processor, OpenVINO runs the encoder alone if the graphs are in float32:
ONNX Runtime draws samples at least as fast, and it inverts. OpenVINO's inverter is not used: 2024.6
and 2026.4.1 both compute the embedded model's graph wrongly (latents off by 10 to 50). The cause is
unknown.

One compiled sampler serves every shape of tile: one for each runs faster, but costs memory and time
to compile.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from srflow_sdk.backends.base import Conditioning, one_line, runtime_errors, still_open
from srflow_sdk.backends.ort import OnnxRuntimeBackend, OrtConditioning
from srflow_sdk.backends.providers import onnxruntime
from srflow_sdk.errors import BundleError, OutOfMemoryError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import REQUIRED_FILES
from srflow_sdk.pixels.in_memory import Floats
from srflow_sdk.system.cache_folder import keeping, kept_folder
from srflow_sdk.system.hardware import has_renderer, is_installed, return_freed_memory
from srflow_sdk.system.interrupts import PassingError, interruptible

FIX = 'use device="cpu", or update it: pip install -U openvino'

# false once a graph could not be written: the next use of that entry would wait for ever
_cache_works = True


class OpenVinoConditioning(OrtConditioning):
    """The encoder's outputs, as OpenVINO's tensors: never copied, and of any type."""

    @property
    def nbytes(self) -> int:
        return sum(int(value.byte_size) for value in self.values.values())


class OpenVinoBackend(OnnxRuntimeBackend):
    """A bundle's encoder by OpenVINO.

    By ONNX Runtime its inverter and, unless `both`, its sampler.
    """

    device = "openvino"
    fix = FIX

    def __init__(self, bundle: Bundle, *, both: bool | None = None, **options: Any) -> None:
        super().__init__(bundle, **options)
        self._both = both

    @property
    def can_invert(self) -> bool:
        return not self._both and super().can_invert

    def activate_impl(self) -> None:
        # bfloat16 is the processors'; on GPUs OpenVINO computes in half precision unless told not
        # to.
        hint = "bf16" if self.precision == "bf16" else "f32"
        device = "CPU" if hint == "bf16" else best_device()
        if self._both is None:
            in_half = (
                self._bundle.manifest.precision in ("fp16", "bf16")
                and self._graphs == REQUIRED_FILES
            )
            self._both = in_half or device != "CPU"
        self.trims_memory = not self._both
        self._encoder = self._graph(self._graphs[0], hint, device)
        self._sampler = (
            self._graph(self._graphs[1], "f32", device)
            if self._both
            else self._session(self._graphs[1])
        )

    def encode_impl(self, lr: Floats) -> Conditioning:
        values = self._run_graph(
            self._encoder, {"lr": lr}, f"encoding {lr.shape[-1]}×{lr.shape[-2]}"
        )
        if self._both:
            return OpenVinoConditioning(values)
        make = onnxruntime().OrtValue.ortvalue_from_numpy
        return OrtConditioning({name: make(value.data) for name, value in values.items()})

    def sample_impl(
        self, conditioning: Conditioning, noise: Mapping[int, Floats], tau: float
    ) -> Floats:
        if not self._both:
            return super().sample_impl(conditioning, noise, tau)
        inputs: dict[str, Any] = {f"noise_level{level}": array for level, array in noise.items()}
        assert isinstance(conditioning, OpenVinoConditioning)  # for the type checker
        inputs |= {"tau": np.array([tau])} | conditioning.values
        sr: Floats = self._run_graph(self._sampler, inputs, "sampling")["sr"].data
        return sr

    def _run_graph(
        self, graph: Graph | None, inputs: Mapping[str, Any], what: str
    ) -> dict[str, Any]:
        try:
            return still_open(graph).run(inputs, f"{what} on openvino failed", scarce=self._scarce)
        except OutOfMemoryError:
            self._scarce = True  # when one runtime has found no memory, the other keeps none either
            raise

    def _graph(self, name: str, hint: str, device: str) -> Graph:
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        if device == "CPU":
            # another process's threads may sit on the same core
            settings["ENABLE_CPU_PINNING"] = False
            if self._threads:
                settings["INFERENCE_NUM_THREADS"] = self._threads
        return Graph(
            self._bundle.file(name),
            # a bundle that is being written has none yet
            sha256=self._bundle.manifest.files[name].get("sha256"),
            device=device,
            settings=settings,
        )


class Graph:
    """A graph on one of OpenVINO's devices, kept in the cache if it has a hash.

    Threads run it one at a time.
    """

    def __init__(
        self, path: Path, *, sha256: str | None, device: str, settings: dict[str, Any]
    ) -> None:
        self._path = path
        self._sha256 = sha256
        self._device = device
        self._settings = settings
        self._turn = threading.Lock()
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._compiled: Any = self._load()
        # The outputs that are inputs: their memory is not the run's own, and the next run writes to
        # it.
        results = [
            result.input_value(0).get_node()
            for result in self._compiled.get_runtime_model().get_results()
        ]
        inputs = {port.get_node().get_friendly_name() for port in self._compiled.inputs}
        ports = zip(self._compiled.outputs, results, strict=True)
        self._passed_on = [
            _name(port) for port, source in ports if source.get_friendly_name() in inputs
        ]

    def run(self, inputs: Mapping[str, Any], what: str, *, scarce: bool) -> dict[str, Any]:
        """The outputs by name, as OpenVINO's tensors. scarce: nothing is kept for the next run."""
        arrays = {name: value for name, value in inputs.items() if isinstance(value, np.ndarray)}
        inputs = {
            **inputs,
            **{name: np.ascontiguousarray(value, np.float32) for name, value in arrays.items()},
        }
        openvino_core()
        # one at a time, as OpenVINO would have it anyway
        with self._turn, runtime_errors(what, FIX):
            compiled = self._load() if self._compiled is None else self._compiled
            # Until the run has ended. One that fails or is cancelled leaves the new shapes in a
            # part of the nodes: what comes next would fail, differ, or end the process (seen in
            # 2026.4.1).
            self._compiled = None
            shapes = {name: tuple(value.shape) for name, value in inputs.items()}
            # what OpenVINO frees for others does not fit them, and would stay in the heap
            if shapes != self._shapes:
                return_freed_memory()
                self._shapes = shapes
            request = compiled.create_infer_request()
            try:
                # Not infer(): it returns empty results when memory runs out, and it cannot be
                # cancelled.
                request.start_async(inputs)
                interruptible(request.wait, stop=request.cancel)
            except Exception as error:
                # they hold the request, and it holds the memory
                traceback.clear_frames(error.__traceback__)
                del request, compiled
                raise
            if scarce:
                compiled.release_memory()
            outputs = {_name(port): request.get_tensor(port) for port in compiled.outputs}
            for name in self._passed_on:
                outputs[name] = import_openvino().Tensor(outputs[name].data.copy())
            self._compiled = compiled
            return outputs

    def _load(self) -> Any:
        """The compiled graph.

        A second or less. Ctrl-C is heeded when it is done: OpenVINO cannot be stopped here.
        """
        with runtime_errors(
            f"{self._path} is not a graph that OpenVINO can load", FIX, BundleError
        ):
            return interruptible(self._compile, stop=lambda: None)

    def _compile(self) -> Any:
        global _cache_works
        core = openvino_core()
        path = str(self._path)
        kept = None
        if self._sha256 is not None and _cache_works:
            about = self._path.stat()
            chip = core.get_property(self._device, "FULL_DEVICE_NAME")
            file = self._sha256, path, about.st_size, about.st_mtime_ns
            made_by = (
                import_openvino().__version__,
                chip,
                self._device,
                sorted(self._settings.items()),
            )
            kept = kept_folder("openvino", file, made_by)
        if kept is not None:
            # perhaps it cannot be written, as on a full disk: no reason to fail
            with (
                contextlib.suppress(RuntimeError, OSError),
                contextlib.nullcontext(kept) if kept.is_dir() else keeping(kept) as folder,
            ):
                return core.compile_model(
                    path, self._device, {**self._settings, "CACHE_DIR": str(folder)}
                )
        compiled = core.compile_model(path, self._device, self._settings)
        _cache_works &= kept is None
        return compiled


def import_openvino() -> Any:
    """The package. Raises: DeviceError, with the fix, if it does not load."""
    try:
        import openvino
    except ImportError as error:
        raise PassingError(
            f'OpenVINO does not load ({one_line(error)}): pip install -U "srflow-sdk[openvino]"'
        ) from error
    return openvino


def openvino_core() -> Any:
    """The process's Core, whose threads all graphs share.

    Raises: DeviceError, also in a forked process.
    """
    core, process = _core()
    if process != os.getpid():
        raise PassingError(
            "this process was forked from one that has already used OpenVINO, whose threads do not "
            "exist here: start "
            'it with multiprocessing.get_context("spawn"), or fork before the first use'
        )
    return core


@functools.cache
def _core() -> tuple[Any, int]:
    openvino = import_openvino()
    try:
        return openvino.Core(), os.getpid()
    except Exception as error:  # OpenVINO's exceptions are RuntimeErrors of many kinds
        raise PassingError(
            f"OpenVINO {openvino.__version__} does not start: {one_line(error)}; {FIX}"
        ) from error


def best_device() -> str:
    """The first GPU that OpenVINO runs on, such as "GPU.0", or "CPU".

    Neural processors compute in half precision.
    """
    return next(
        (name for name in openvino_core().available_devices if name.partition(".")[0] == "GPU"),
        "CPU",
    )


def has_bf16() -> bool:
    """True if the processor has bfloat16 arithmetic; otherwise OpenVINO computes in float32.

    Raises: DeviceError.
    """
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def gpu_offered() -> bool:
    """True if OpenVINO is installed and runs on a GPU here. Without a GPU it is not imported."""
    return has_renderer() and is_installed("openvino") and best_device() != "CPU"


def _name(value: Any) -> str:
    """The name of an input or output in the file.

    A tensor may have further ones, of operators that were left out.
    """
    name: str = value.get_node().get_friendly_name().partition("/sink_port_")[0]
    return name if name in value.names else str(value.any_name)
