"""OpenVINO's own runtime, which runs a bundle's graphs on processors of any maker and on Intel's GPUs.

The encoder may compute in bfloat16; the sampler, which the flow's divisions make sensitive, always computes in float32.
On a processor, OpenVINO runs the encoder alone if the graphs are in float32: ONNX Runtime draws samples at least as
fast (`python benchmarks/int8_time.py`), and it inverts. OpenVINO's inverter is not used: 2024.6 and 2026.4.1 both
compute the embedded model's graph wrongly (latents off by 10 to 50). The cause is unknown.

One compiled sampler serves every shape of tile. A compiled sampler per shape runs faster, but holds memory of about the
size of its inputs, and compiling it takes longer than drawing a few samples of one small picture saves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.backends._base import Conditioning, own, still_open
from srflow_sdk.backends._declared import check_conditioning
from srflow_sdk.backends._openvino_graphs import Graph, best_device
from srflow_sdk.backends._ort import OnnxRuntimeBackend, OrtConditioning, default_graphs
from srflow_sdk.backends._ort_providers import onnxruntime
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import REQUIRED_FILES
from srflow_sdk.system.cache_folder import cache_folder

Hint = Literal["f32", "bf16"]


def openvino_backend(
    bundle: Bundle,
    *,
    threads: int | None = None,
    graphs: tuple[str, str] | None = None,
    hint: Hint = "f32",
) -> EncoderBackend:
    """A backend on OpenVINO, not yet active, with the sampler where it runs best. Arguments: as its classes take them.

    Raises: DeviceError if OpenVINO is not installed or does not start.
    """
    graphs = graphs or default_graphs(bundle, "cpu")
    # On a processor, ONNX Runtime converts every tensor of a half-precision graph.
    in_half = bundle.manifest.precision in ("fp16", "bf16") and graphs == REQUIRED_FILES
    made = OpenVinoBackend if in_half or _device(hint) != "CPU" else EncoderBackend
    return made(bundle, threads=threads, graphs=graphs, hint=hint)


def _device(hint: Hint) -> str:
    """OpenVINO's name. bfloat16 is the processors'; on GPUs OpenVINO computes in half precision unless told not to."""
    return "CPU" if hint == "bf16" else best_device()


class OpenVinoConditioning(Conditioning):
    """The encoder's outputs, as OpenVINO's tensors: never copied, and of any type."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)

    @property
    def nbytes(self) -> int:
        return sum(int(value.byte_size) for value in self.values.values())


class EncoderBackend(OnnxRuntimeBackend):
    """A bundle's encoder by OpenVINO on the processor, its sampler and inverter by ONNX Runtime.

    threads: CPU threads, at most one per core; None leaves the choice to the runtimes. graphs: the encoder's and the
    sampler's file in the bundle; None: its own, which for a bfloat16 bundle are the float32 ones beside them, if it has
    any. hint: arithmetic of the encoder; "bf16" runs on the processor, is much faster where that has bfloat16
    convolutions, and changes the picture.
    """

    trims_memory = True

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int | None = None,
        graphs: tuple[str, str] | None = None,
        hint: Hint = "f32",
    ) -> None:
        super().__init__(bundle, device="cpu", threads=threads, graphs=graphs)
        self._hint: Hint = hint

    @property
    def device(self) -> str:
        return "openvino"

    @property
    def fix(self) -> str:
        """The fix to suggest if the device computes another picture than the CPU."""
        cache = cache_folder("openvino", missed=False)
        fixes = ['use device="cpu"']
        if self._bundle.manifest.precision == "int8":
            fixes.append(
                "if an earlier version exported the bundle, export it again (srflow-export --precision int8): OpenVINO "
                "computes some of those graphs wrongly"
            )
        if cache is not None:
            fixes.append(f"delete {cache}, where a compiled graph may be damaged")
        return "; ".join([*fixes, "or update it: pip install -U openvino"])

    def _opened_encoder(self) -> Graph:
        return self._graph(self._graphs[0], hint=self._hint, device="CPU")

    def encode_impl(self, lr: NDArray[np.float32]) -> OrtConditioning:
        encoder: Graph = still_open(self._encoder)
        encoder.scarce |= self._scarce  # when one runtime has found no memory, the other keeps none either
        try:
            values = self._encoded(lr)
        finally:
            self._scarce |= encoder.scarce
        ort = onnxruntime()
        return OrtConditioning({name: ort.OrtValue.ortvalue_from_numpy(value.data) for name, value in values.items()})

    def _encoded(self, lr: NDArray[np.float32]) -> dict[str, Any]:
        """The encoder's outputs by name, as OpenVINO's tensors."""
        batch, _, height, width = lr.shape
        values: dict[str, Any] = still_open(self._encoder).run(
            {"lr": _float32(lr)}, f"encoding {width}×{height} pixels"
        )
        shapes = {name: tuple(value.shape) for name, value in values.items()}
        check_conditioning(self._bundle.manifest, shapes, batch=batch, height=height, width=width)
        return values

    def _graph(self, name: str, *, hint: Hint, device: str) -> Graph:
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        if device == "CPU":
            settings["ENABLE_CPU_PINNING"] = False  # another process's threads may sit on the same core
            if self._threads:
                settings["INFERENCE_NUM_THREADS"] = min(self._threads, os.cpu_count() or 1)
        sha256 = self._bundle.manifest.files[name].get("sha256")  # a bundle that is being written has none yet
        return Graph(self._bundle.file(name), sha256=sha256, device=device, settings=settings)


class OpenVinoBackend(EncoderBackend):
    """Both by OpenVINO, on the first GPU that it runs on, otherwise on the processor. It does not invert."""

    trims_memory = False
    can_invert = False

    def _opened_encoder(self) -> Graph:
        return self._graph(self._graphs[0], hint=self._hint, device=_device(self._hint))

    def _opened_sampler(self) -> Graph:
        return self._graph(self._graphs[1], hint="f32", device=_device(self._hint))

    def encode_impl(self, lr: NDArray[np.float32]) -> OpenVinoConditioning:  # type: ignore[override]
        return OpenVinoConditioning(self._encoded(lr))

    def sample_impl(
        self, conditioning: Conditioning, noise: Mapping[int, NDArray[np.float32]], tau: float
    ) -> NDArray[np.float32]:
        inputs = {f"noise_level{level}": _float32(array) for level, array in noise.items()}
        inputs = {**own(conditioning, OpenVinoConditioning).values, **inputs, "tau": np.array([tau], np.float32)}
        sr: NDArray[np.float32] = still_open(self._sampler).run(inputs, "sampling")["sr"].data
        return sr


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)
