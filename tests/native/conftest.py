"""The native runtime, built once per session from a copy of the tree's sources. Skipped if tools
are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
SOURCES = ("CMakeLists.txt", "CMakePresets.json", "runtime", "srflow_sdk/_version.py")
DEBIAN = "apt-get install cmake g++ libonnxruntime-dev libgtest-dev"


@dataclass(frozen=True)
class NativeTree:
    """A copy of the sources in which presets build in build/, as in a fresh clone."""

    path: Path

    def run(self, command: Sequence[str]) -> str:
        """Run a command and return its output; fail the test with all output if it fails. One at a
        time in a tree."""
        environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
        with FileLock(self.path.with_suffix(".lock")):
            result = subprocess.run(
                command, cwd=self.path, env=environment, capture_output=True, text=True, check=False
            )
        assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"
        return result.stdout + result.stderr

    def configure(self, preset: str) -> Path:
        """Configure a preset, unless that was done, and return its build folder."""
        folder = self.path / "build" / preset
        if not (folder / "CMakeCache.txt").exists():
            self.run(["cmake", "--preset", preset])
        return folder

    def build(self, preset: str, *targets: str) -> Path:
        """Configure a preset, build these targets of it or all, and return its build folder."""
        folder = self.configure(preset)
        self.run(
            ["cmake", "--build", "--preset", preset, *(("--target", *targets) if targets else ())]
        )
        return folder

    def has(self, preset: str, variable: str) -> bool:
        """Whether the preset's configuration found what this cache variable points to."""
        lines = (self.configure(preset) / "CMakeCache.txt").read_text().splitlines()
        values = [line.partition("=")[2] for line in lines if line.startswith(f"{variable}:")]
        return bool(values) and not values[0].endswith("NOTFOUND")


@pytest.fixture(scope="session")
def native_tree(tmp_path_factory):
    for tool in ("cmake", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: {DEBIAN}")
    # One of pytest-xdist's processes builds, and the others use its build.
    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent
    path = session / "native"
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            path.mkdir()
            for name in SOURCES:
                (path / name).parent.mkdir(exist_ok=True)
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                copy(ROOT / name, path / name)
    return NativeTree(path)


@pytest.fixture(scope="session")
def ort_library(native_tree):
    """libsrflow_ort, built by the preset cpu without the C++ tests, which take most of a build."""
    if not native_tree.has("cpu", "OnnxRuntime_INCLUDE_DIR"):
        pytest.skip(f"ONNX Runtime's headers are not installed: {DEBIAN}")
    (library,) = native_tree.build("cpu", "srflow_ort").glob("runtime/ort/libsrflow_ort.*")
    return library


ARCHITECTURE = "89"
FETCHED_HEADERS = ROOT / "build" / "tensorrt-headers" / "kernel_lens" / "include" / "tensorrt"
TARGETS = ("srflow_cuda_c", "srflow_ort", "srflow_trt", "srflow_trt_tests")


def tensorrt_headers() -> Path:
    """The folder with NvInferRuntime.h; skips the test if there is none."""
    for folder in (os.environ.get("TENSORRT_INCLUDE_DIR", ""), FETCHED_HEADERS):
        if folder and (Path(folder) / "NvInferRuntime.h").is_file():
            return Path(folder)
    pytest.skip(
        "TensorRT's headers are not here: set TENSORRT_INCLUDE_DIR, or take those of a wheel: pip "
        "download --no-deps -d build/tensorrt-headers kernel-lens==2.0.1 && python3 -m zipfile -e "
        "build/tensorrt-headers/*.whl build/tensorrt-headers"
    )


def skip_without_nvcc() -> None:
    """Skip the test if no CUDA compiler is on the PATH."""
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on the PATH: install NVIDIA's CUDA toolkit, 12.0 or newer")


@lru_cache(maxsize=1)
def build_cuda_plugins(tree: NativeTree) -> Path:
    """The build folder of the preset tensorrt, with TARGETS built for ARCHITECTURE."""
    skip_without_nvcc()
    headers = tensorrt_headers()
    if not (tree.has("cpu", "GTest_DIR") and tree.has("cpu", "OnnxRuntime_INCLUDE_DIR")):
        pytest.skip(f"GoogleTest or ONNX Runtime's headers are not installed: {DEBIAN}")
    architecture = f"-DSRFLOW_CUDA_ARCHITECTURES={ARCHITECTURE}"
    # CMake tests nvcc by compiling for some architecture; use the same one, so that it tests only
    # once.
    trial = f"-DCMAKE_CUDA_ARCHITECTURES={ARCHITECTURE}"
    tree.run(
        ["cmake", "--preset", "tensorrt", architecture, trial, f"-DTensorRT_INCLUDE_DIR={headers}"]
    )
    tree.run(["cmake", "--build", "--preset", "tensorrt", "--target", *TARGETS])
    return tree.path / "build" / "tensorrt"
