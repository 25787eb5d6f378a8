"""OpenVINO's own runtime, which runs a bundle's graphs on processors of any maker and on Intel's GPUs.

The encoder may compute in bfloat16; the sampler and the inverter, which the flow's divisions make sensitive, always
compute in float32.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from srflow_sdk._system.interruptible import interruptible, is_cancelled
from srflow_sdk.backends._base import Backend, Conditioning
from srflow_sdk.backends._declared import (
    check_conditioning,
    check_declared,
    check_inverted,
    check_inverter,
    check_inverter_structure,
    check_structure,
)
from srflow_sdk.backends._ort import is_out_of_memory
from srflow_sdk.backends._ort_providers import one_line
from srflow_sdk.bundle import Bundle
from srflow_sdk.errors import BundleError, CancelledError, DeviceError, OutOfMemoryError
from srflow_sdk.manifest import INVERTER, REQUIRED_FILES

Hint = Literal["f32", "bf16"]

_FIX = 'use device="cpu", or update it: pip install -U openvino'
_TYPES = {"f32": "tensor(float)", "f16": "tensor(float16)", "bf16": "tensor(bfloat16)"}


class OpenVinoConditioning(Conditioning):
    """The encoder's outputs by name, float32 arrays in main memory."""

    def __init__(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        self.values = dict(values)

    @property
    def nbytes(self) -> int:
        return sum(value.nbytes for value in self.values.values())


class OpenVinoBackend(Backend):
    """A bundle's encoder and sampler, compiled by OpenVINO for this machine's processor.

    threads: CPU threads, at most one per core; None leaves the choice to OpenVINO. graphs: the encoder's and the
    sampler's file in the bundle; None: encoder.onnx and sampler.onnx. hint: arithmetic of the encoder; "bf16" is much
    faster on processors with bfloat16 convolutions, and changes the picture.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int | None = None,
        graphs: tuple[str, str] = REQUIRED_FILES,
        hint: Hint = "f32",
    ) -> None:
        super().__init__()
        self._bundle = bundle
        self._threads = threads
        self._graphs = graphs
        self._hint: Hint = hint
        self._encoder: _Graph | None = None
        self._sampler: _Graph | None = None
        self._inverter: _Graph | None = None
        self._loading = threading.Lock()

    @property
    def device(self) -> str:
        return "openvino"

    @property
    def fix(self) -> str:
        """What to suggest if the device does not work as it should."""
        return _FIX

    def activate_impl(self) -> None:
        check_structure(self._bundle, self._graphs)
        encoder = self._compiled(self._graphs[0], self._hint)
        sampler = self._compiled(self._graphs[1], "f32")
        check_declared(self._bundle, self._graphs, encoder, sampler)
        self._encoder, self._sampler = encoder, sampler

    def deactivate_impl(self) -> None:
        self._encoder = self._sampler = self._inverter = None

    def encode_impl(self, lr: NDArray[np.float32]) -> OpenVinoConditioning:
        values = _still_open(self._encoder).run({"lr": lr}, f"encoding {lr.shape[-1]}×{lr.shape[-2]} pixels")
        batch, _, height, width = lr.shape
        shapes = {name: value.shape for name, value in values.items()}
        check_conditioning(self._bundle.manifest, shapes, batch=batch, height=height, width=width)
        return OpenVinoConditioning(values)

    def sample_impl(
        self, conditioning: Conditioning, noise: Mapping[int, NDArray[np.float32]], tau: float
    ) -> NDArray[np.float32]:
        inputs = {f"noise_level{level}": array for level, array in noise.items()}
        inputs = {**_values(conditioning), **inputs, "tau": np.array([tau], np.float32)}
        return _still_open(self._sampler).run(inputs, "sampling")["sr"]

    @property
    def can_invert(self) -> bool:
        return INVERTER in self._bundle.manifest.files

    def invert_impl(
        self, conditioning: Conditioning, hr: NDArray[np.float32]
    ) -> tuple[dict[int, NDArray[np.float32]], NDArray[np.float32]]:
        found = self._loaded_inverter().run(
            {**_values(conditioning), "hr": hr}, f"inverting {hr.shape[-1]}×{hr.shape[-2]} pixels"
        )
        log_density = found["log_density"]
        latents = {level.level: found[f"latent_level{level.level}"] for level in self._bundle.manifest.latent_levels}
        check_inverted(latents, log_density, hr, scale=self._bundle.manifest.scale)
        return latents, log_density

    def _loaded_inverter(self) -> _Graph:
        """The inverter, which is compiled when it is first needed: most programs never do."""
        encoder = _still_open(self._encoder)
        with self._loading:
            if self._inverter is None:
                check_inverter_structure(self._bundle, INVERTER, encoder)
                inverter = self._compiled(INVERTER, "f32")
                check_inverter(self._bundle, INVERTER, encoder, inverter)
                self._inverter = inverter
            return self._inverter

    def _compiled(self, name: str, hint: Hint) -> _Graph:
        openvino = import_openvino()
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # another process's threads may sit on the same core
        }
        if self._threads:
            settings["INFERENCE_NUM_THREADS"] = min(self._threads, os.cpu_count() or 1)
        path = self._bundle.file(name)
        try:
            core = openvino.Core()
            compiled = interruptible(lambda: core.compile_model(str(path), "CPU", settings), stop=lambda: None)
        except Exception as error:  # OpenVINO's exceptions are RuntimeErrors of many kinds
            if isinstance(error, MemoryError) or is_out_of_memory(str(error)):
                raise OutOfMemoryError(
                    f"{path}: memory ran out while the graph was loaded; close other programs"
                ) from error
            raise BundleError(f"{path} is not a graph that OpenVINO can load: {one_line(error)}; {_FIX}") from error
        return _Graph(compiled)


def import_openvino() -> Any:
    """The package. Raises: DeviceError, with the fix, if it is not installed or does not load."""
    try:
        import openvino
    except ImportError as error:
        raise DeviceError(
            f'OpenVINO is not installed: pip install "srflow-sdk[openvino]" ({one_line(error)})'
        ) from error
    return openvino


@dataclass(frozen=True, kw_only=True)
class _Port:
    """An input or output as ONNX Runtime describes it, for the checks that both runtimes share."""

    name: str
    type: str
    shape: list[int | str]


class _Graph:
    """A compiled graph, which any number of threads may run at a time."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def get_inputs(self) -> list[_Port]:
        return [_port(value) for value in self._compiled.inputs]

    def get_outputs(self) -> list[_Port]:
        return [_port(value) for value in self._compiled.outputs]

    def run(self, inputs: Mapping[str, NDArray[np.float32]], what: str) -> dict[str, NDArray[np.float32]]:
        """The outputs by name. Raises: CancelledError, OutOfMemoryError, DeviceError."""
        if is_cancelled():
            raise CancelledError("cancelled by the caller")
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        contiguous = {name: np.ascontiguousarray(array, np.float32) for name, array in inputs.items()}
        try:
            found = interruptible(lambda: request.infer(contiguous, share_inputs=True), stop=request.cancel)
        except Exception as error:  # OpenVINO's exceptions are RuntimeErrors of many kinds
            if is_cancelled():
                raise CancelledError("cancelled by the caller") from error
            reason = one_line(error)
            if isinstance(error, MemoryError) or is_out_of_memory(reason):
                raise OutOfMemoryError(
                    f"{what} on openvino failed: out of memory ({reason}); use smaller tiles"
                ) from error
            raise DeviceError(f"{what} on openvino failed: {reason}") from error
        self._idle.put(request)
        return {_name(port): array for port, array in found.items()}


def _name(value: Any) -> str:
    """The name of an input or output in the file: a tensor may have further ones, of operators that were left out."""
    name: str = value.get_node().get_friendly_name().partition("/sink_port_")[0]
    return name if name in value.names else str(value.any_name)


def _port(value: Any) -> _Port:
    shape = [f"size{index}" if size.is_dynamic else size.get_length() for index, size in enumerate(value.partial_shape)]
    kind = value.element_type.get_type_name()
    return _Port(name=_name(value), type=_TYPES.get(kind, kind), shape=shape)


def _values(conditioning: Conditioning) -> dict[str, NDArray[np.float32]]:
    if not isinstance(conditioning, OpenVinoConditioning):
        raise DeviceError(f"conditioning of type {type(conditioning).__name__} belongs to another backend")
    return conditioning.values


def _still_open(graph: _Graph | None) -> _Graph:
    """The graph, unless another thread closed the backend in the middle of this call."""
    if graph is None:
        raise DeviceError("the backend was closed while it was in use; close it when no thread needs it any more")
    return graph
