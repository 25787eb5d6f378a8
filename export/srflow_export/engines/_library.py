"""Import the libraries that build engines, or say what to do if they are missing."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Any

from srflow_sdk.errors import ExportError, MissingExtraError
from srflow_sdk.model.engine_records import EngineRuntime
from srflow_sdk.system.hardware import Gpu, cuda_of_wheels, find_gpu

OLDEST = {"tensorrt": (10, 15), "tensorrt_rtx": (1, 7)}
"""The oldest versions that have all the calls that this exporter makes, with the same meaning."""

_TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
_EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}


@dataclass(frozen=True, kw_only=True)
class Library:
    """A library that can build engines on this machine.

    module: the builder's `trt`. version: the library's own. gpu: the GPU that TensorRT builds for and times kernels on;
    None for TensorRT-RTX, which needs none to build.
    """

    runtime: EngineRuntime
    module: Any
    version: str
    gpu: Gpu | None

    @property
    def title(self) -> str:
        """Its name for display, such as "TensorRT-RTX"."""
        return _TITLES[self.runtime]


def load_library(runtime: EngineRuntime, *, elsewhere: str) -> Library:
    """Import a library and make sure that it can build on this machine.

    elsewhere: the command that builds the same engines on another machine, for the message.
    Raises: MissingExtraError if it is not installed or incomplete, ExportError if it is too old or finds no GPU but
    needs one. Each says what is missing, how to get it, and how to build from the written graphs elsewhere.
    """
    title = _TITLES[runtime]
    rest = f"The ONNX graphs work on any machine; to build engines on another: {elsewhere}"
    gpu = find_gpu() if runtime == "tensorrt" else None
    extra = f"tensorrt-cu{cuda_of_wheels(gpu.cuda)}" if gpu else _EXTRAS[runtime]
    install = f'pip install "srflow-sdk[{extra}]"'
    none = "; this machine has none" if gpu is None else ""
    needs = (
        f" It also needs an NVIDIA GPU of the kind that will run the engines{none}." if runtime == "tensorrt" else ""
    )
    try:
        module = importlib.import_module(runtime)
        version = str(module.__version__)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"no engines: {title} is not installed: {install}.{needs} {rest}") from error
    except (ImportError, OSError, AttributeError) as error:
        raise MissingExtraError(
            f"no engines: {title} is installed but does not load ({error}). Its Python module and its libraries are "
            f"separate packages that must have the same version: {install} --force-reinstall. {rest}"
        ) from error
    if _release(version) < OLDEST[runtime]:
        oldest = ".".join(map(str, OLDEST[runtime]))
        raise ExportError(
            f"no engines: {title} {version} is too old; {oldest} is the first version that builds these "
            f"graphs: {install} --upgrade. {rest}"
        )
    if runtime == "tensorrt" and gpu is None:
        raise ExportError(
            f"no engines: {title} {version} is installed, but there is no NVIDIA GPU that this process may use. It "
            "times kernels on the GPU that will run them, so it cannot build without one. srflow-doctor says what the "
            f"driver sees; a container needs --gpus all. TensorRT-RTX (--rtx) builds without a GPU. {rest}"
        )
    return Library(runtime=runtime, module=module, version=version, gpu=gpu)


def _release(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(number) for number in re.findall(r"[0-9]+", version)[:2])
