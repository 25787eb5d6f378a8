"""`python -m srflow_export.native`: what it asks of CMake, where the libraries go, and what is
missing."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from srflow_export import native
from srflow_sdk.backends import native_library
from srflow_sdk.errors import ExportError
from srflow_sdk.system.hardware import Gpu
from tests.native.conftest import ROOT

FROM_PYPI = native._fetch

# Stands in for CMake: writes its arguments down, and installs what BUILT names.
CMAKE = """#!{python}
import os, pathlib, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if os.environ["FAILS"] in sys.argv:
    sys.exit(3)
if sys.argv[1] == "--install":
    folder = pathlib.Path(sys.argv[-1], "lib")
    folder.mkdir()
    for name in os.environ["BUILT"].split():
        (folder / name).write_bytes(b"a library")
"""


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A clone, and the package's folder beside it."""
    monkeypatch.setattr(native, "_SDK", tmp_path)
    monkeypatch.setattr(native_library, "_BESIDE", tmp_path / "native")
    clone = tmp_path / "clone"
    for folder in ("runtime", "srflow_sdk"):
        (clone / folder).mkdir(parents=True)
    for folder in (tmp_path, clone / "srflow_sdk"):
        (folder / "_version.py").write_text((ROOT / "srflow_sdk" / "_version.py").read_text())
    monkeypatch.chdir(clone)
    return tmp_path


@pytest.fixture(autouse=True)
def pip(monkeypatch):
    """What PyPI was asked for; it brings everything but what CUDA 12 would need."""
    asked = []

    def install(_wanted, _tools, *packages):
        asked.append(packages)

    for name in ("TENSORRT_INCLUDE_DIR", "CUDACXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(native, "_fetch", install)
    monkeypatch.setattr(native, "find_gpu", lambda: None)
    return asked


@pytest.mark.parametrize(
    ("installed", "headers"), [(None, True), ("10.15.1.29", True), ("11.4.0.106", False)]
)
def test_headers_and_nvcc_come_from_pypi_where_there_are_none(
    places, cmake, pip, monkeypatch, installed, headers
):
    found = [SimpleNamespace(version=installed)] if installed else []
    monkeypatch.setattr(
        native.metadata, "distributions", lambda name: found if name == "tensorrt" else []
    )
    monkeypatch.setenv("PATH", "/nowhere")
    status, output = run("tensorrt")
    assert status == 0, output
    tools = places / "clone" / "build" / "native-tools"
    configured = cmake.read_text().splitlines()[0].split()
    assert f"-DCMAKE_CUDA_COMPILER={tools}/nvidia/cu13/bin/nvcc" in configured
    assert (f"-DTensorRT_INCLUDE_DIR={tools}/kernel_lens/include/tensorrt" in configured) == headers
    assert pip == [("--no-deps", "kernel-lens==2.0.1")] * headers + [
        ("nvidia-cuda-nvcc", "nvidia-cuda-cccl")
    ]
    pip.clear()
    assert run("cpu")[0] == 0
    assert pip == []


def test_a_driver_that_runs_no_cuda_13_needs_a_toolkit(places, cmake, pip, monkeypatch):
    monkeypatch.setattr(
        native, "find_gpu", lambda: Gpu(name="G", compute_capability="8.9", cuda="12.4")
    )
    monkeypatch.setenv("PATH", "/nowhere")
    assert run("cuda") == (
        1,
        "error: nvcc is not on the PATH, and this driver needs one of CUDA 12.4 or older\n",
    )


def test_what_pip_does_not_bring_is_an_error(tmp_path):
    with pytest.raises(ExportError, match=r"pip did not bring .*nvcc; .*docs/native\.md"):
        FROM_PYPI(tmp_path / "nvcc", tmp_path, "--no-index", "nvidia-cuda-nvcc")


@pytest.fixture
def cmake(places, monkeypatch):
    """The file with its calls."""
    scripts = places / "bin"
    scripts.mkdir()
    for name in ("cmake", "ninja"):
        (scripts / name).write_text(CMAKE.format(python=sys.executable))
        (scripts / name).chmod(0o755)
    monkeypatch.setattr(native.sysconfig, "get_path", lambda _: str(scripts))
    monkeypatch.setenv("CALLS", str(places / "calls"))
    monkeypatch.setenv("FAILS", "")
    monkeypatch.setenv("BUILT", "libsrflow_ort.so libsrflow_trt.so libsrflow_trt_preload.so")
    return places / "calls"


def run(*arguments):
    result = CliRunner().invoke(native.main, arguments)
    return result.exit_code, result.output


def test_libraries_are_built_with_ninja_for_this_tensorrt_and_placed_where_the_sdk_looks(
    places, cmake, monkeypatch
):
    package = places / "site" / "tensorrt_cu13-10.15.1.29.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Name: tensorrt-cu13\nVersion: 10.15.1.29\n")
    monkeypatch.syspath_prepend(package.parent)
    (places / "native").mkdir()
    (places / "native" / "libsrflow_trt.so").write_bytes(b"an older one")
    status, output = run(
        "tensorrt", "-DTensorRT_INCLUDE_DIR=/there", "-DCMAKE_CUDA_COMPILER=/there/nvcc"
    )
    assert status == 0, output
    configured, built, installed = cmake.read_text().splitlines()
    folder = places / "clone" / "build" / "native-tensorrt"
    assert configured.startswith(
        f"--fresh -S {places}/clone --preset tensorrt -B {folder} -G Ninja -DSRFLOW_TESTS=OFF"
    )
    assert configured.endswith(" -DTensorRT_INCLUDE_DIR=/there -DCMAKE_CUDA_COMPILER=/there/nvcc")
    assert "-DSRFLOW_TENSORRT_VERSION=10.15.1.29" in configured.split()
    assert built == f"--build {folder} --parallel {os.cpu_count()}"
    assert installed.startswith(f"--install {folder} --prefix ")
    assert (places / "native" / "libsrflow_trt.so").read_bytes() == b"a library"
    assert f"wrote {places}/native/libsrflow_trt_preload.so" in output


