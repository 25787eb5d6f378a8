"""The libraries that build engines: importing them where they are, and saying what to do where they are not."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Any

from srflow_sdk._machine.gpu import Gpu, find_gpu
from srflow_sdk.engine_records import EngineRuntime
from srflow_sdk.errors import ExportError, MissingExtraError

OLDEST = {"tensorrt": (10, 15), "tensorrt_rtx": (1, 7)}
"""Versions from which this exporter's calls are there and mean what it thinks."""

_TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
_EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}


@dataclass(frozen=True, kw_only=True)
class Library:
    """A library that can build here.

    module: what the builder takes as `trt`. version: as it says it. gpu: the GPU that TensorRT builds for and times on;
    None for TensorRT-RTX, which needs none to build.
    """

    runtime: EngineRuntime
    module: Any
    version: str
    gpu: Gpu | None

    @property
    def title(self) -> str:
        """Its name for people."""
        return _TITLES[self.runtime]


def load_library(runtime: EngineRuntime, *, elsewhere: str) -> Library:
    """Import a library and make sure that it can build on this machine.

    elsewhere: the command that builds the same engines on another machine, for the message.
    Raises: MissingExtraError if it is not installed or not whole, ExportError if it is too old or finds no GPU that it
    needs. Each says what is missing, how to get it, and how to build from the written graphs elsewhere.
    """
    title = _TITLES[runtime]
    install = f'pip install "srflow-sdk[{_EXTRAS[runtime]}]"'
    rest = f"The ONNX graphs are not bound to this machine; to build from them on another: {elsewhere}"
    gpu = find_gpu() if runtime == "tensorrt" else None
    needs = " and an NVIDIA GPU of the kind that will run the engines" if runtime == "tensorrt" else ""
    without = ", which this machine has not," if needs and gpu is None else ""
    try:
        module = importlib.import_module(runtime)
        version = str(module.__version__)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"no engines: {title} is not installed. It needs the library{needs}{without} and comes with: {install}. "
            f"{rest}"
        ) from error
    except (ImportError, OSError, AttributeError) as error:
        raise MissingExtraError(
            f"no engines: {title} is installed and does not load ({error}). Its Python module and its libraries come "
            f"in separate packages, of one version: {install} --force-reinstall. {rest}"
        ) from error
    if _release(version) < OLDEST[runtime]:
        oldest = ".".join(map(str, OLDEST[runtime]))
        raise ExportError(
            f"no engines: {title} {version} is too old, {oldest} is the first that builds these graphs: "
            f"{install} --upgrade. {rest}"
        )
    if runtime == "tensorrt" and gpu is None:
        raise ExportError(
            f"no engines: {title} {version} is here, and no NVIDIA GPU, or none that this process may use; it times "
            "kernels on the GPU that will run them and cannot build without. srflow-doctor says what the driver sees; "
            f"a container needs --gpus all. TensorRT-RTX (--rtx) builds without a GPU. {rest}"
        )
    return Library(runtime=runtime, module=module, version=version, gpu=gpu)


def _release(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(number) for number in re.findall(r"[0-9]+", version)[:2])
