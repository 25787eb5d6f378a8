"""What can be tested of the CUDA kernels and the plugin library without a GPU: they build, load and refuse."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from tests.native.conftest import ROOT, NativeTree
from tests.native.plugin_build import ARCHITECTURE, built_plugins, skip_without_nvcc

MOST = (1 << 63) - 1
C_INTERFACE = {"srflow_version", "srflow_standard_normal", "srflow_standard_normal_cuda"}
FLOW_OPS = {"srflow_flow_step_tail_cuda", "srflow_unsqueeze_split_cuda"}
PLUGIN_ENTRY_POINTS = {"getCreators", "setLoggerFinder", "srflow_tensorrt_major"}
INVALID_VALUE = 1  # cudaErrorInvalidValue


@pytest.fixture(scope="module")
def build(native_tree: NativeTree) -> Path:
    return built_plugins(native_tree)


def exported_symbols(library: Path) -> set[str]:
    """All exported symbols; weak and unique ones (templates of the standard library) could mix with other copies."""
    lines = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1] for line in lines.splitlines()}


@pytest.mark.slow
def test_plugin_library_exports_what_tensorrt_calls_and_the_c_interface(build: Path) -> None:
    assert exported_symbols(build / "runtime/tensorrt/libsrflow_trt.so") == C_INTERFACE | PLUGIN_ENTRY_POINTS


@pytest.mark.slow
def test_preload_library_exports_nothing_to_be_registered_twice_by(build: Path) -> None:
    assert exported_symbols(build / "runtime/tensorrt/libsrflow_trt_preload.so") == C_INTERFACE


@pytest.mark.slow
def test_preload_library_says_where_it_finds_no_tensorrt(build: Path) -> None:
    library = build / "runtime/tensorrt/libsrflow_trt_preload.so"
    load = f"import ctypes; ctypes.CDLL({str(library)!r})"
    environment = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
    result = subprocess.run([sys.executable, "-c", load], env=environment, capture_output=True, text=True, check=True)
    assert result.stderr.startswith("srflow: plugins are not registered: libnvinfer.so.")


@pytest.mark.slow
def test_cuda_library_exports_the_flow_ops_and_the_c_interface(build: Path) -> None:
    assert exported_symbols(build / "runtime/cuda/libsrflow_cuda.so") == C_INTERFACE | FLOW_OPS


@pytest.mark.slow
def test_onnxruntime_without_cuda_takes_the_library_that_has_its_kernels(build: Path) -> None:
    library = build / "runtime/ort/libsrflow_ort.so"
    assert exported_symbols(library) == C_INTERFACE | {"RegisterCustomOps"}
    onnxruntime.SessionOptions().register_custom_ops_library(str(library))


@pytest.mark.slow
@pytest.mark.parametrize("library", ["tensorrt/libsrflow_trt.so", "cuda/libsrflow_cuda.so", "ort/libsrflow_ort.so"])
def test_library_needs_neither_cuda_nor_tensorrt_to_load(build: Path, library: str) -> None:
    dynamic = subprocess.run(["readelf", "-d", build / "runtime" / library], capture_output=True, text=True, check=True)
    needed = [line for line in dynamic.stdout.splitlines() if "(NEEDED)" in line]
    assert needed
    assert not any(word in line for line in needed for word in ("cuda", "nvinfer", "tensorrt"))
    ctypes.CDLL(str(build / "runtime" / library))


@pytest.mark.slow
def test_plugins_pass_their_tests(build: Path) -> None:
    tests = build / "runtime/tensorrt/tests/srflow_trt_tests"
    result = subprocess.run([tests], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "[  PASSED  ]" in result.stdout


def step_arguments(**changes: object) -> list[object]:
    """Valid arguments of srflow_flow_step_tail_cuda for an empty batch, so that there is nothing to compute."""
    arguments: dict[str, object] = dict.fromkeys(
        ("h", "head", "injector_scale", "injector_shift", "mixing_weight", "mixing_bias", "out")
    )
    arguments |= {"half": 0, "batch": ctypes.c_int64(0), "channels": ctypes.c_int64(12), "pixels": ctypes.c_int64(64)}
    arguments |= {"conditioning_batch": ctypes.c_int64(1), "conditioning_channels": ctypes.c_int64(36)}
    arguments |= {"begin": ctypes.c_int64(24), "scale_map": b"tanh", "order": b"shift_first"}
    arguments |= {"clamp": ctypes.c_float(0.7), "stream": None}
    return list((arguments | changes).values())


@pytest.mark.slow
def test_kernels_refuse_sizes_that_do_not_fit_before_cuda_is_asked(build: Path) -> None:
    library = ctypes.CDLL(str(build / "runtime/cuda/libsrflow_cuda.so"))
    assert library.srflow_flow_step_tail_cuda(*step_arguments()) == 0
    for change in (
        {"begin": ctypes.c_int64(25)},
        {"begin": ctypes.c_int64(-1)},
        {"channels": ctypes.c_int64(0)},
        {"conditioning_batch": ctypes.c_int64(2)},
        {"begin": ctypes.c_int64(MOST)},
        {"begin": ctypes.c_int64(MOST - 5), "conditioning_channels": ctypes.c_int64(MOST)},
        {"conditioning_channels": ctypes.c_int64(-MOST - 1)},
        {"pixels": ctypes.c_int64(MOST)},
        {"batch": ctypes.c_int64(1 << 31), "pixels": ctypes.c_int64(1 << 31)},
        {"channels": ctypes.c_int64(MOST), "begin": ctypes.c_int64(0), "conditioning_channels": ctypes.c_int64(MOST)},
        {"scale_map": b"cube"},
        {"order": b""},
        {"scale_map": None},
        {"order": None},
    ):
        assert library.srflow_flow_step_tail_cuda(*step_arguments(**change)) == INVALID_VALUE, change

    def split(*, height: int = 8, tau_batch: int = 1, kept: int = 3, drawn: int = 3, width: int = 8) -> int:
        sizes = [ctypes.c_int64(size) for size in (0, kept, drawn, height, width, tau_batch)]
        status: int = library.srflow_unsqueeze_split_cuda(
            None, None, None, None, None, 0, *sizes, ctypes.c_float(2), None
        )
        return status

    assert split() == 0
    assert split(height=7) == INVALID_VALUE
    assert split(tau_batch=2) == INVALID_VALUE
    assert split(kept=MOST, drawn=MOST) == INVALID_VALUE
    assert split(height=1 << 32, width=1 << 32) == INVALID_VALUE


@pytest.mark.slow
def test_latents_kernel_refuses_what_the_c_function_refuses(build: Path) -> None:
    library = ctypes.CDLL(str(build / "runtime/cuda/libsrflow_cuda.so"))
    room = (ctypes.c_float * 4)()
    for level, channels, top, out in ((0, 1, 0, room), (1, 0, 0, room), (1, 1, -1, room), (1, 1, 0, None)):
        window = [ctypes.c_int64(value) for value in (top, 0, 2, 2)]
        arguments = [ctypes.c_uint64(0), ctypes.c_uint64(0), level, channels, *window, out]
        assert library.srflow_standard_normal_cuda(*arguments, None) == 1, (level, channels, top)
    whole = [ctypes.c_int64(value) for value in (0, 0, 1 << 32, 1 << 32)]
    assert library.srflow_standard_normal_cuda(ctypes.c_uint64(0), ctypes.c_uint64(0), 1, 1, *whole, room, None) == 1


def test_latents_kernel_fuses_no_double_operations(tmp_path: Path) -> None:
    """A fused multiply-add rounds once and scheme 1 rounds twice, so fusing would change the latent field."""
    skip_without_nvcc()
    ptx = tmp_path / "latents.ptx"
    source = ROOT / "runtime" / "cuda" / "latents.cu"
    include = f"-I{ROOT / 'runtime' / 'include'}"
    options = ["-std=c++17", "-O3", "-ptx", f"-arch=sm_{ARCHITECTURE}", include, "-o", str(ptx)]
    subprocess.run(["nvcc", *options, str(source)], check=True, capture_output=True)
    operations = ptx.read_text()
    assert "mul.rn.f64" in operations
    assert "fma.rn.f64" not in operations


def configured(tree: NativeTree, folder: str, *options: str) -> str:
    """CMake's messages, without the environment's TensorRT."""
    command = ["cmake", "-S", ".", "-B", f"build/{folder}", "-DSRFLOW_ORT=OFF", "-DSRFLOW_TESTS=OFF", *options]
    environment = {key: value for key, value in os.environ.items() if key != "TENSORRT_INCLUDE_DIR"}
    result = subprocess.run(command, cwd=tree.path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return " ".join((result.stdout + result.stderr).split())


def test_without_nvcc_the_cuda_parts_are_left_out_with_a_word(native_tree: NativeTree) -> None:
    words = configured(native_tree, "no_nvcc", "-DSRFLOW_CUDA=ON", "-DCMAKE_CUDA_COMPILER=CMAKE_CUDA_COMPILER-NOTFOUND")
    assert "no CUDA compiler was found" in words
    native_tree.run(["cmake", "--build", "build/no_nvcc", "--target", "srflow_c_api"])


def test_without_tensorrts_headers_or_cuda_the_plugins_are_left_out_with_a_word(
    native_tree: NativeTree, tmp_path: Path
) -> None:
    hidden = ("-DCMAKE_FIND_ROOT_PATH=/nonexistent", "-DCMAKE_FIND_ROOT_PATH_MODE_INCLUDE=ONLY")
    words = configured(native_tree, "no_headers", "-DSRFLOW_TENSORRT=ON", *hidden)
    assert "libsrflow_trt is left out: TensorRT's headers were not found" in words
    assert "the folder with NvInferRuntime.h of TensorRT 10.15 or newer" in words
    assert "-DTensorRT_INCLUDE_DIR=" in words
    given = f"-DTensorRT_INCLUDE_DIR={tmp_path}"
    words = configured(native_tree, "no_headers", "-DSRFLOW_TENSORRT=ON", given)
    assert f"libsrflow_trt is left out: TensorRT's headers were not found in {tmp_path}." in words
    native_tree.run(["cmake", "--build", "build/no_headers", "--target", "srflow_c_api"])
    for header in ("NvInferRuntime.h", "NvInferVersion.h"):
        (tmp_path / header).touch()
    words = configured(native_tree, "no_headers", "-DSRFLOW_TENSORRT=ON", given)
    assert "libsrflow_trt is left out: the plugins need the CUDA kernels" in words


def test_headers_of_another_major_version_than_the_installed_one_are_refused(
    native_tree: NativeTree, tmp_path: Path
) -> None:
    (tmp_path / "NvInferRuntime.h").touch()
    (tmp_path / "NvInferVersion.h").write_text("#define TRT_MAJOR_ENTERPRISE 10\n#define TRT_MINOR_ENTERPRISE 15\n")
    given = ("-DSRFLOW_TENSORRT=ON", f"-DTensorRT_INCLUDE_DIR={tmp_path}")
    words = configured(native_tree, "another_major", *given, "-DSRFLOW_TENSORRT_VERSION=11.4.0.106")
    assert f"TensorRT's headers in {tmp_path} are of 10.15, and a library works with one major version." in words
    assert "the folder with NvInferRuntime.h of TensorRT 11.4: include/ of github.com/NVIDIA/TensorRT at" in words
    words = configured(native_tree, "another_major", *given, "-DSRFLOW_TENSORRT_VERSION=10.16.1.11")
    assert "are of 10.15" not in words


@pytest.mark.parametrize(
    ("version", "warned"), [((10, 9), True), ((10, 14), True), ((10, 15), False), ((11, 0), False), ((1, 3), False)]
)
@pytest.mark.parametrize("infix", ["TRT_{}_ENTERPRISE", "NV_TENSORRT_{}"])
def test_headers_of_an_old_tensorrt_are_warned_of(
    native_tree: NativeTree, tmp_path: Path, version: tuple[int, int], warned: bool, infix: str
) -> None:
    parts = zip(("MAJOR", "MINOR"), version, strict=True)
    (tmp_path / "NvInferRuntime.h").touch()
    (tmp_path / "NvInferVersion.h").write_text(
        "".join(f"#define {infix.format(part)} {number} //!< TensorRT 7\n" for part, number in parts)
    )
    options = ("-DSRFLOW_TENSORRT=ON", f"-DTensorRT_INCLUDE_DIR={tmp_path}")
    words = configured(native_tree, "old_headers", *options)
    about = f"are of {version[0]}.{version[1]}; the plugins are made for 10.15 or newer"
    assert (about in words) == warned


def test_every_gpu_of_these_years_has_machine_code_or_ptx(native_tree: NativeTree) -> None:
    """PTX works on GPUs of its number and above. Orin (87) and Thor (110) do not run other GPUs' machine code."""
    configured(native_tree, "architectures")
    cache = (native_tree.path / "build" / "architectures" / "CMakeCache.txt").read_text()
    (values,) = re.findall(r"^SRFLOW_CUDA_ARCHITECTURES:\w+=(.*)$", cache, flags=re.MULTILINE)
    architectures = [value.partition("-") for value in values.split(";")]
    compiled = {int(number) for number, _, kind in architectures if kind != "virtual"}
    ptx = {int(number) for number, _, kind in architectures if kind != "real"}
    assert compiled >= {75, 80, 86, 89, 90, 120}
    for gpu, closest in ((87, 80), (100, 90), (103, 90), (110, 90), (121, 120)):
        assert max(number for number in ptx if number <= gpu) == closest


@pytest.mark.slow
def test_gpu_report_calls_the_built_library_and_no_kernel_with_mixed_types(build: Path) -> None:
    torch = pytest.importorskip("torch")
    from benchmarks.gpu_report import kernels as gpu_kernels

    assert all((gpu_kernels.RUNTIME / source).is_file() for source in gpu_kernels.SOURCES)
    kernels = gpu_kernels.Kernels(build / "runtime/cuda/libsrflow_cuda.so", torch.device("cpu"))
    shapes = {"steps": 2, "half": True, "batch": 1, "device": torch.device("cpu")}
    h, head, *rest = gpu_kernels.step_inputs(12, 4, **shapes)
    named = {"scale_map": "exp", "order": "shift_first", "clamp": 0.0}
    nothing = (h[:0], head[:0], *rest)
    assert kernels.flow_step_tail(*nothing, step=1, **named).shape == (0, 12, 4, 4)
    with pytest.raises(RuntimeError, match=r"CUDA error 1$"):
        kernels.flow_step_tail(*nothing, step=2, **named)
    with pytest.raises(ValueError, match="conditioning that is all float32 or all float16"):
        kernels.flow_step_tail(h, head.float(), *rest, step=1, **named)
