"""Probes that may crash their process, each run in a process of its own.

A broken or mixed native library can end Python without an exception: srflow-doctor must survive it and say so.
`ask("onnxruntime")` runs the function of that name in `python -m srflow_apps.doctor.probes` and returns its answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import io
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

DEADLINE_S = 120

_ARITHMETIC = ("FP32", "FP16", "BF16", "INT8")


def ask(question: str, *arguments: str) -> dict[str, Any]:
    """Run a probe and return its answer, or {"error": one line} if it raises, crashes or does not end."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "srflow_apps.doctor.probes", question, *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=DEADLINE_S,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONSAFEPATH": "1", "PYTHONWARNINGS": "ignore", "PYTHONIOENCODING": "utf-8"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": " ".join(str(error).split())[-200:]}
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        answer: dict[str, Any] = json.loads(lines[-1])
        return answer
    return {"error": _last_line(done.stderr) or f"Python crashed (exit status {done.returncode})"}


def onnxruntime() -> dict[str, Any]:
    """Describe the package that `import onnxruntime` really imports."""
    ort = importlib.import_module("onnxruntime")
    if not hasattr(ort, "InferenceSession"):
        raise ImportError("the folder onnxruntime/ exists, but the package in it does not")
    return {
        "version": ort.__version__,
        "package": getattr(ort, "package_name", "") or "onnxruntime",
        "cuda": getattr(ort, "cuda_version", ""),
        "providers": ort.get_available_providers(),
    }


def upscale(device: str) -> dict[str, Any]:
    """Upscale a small image with the embedded model; on devices other than the CPU, compare it with the CPU's.

    "decibels" is the PSNR between the two, None if they are equal.
    """
    import numpy as np

    from srflow_sdk.upscaler import Upscaler

    y, x = np.mgrid[:32, :32].astype(np.float32)
    image = np.stack([0.5 + 0.4 * np.sin(x / 4 + shift) * np.cos(y / 3 - shift) for shift in range(3)], axis=-1)
    with Upscaler(device=device) as upscaler:
        start = time.perf_counter()
        picture = upscaler.upscale(image)
        seconds = time.perf_counter() - start
    answer = {"size": picture.shape[1::-1], "seconds": seconds}
    if device != "cpu":
        with Upscaler(device="cpu") as reference:
            error = float(np.mean((picture - reference.upscale(image)) ** 2, dtype=np.float64))
        answer["decibels"] = -10 * math.log10(error) if error else None
    return answer


def plugin_provider(device: str) -> dict[str, Any]:
    """List the devices that a plug-in provider of ONNX Runtime finds, or how to install it."""
    from srflow_sdk.backends.providers import PROVIDERS, find_devices

    plugin = PROVIDERS[device]
    about = {"needs": plugin.needs, "fix": f"pip install {plugin.package}", "version": plugin.version()}
    if not plugin.offered():
        return {**about, "installed": False}
    found = ((one, one.ep_metadata.get("FULL_DEVICE_NAME") or one.device.vendor) for one in find_devices(plugin))
    devices = [", ".join(filter(None, (one.device.type.name, name))) for one, name in found]
    return {**about, "installed": True, "devices": devices}


def openvino() -> dict[str, Any]:
    """OpenVINO's version, the device that it would take, and what the processor can compute in."""
    from srflow_sdk.backends.openvino import best_device, import_openvino, openvino_core

    core, device = openvino_core(), best_device()
    return {
        "version": str(import_openvino().__version__).partition("-")[0],
        "device": f"{device}, {core.get_property(device, 'FULL_DEVICE_NAME')}",
        "arithmetic": [one for one in core.get_property(device, "OPTIMIZATION_CAPABILITIES") if one in _ARITHMETIC],
    }


def cuda_libraries() -> dict[str, Any]:
    """Load the libraries that ONNX Runtime's CUDA provider needs; the error names the first that is missing."""
    ort = importlib.import_module("onnxruntime")
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()
    _load_provider("cuda")
    return {}


def _load_provider(name: str) -> None:
    """Load a provider's library, after the one whose symbols it uses."""
    folder = Path(str(importlib.import_module("onnxruntime").__file__)).parent / "capi"
    for provider in ("shared", name):
        library = next(folder.glob(f"*onnxruntime_providers_{provider}.*"))
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def nvidia_driver() -> dict[str, Any]:
    """The GPUs that the NVIDIA driver sees, and the CUDA version that it supports."""
    from srflow_sdk.system.hardware import cuda_driver

    cuda = cuda_driver()
    status = cuda.cuInit(0)
    if status:
        raise RuntimeError(
            f"the driver is installed but does not start (cuInit returns {status}): no GPU, or no access to it"
        )
    count, version, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(100)
    cuda.cuDeviceGetCount(ctypes.byref(count))
    cuda.cuDriverGetVersion(ctypes.byref(version))
    gpus = []
    for index in range(count.value):
        cuda.cuDeviceGetName(name, len(name), index)
        gpus.append(name.value.decode(errors="replace"))
    if not gpus:
        raise RuntimeError("the driver sees no GPU")
    return {"gpus": gpus, "cuda": f"{version.value // 1000}.{version.value % 1000 // 10}"}


def libvips() -> dict[str, Any]:
    """libvips' version and which image formats it reads."""
    vips = importlib.import_module("pyvips")

    loaders = {"PNG": "png", "JPEG": "jpeg", "WebP": "webp", "TIFF": "tiff", "GIF": "gif"}
    formats = {name: bool(vips.type_find("VipsForeignLoad", f"{kind}load")) for name, kind in loaders.items()}
    try:  # libheif may support the container but lack the codec: only reading a picture shows it
        black = vips.Image.black(16, 16, bands=3).copy(interpretation="srgb")
        vips.Image.new_from_buffer(black.heifsave_buffer(compression="av1"), "").avg()
        formats["AVIF"] = True
    except vips.Error:
        formats["AVIF"] = False
    formats["HEIC"] = importlib.util.find_spec("pi_heif") is not None
    version = ".".join(str(vips.version(part)) for part in range(3))
    return {"version": version, "formats": formats}


def native_library() -> dict[str, Any]:
    """The native library that bundles exported with --plugins would use; ONNX Runtime really loads it."""
    from srflow_sdk.backends.native_library import find_native_library, register, runs_on_cuda

    path = find_native_library()
    if path is None:
        return {"path": None}
    register(importlib.import_module("onnxruntime").SessionOptions(), path)
    return {"path": str(path), "what": f"kernels for {'CPU and CUDA' if runs_on_cuda(path) else 'CPU'}"}


def plugin_library() -> dict[str, Any]:
    """The library of plugins that `srflow-export --trt … --plugins` would take, and its TensorRT's major version."""
    from srflow_sdk._version import __version__
    from srflow_sdk.backends.native_library import PLUGINS, check_native_library, find_native_library

    path = find_native_library(PLUGINS)
    if path is None:
        return {"path": None}
    library = check_native_library(path, version=__version__, variable=PLUGINS)
    return {"path": str(path), "what": f"for TensorRT {library.srflow_tensorrt_major()}"}


def module(name: str) -> dict[str, Any]:
    """Import a module."""
    return {"version": getattr(importlib.import_module(name), "__version__", "")}


def _last_line(stderr: str) -> str:
    """The exception's message, without its traceback and its module."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if not lines:
        return ""
    kind, colon, message = lines[-1].partition(": ")
    return (message if colon and " " not in kind else lines[-1])[:400]


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
