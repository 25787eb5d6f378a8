"""The native libraries, for ONNX Runtime and TensorRT: where they are, and whether they fit.

No graph needs one. A bundle that was exported with --plugins has the flow's operations as nodes of
its own domain, each with a function in standard operators. A runtime runs a library's kernels for
them, or, without the library, the functions.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

from srflow_sdk._version import __version__
from srflow_sdk.backends.base import one_line, runtime_errors
from srflow_sdk.errors import DeviceError
from srflow_sdk.model.engine_records import PluginLibrary

VARIABLE = "SRFLOW_NATIVE_LIBRARY"
"""Environment variable that names the library; if empty, none is used, even if one lies beside the
package."""

PLUGINS = "SRFLOW_TENSORRT_PLUGINS"  # the same for TensorRT's plugins

_log = logging.getLogger(__name__)
_FIX = "build it again (docs/native.md), or set {}= to do without it"
_FILES = {VARIABLE: "libsrflow_ort", PLUGINS: "libsrflow_trt"}
_loading = threading.Lock()
_BESIDE = Path(__file__).resolve().parent.parent / "native"


def find_native_library(variable: str = VARIABLE) -> Path | None:
    """The file that the variable names, or else that in the package's `native/`, or None.

    Raises: DeviceError.
    """
    if (named := os.environ.get(variable)) is None:
        beside = _BESIDE / f"{_FILES[variable]}.{'dylib' if sys.platform == 'darwin' else 'so'}"
        return beside if beside.is_file() else None
    if not named:
        return None
    path = Path(named)
    # its code runs as soon as it is loaded, whatever folder this is
    if not path.is_absolute() or not path.is_file():
        why = "there is no such file" if path.is_absolute() else "only a whole path is taken"
        raise DeviceError(
            f"{variable} is {named!r}, but {why}; build the library (docs/native.md), or unset it"
        )
    return path


def register(options: Any, path: Path) -> None:
    """Register the library's kernels in ONNX Runtime's SessionOptions.

    Raises: DeviceError if that fails.
    """
    check_native_library(path)
    with runtime_errors(f"ONNX Runtime cannot use {path}", _FIX.format(VARIABLE)):
        options.register_custom_ops_library(str(path))
    _log.info("flow operations run in %s", path)


def check_native_library(path: Path, variable: str = VARIABLE) -> ctypes.CDLL:
    """Load the file.

    Raises: DeviceError unless it is a library of ours, of this version of the SDK.
    """
    try:
        library = ctypes.CDLL(str(path))
        built_for = library.srflow_version
    except (OSError, AttributeError) as error:
        raise DeviceError(
            f"{path} is not a usable library: {one_line(error)}; {_FIX.format(variable)}"
        ) from error
    built_for.restype = ctypes.c_char_p
    theirs = bytes(built_for()).decode(errors="replace")
    if theirs != __version__:
        raise DeviceError(
            f"{path} is from srflow-sdk {theirs}, but this is {__version__}; "
            f"{_FIX.format(variable)}"
        )
    return library


def has_cuda_kernels(path: Path) -> bool:
    """True if the library has kernels for CUDA.

    Without them its nodes would run on the CPU, between the GPU's.
    """
    try:
        return hasattr(ctypes.CDLL(str(path)), "srflow_standard_normal_cuda")
    except OSError:  # register says what is wrong with it
        return True


def plugins_of(path: Path) -> PluginLibrary:
    """What a library of TensorRT's plugins is.

    Raises: DeviceError if it is none of this version of the SDK.
    """
    library = check_native_library(path, PLUGINS)
    if not hasattr(library, "srflow_plugins_abi"):
        raise DeviceError(
            f"{path} has no plugins for TensorRT: name a libsrflow_trt.so in {PLUGINS}"
        )
    return PluginLibrary(
        version=__version__,
        tensorrt_major=library.srflow_tensorrt_major(),
        abi=library.srflow_plugins_abi(),
    )


def load_plugins(trt: Any, wanted: PluginLibrary, *, rebuild: str) -> None:
    """Let TensorRT load plugins, once in a process.

    rebuild: the command for engines. Raises: DeviceError.
    """
    path = find_native_library(PLUGINS)
    major = str(trt.__version__).partition(".")[0]
    library = plugins_of(path) if path else None
    if library != wanted or major != str(wanted.tensorrt_major):
        here = (
            f"{path} (ABI {library.abi}, TensorRT {library.tensorrt_major})" if library else "none"
        )
        raise DeviceError(
            f"they need the libsrflow_trt.so of srflow-sdk {wanted.version} (ABI {wanted.abi}) "
            f"for TensorRT {wanted.tensorrt_major}, and here are {here} and TensorRT "
            f"{trt.__version__}: name that file in {PLUGINS}, or build them again: {rebuild}"
        )
    # It returns nothing for a file that it cannot load, and where the plugins are registered
    # already, as by LD_PRELOAD (IPluginRegistry::loadLibrary in NvInferRuntimeCommon.h; seen with
    # TensorRT-RTX 1.7).
    registry = trt.get_plugin_registry()
    plugin = ("FlowStepTail", "1", "srflow")
    with _loading:
        if registry.get_creator(*plugin) is None:
            registry.load_library(str(path))
        if registry.get_creator(*plugin) is None:
            raise DeviceError(
                f"TensorRT {trt.__version__} cannot load {path}; {_FIX.format(PLUGINS)}"
            )
