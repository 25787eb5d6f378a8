"""What an engine must offer to be checked and timed."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.gpu_report.network import Work

Call = Callable[[], object]


class AbsentError(Exception):
    """An engine is not on this machine; the message says what is missing, for "not run: …"."""


class LackingError(Exception):
    """The same for what one check needs."""


@dataclass(frozen=True)
class Setting:
    """An engine's name, `KIND PRECISION`, the folder of networks, and the size of what is timed, LR pixels a side."""

    engine: str
    folder: Path
    quick: bool = False
    size: int = 256

    @property
    def work(self) -> Work:
        """The network and its pictures."""
        return Work(self.folder, self.size)

    @property
    def kind(self) -> str:
        """`torch`, or a device of the SDK."""
        return self.engine.partition(" ")[0]

    @property
    def precision(self) -> str:
        """`fp32`, `fp16` or `bf16`."""
        return self.engine.partition(" ")[2]


@dataclass(frozen=True)
class Stages:
    """The stages of a picture, to be timed. This is the one place that knows how an engine cuts its work.

    calls: by name, in the order in which they need each other: latents, encoder, sampler, quantisation, copies, as far
    as they can be called alone; then a picture from pixels to pixels, and a further sample of it.
    milliseconds: times calls: the median over so many rounds of a call's mean time.
    clock: which one that is.
    captured: the call as a CUDA graph; None: the engine captures by itself, from a call's second run on.
    without_graphs: calls in which it cannot.
    lacking: stages that cannot run, and why.
    """

    calls: Mapping[str, Call]
    milliseconds: Callable[[Sequence[Call], int], float]
    clock: str
    captured: Callable[[Call], Call] | None = None
    without_graphs: Mapping[str, Call] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """Draws pictures as :class:`srflow_sdk.backends.Backend` does."""

    def encode(self, lr: np.ndarray) -> Any:
        """B×3×h×w → conditioning."""
        ...

    def sample(self, conditioning: Any, noise: Mapping[int, np.ndarray], tau: float) -> np.ndarray:
        """Noise by level, N×C×H×W → float32 N×3×sh×sw."""
        ...

    def tensors(self, conditioning: Any) -> dict[str, np.ndarray]:
        """Copies of the conditioning, float32 by name."""
        ...

    def stages(self, size: int) -> Stages:
        """What is timed, for size×size LR pixels."""
        ...

    def memory(self) -> tuple[int, str] | None:
        """Bytes of GPU memory that it has taken at most, and whose figure that is; None: nobody says."""
        ...


_NEEDED = {  # by device: modules, and the names of their packages
    "cuda-bindings": {"cuda.bindings": "cuda-bindings"},
    "tensorrt": {"tensorrt": "tensorrt", "cuda.bindings": "cuda-bindings"},
    "rtx": {"onnxruntime_ep_nv_tensorrt_rtx": "ONNX Runtime's plug-in for TensorRT-RTX"},
    "cuda": {"onnxruntime": "onnxruntime-gpu"},
}


def check_present(kind: str) -> None:
    """Raises: AbsentError if a package behind a device is not installed."""
    for module, name in _NEEDED[kind].items():
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:  # of the package around it
            found = None
        if found is None:
            raise AbsentError(f"{name} is not installed")
    if kind == "cuda":
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise AbsentError("onnxruntime-gpu is not installed")


class Warnings(logging.Handler):
    """What the SDK warned of while it was used as a context: `said`. One inside another has its own to itself."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []
        self._logger = logging.getLogger("srflow_sdk")

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.said.append(record.getMessage())

    def __enter__(self) -> Warnings:
        self._others, self._logger.handlers = self._logger.handlers, [self]
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.handlers = self._others
