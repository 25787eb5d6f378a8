"""The CUDA parts and TensorRT plugins, built once per session for one GPU architecture."""

from __future__ import annotations

import os
import shutil
from functools import lru_cache
from pathlib import Path

import pytest

from tests.native.conftest import DEBIAN, ROOT, NativeTree

ARCHITECTURE = "89"
FETCHED_HEADERS = ROOT / "build" / "tensorrt-headers" / "kernel_lens" / "include" / "tensorrt"
TARGETS = ("srflow_cuda_c", "srflow_ort", "srflow_trt", "srflow_trt_tests")


def tensorrt_headers() -> Path:
    """The folder with NvInferRuntime.h; skips the test if there is none."""
    for folder in (os.environ.get("TENSORRT_INCLUDE_DIR", ""), FETCHED_HEADERS):
        if folder and (Path(folder) / "NvInferRuntime.h").is_file():
            return Path(folder)
    pytest.skip(
        "TensorRT's headers are not here: set TENSORRT_INCLUDE_DIR, or take those of a wheel: pip download --no-deps "
        "-d build/tensorrt-headers kernel-lens==2.0.1 && python3 -m zipfile -e build/tensorrt-headers/*.whl "
        "build/tensorrt-headers"
    )


def skip_without_nvcc() -> None:
    """Skip the test if no CUDA compiler is on the PATH."""
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on the PATH: install NVIDIA's CUDA toolkit, 12.0 or newer")


@lru_cache(maxsize=1)
def built_plugins(tree: NativeTree) -> Path:
    """The build folder of the preset tensorrt, with TARGETS built for ARCHITECTURE."""
    skip_without_nvcc()
    headers = tensorrt_headers()
    if not (tree.found("cpu", "GTest_DIR") and tree.found("cpu", "OnnxRuntime_INCLUDE_DIR")):
        pytest.skip(f"GoogleTest or ONNX Runtime's headers are not installed: {DEBIAN}")
    architecture = f"-DSRFLOW_CUDA_ARCHITECTURES={ARCHITECTURE}"
    # CMake tests nvcc by compiling for some architecture; use the same one, so that it tests only once.
    trial = f"-DCMAKE_CUDA_ARCHITECTURES={ARCHITECTURE}"
    tree.run(["cmake", "--preset", "tensorrt", architecture, trial, f"-DTensorRT_INCLUDE_DIR={headers}"])
    tree.run(["cmake", "--build", "--preset", "tensorrt", "--target", *TARGETS])
    return tree.path / "build" / "tensorrt"
