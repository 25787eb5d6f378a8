"""The native library, `libsrflow_ort`: where it is, and whether it fits. It only accelerates and is never needed.

A bundle that was exported with --plugins has the flow's operations as nodes of its own domain, each with a function in
standard operators. ONNX Runtime runs the library's kernels for them, or, without the library, the functions.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from pathlib import Path
from typing import Any

from srflow_sdk._version import __version__
from srflow_sdk.errors import DeviceError

VARIABLE = "SRFLOW_NATIVE_LIBRARY"
"""Environment variable that names the library; if empty, none is used, even if one lies beside the package."""

_log = logging.getLogger(__name__)
_FIX = f"build it again (docs/native.md), or set {VARIABLE}= to run without it"
_FILES = {"darwin": "libsrflow_ort.dylib"}
_BESIDE = Path(__file__).resolve().parent.parent / "native"


def find_native_library() -> Path | None:
    """The library's file: the one :data:`VARIABLE` names, or else the one in the package's folder `native/`, or None.

    Raises: DeviceError if the variable is a relative path, or names a file that does not exist.
    """
    named = os.environ.get(VARIABLE)
    if named is None:
        beside = _BESIDE / _FILES.get(sys.platform, "libsrflow_ort.so")
        return beside if beside.is_file() else None
    if not named:
        return None
    path = Path(named)
    if not path.is_absolute():  # its code runs as soon as it is loaded, whatever folder the user is in
        raise DeviceError(
            f"{VARIABLE} is {named!r}, but only a whole path is taken, such as /opt/srflow/lib/libsrflow_ort.so: name "
            "the library so, or unset the variable: the network runs without it"
        )
    if not path.is_file():
        raise DeviceError(
            f"{VARIABLE} names {named}, but there is no such file; build the library (docs/native.md), or unset the "
            "variable: the network runs without it"
        )
    return path


def register(options: Any, path: Path) -> None:
    """Register the library's kernels in ONNX Runtime's SessionOptions. Raises: DeviceError if that fails."""
    check_native_library(path, version=__version__)
    try:
        options.register_custom_ops_library(str(path))
    except Exception as error:  # ORT's exceptions have no common base but Exception
        raise DeviceError(f"ONNX Runtime cannot use {path}: {' '.join(str(error).split())[:300]}; {_FIX}") from error
    _log.info("flow operations run in %s", path)


def check_native_library(path: Path, *, version: str) -> None:
    """Raises: DeviceError unless the file is a libsrflow_ort of this version of the SDK."""
    try:
        built_for = ctypes.CDLL(str(path)).srflow_version
    except (OSError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise DeviceError(f"{path} is not a usable library: {reason}; {_FIX}") from error
    built_for.restype = ctypes.c_char_p
    found = bytes(built_for()).decode(errors="replace")
    if found != version:
        raise DeviceError(f"{path} is from srflow-sdk {found}, but this is {version}; {_FIX}")


def runs_on_cuda(path: Path) -> bool:
    """True if the library has kernels for CUDA; without them its nodes would run on the CPU, between the GPU's."""
    try:
        return hasattr(ctypes.CDLL(str(path)), "srflow_standard_normal_cuda")
    except OSError:  # register says what is wrong with it
        return True