def test_a_library_that_cmake_left_out_places_nothing(places, cmake, monkeypatch):
    monkeypatch.setenv("BUILT", "libsrflow_ort.so")
    status, output = run("tensorrt")
    assert status == 1
    assert "error: libsrflow_trt was left out; CMake's warning above says what it needs" in output
    status, output = run("cuda")
    assert (status, "error: libsrflow_cuda was left out" in output) == (1, True), (
        "kernels for the CPU alone"
    )
    assert not (places / "native").exists()


@pytest.mark.parametrize("step", ["--preset", "--build", "--install"])
def test_a_failure_of_cmake_is_told_and_places_nothing(places, cmake, monkeypatch, step):
    monkeypatch.setenv("FAILS", step)
    status, output = run("cpu")
    assert status == 1
    assert "failed with status 3" in output
    assert not (places / "native").exists()


def test_without_cmake_the_extra_is_named(places, monkeypatch):
    monkeypatch.setattr(native.sysconfig, "get_path", lambda _: "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    assert run("cpu") == (1, "error: CMake is not installed: pip install '.[native]'\n")


def test_only_the_sources_of_the_installed_version_are_built(places, cmake):
    (places / "clone" / "srflow_sdk" / "_version.py").write_text('__version__ = "0.0.1"\n')
    status, output = run("cpu")
    assert status == 1
    assert (
        f"error: {places}/clone is no clone or sdist of the srflow-sdk that is installed in "
        f"{places}" in output
    )
    os.chdir(places)
    assert run("cpu")[0] == 1
    assert not cmake.exists()


def test_the_installed_package_is_meant_not_the_clone_that_python_finds_first(tmp_path):
    """`python -m` looks into the current folder first, which has a folder srflow_sdk."""
    site = tmp_path / "site"
    clone = tmp_path / "clone"
    for name, source in (("srflow_export", ROOT / "export"), ("srflow_sdk", ROOT)):
        shutil.copytree(
            source / name,
            site / name,
            ignore=shutil.ignore_patterns("*.srflow", "photos", "calibration"),
        )
    shutil.copytree(site / "srflow_sdk", clone / "srflow_sdk")
    code = (
        "import srflow_sdk, srflow_export.native as native; print(srflow_sdk.__file__, native._SDK)"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=clone,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert found == [str(clone / "srflow_sdk" / "__init__.py"), str(site / "srflow_sdk")]
