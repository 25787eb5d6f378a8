"""CMake's presets, and what can be tested of CUDA kernels and plugins without a GPU: they build,
load and refuse."""

import ctypes
import re
import subprocess

import onnxruntime
import pytest

from tests.native.conftest import ARCHITECTURE, DEBIAN, ROOT, build_cuda_plugins, skip_without_nvcc

MOST = (1 << 63) - 1
C_INTERFACE = {"srflow_version", "srflow_standard_normal", "srflow_standard_normal_cuda"}
FLOW_OP = "srflow_flow_step_tail_cuda"
PLUGIN_ENTRY_POINTS = {
    "getCreators",
    "setLoggerFinder",
    "srflow_tensorrt_major",
    "srflow_plugins_abi",
}
INVALID_VALUE = 1  # cudaErrorInvalidValue


@pytest.fixture(scope="module")
def build(native_tree):
    return build_cuda_plugins(native_tree)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "symbols"),
    [
        ("tensorrt/libsrflow_trt.so", C_INTERFACE | PLUGIN_ENTRY_POINTS),
        ("tensorrt/libsrflow_trt_preload.so", C_INTERFACE),  # nothing to be registered twice by
        ("cuda/libsrflow_cuda.so", C_INTERFACE | {FLOW_OP}),
        ("ort/libsrflow_ort.so", C_INTERFACE | {"RegisterCustomOps"}),
    ],
)
def test_a_library_exports_what_is_called_and_needs_neither_cuda_nor_tensorrt_to_load(
    build, library, symbols
):
    """Weak and unique symbols (templates of the standard library) could mix with other copies."""
    path = build / "runtime" / library
    lines = subprocess.run(
        ["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True
    ).stdout
    assert {line.split()[-1] for line in lines.splitlines()} == symbols
    dynamic = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True)
    needed = [line for line in dynamic.stdout.splitlines() if "(NEEDED)" in line]
    assert needed
    assert not any(word in line for line in needed for word in ("cuda", "nvinfer", "tensorrt"))
    if "RegisterCustomOps" in symbols:
        onnxruntime.SessionOptions().register_custom_ops_library(str(path))
    elif "preload" not in library:
        ctypes.CDLL(str(path))


@pytest.mark.slow
def test_plugins_pass_their_tests(build):
    tests = build / "runtime/tensorrt/tests/srflow_trt_tests"
    result = subprocess.run([tests], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "[  PASSED  ]" in result.stdout


def step_arguments(**changes):
    """Valid arguments of srflow_flow_step_tail_cuda for an empty batch, so that there is nothing to
    compute."""
    arguments = dict.fromkeys(
        ("h", "head", "injector_scale", "injector_shift", "mixing_weight", "mixing_bias", "out")
    )
    arguments |= {
        "half": 0,
        "batch": ctypes.c_int64(0),
        "channels": ctypes.c_int64(12),
        "pixels": ctypes.c_int64(64),
    }
    arguments |= {
        "conditioning_batch": ctypes.c_int64(1),
        "conditioning_channels": ctypes.c_int64(36),
    }
    arguments |= {"begin": ctypes.c_int64(24), "scale_map": b"tanh", "order": b"shift_first"}
    arguments |= {"clamp": ctypes.c_float(0.7), "stream": None}
    return list((arguments | changes).values())


@pytest.mark.slow
def test_kernels_refuse_sizes_that_do_not_fit_before_cuda_is_asked(build):
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
        {
            "channels": ctypes.c_int64(MOST),
            "begin": ctypes.c_int64(0),
            "conditioning_channels": ctypes.c_int64(MOST),
        },
        {"scale_map": b"cube"},
        {"order": b""},
        {"scale_map": None},
        {"order": None},
    ):
        assert library.srflow_flow_step_tail_cuda(*step_arguments(**change)) == INVALID_VALUE, (
            change
        )


def test_latents_kernel_fuses_no_double_operations(tmp_path):
    """A fused multiply-add rounds once and scheme 1 rounds twice, so fusing would change the latent
    field."""
    skip_without_nvcc()
    ptx = tmp_path / "latents.ptx"
    source = ROOT / "runtime" / "cuda" / "latents.cu"
    include = f"-I{ROOT / 'runtime' / 'include'}"
    options = ["-std=c++17", "-O3", "-ptx", f"-arch=sm_{ARCHITECTURE}", include, "-o", str(ptx)]
    subprocess.run(["nvcc", *options, str(source)], check=True, capture_output=True)
    operations = ptx.read_text()
    assert "mul.rn.f64" in operations
    assert "fma.rn.f64" not in operations


HIDDEN = ("-DCMAKE_FIND_ROOT_PATH=/nonexistent", "-DCMAKE_FIND_ROOT_PATH_MODE_INCLUDE=ONLY")
HEADERS = ("NvInferRuntime.h", "NvInferVersion.h")


@pytest.fixture
def configured(native_tree, monkeypatch):
    """CMake's messages for a build folder and options, without the environment's TensorRT."""
    monkeypatch.delenv("TENSORRT_INCLUDE_DIR", raising=False)
    command = ("cmake", "-S", ".", "-DSRFLOW_TESTS=OFF")
    return lambda folder, *options: " ".join(
        native_tree.run([*command, "-B", f"build/{folder}", *options]).split()
    )


def test_what_a_library_lacks_is_named_and_the_rest_is_built(native_tree, configured, tmp_path):
    no_ort = "-DSRFLOW_ORT=OFF"
    no_nvcc = "-DCMAKE_CUDA_COMPILER=CMAKE_CUDA_COMPILER-NOTFOUND"
    words = configured("no_nvcc", no_ort, "-DSRFLOW_CUDA=ON", no_nvcc)
    assert "no CUDA compiler was found" in words
    words = configured("no_headers", no_ort, "-DSRFLOW_TENSORRT=ON", *HIDDEN)
    assert "libsrflow_trt is left out: TensorRT's headers were not found" in words
    given = f"-DTensorRT_INCLUDE_DIR={tmp_path}"
    words = configured("no_headers", no_ort, "-DSRFLOW_TENSORRT=ON", given)
    assert f"libsrflow_trt is left out: TensorRT's headers were not found in {tmp_path}." in words
    for header in HEADERS:
        (tmp_path / header).touch()
    words = configured("no_headers", no_ort, "-DSRFLOW_TENSORRT=ON", given)
    assert "libsrflow_trt is left out: the plugins need the CUDA kernels" in words
    no_tests = ("-DSRFLOW_TESTS=ON", "-DCMAKE_DISABLE_FIND_PACKAGE_GTest=ON")
    words = configured(
        "bare", "-DOnnxRuntime_INCLUDE_DIR=OnnxRuntime_INCLUDE_DIR-NOTFOUND", *HIDDEN, *no_tests
    )
    assert "libsrflow_ort is left out" in words
    for folder in ("no_nvcc", "no_headers", "bare"):
        native_tree.run(["cmake", "--build", f"build/{folder}", "--target", "srflow_c_api"])


def test_headers_of_an_old_tensorrt_or_another_major_version_are_told(configured, tmp_path):
    (tmp_path / HEADERS[0]).touch()

    def told(major, minor, infix, *options):
        """A release says its version in one of two ways."""
        parts = {"MAJOR": major, "MINOR": minor}
        lines = [
            f"#define {infix.format(part)} {number} //!< TensorRT 7\n"
            for part, number in parts.items()
        ]
        (tmp_path / HEADERS[1]).write_text("".join(lines))
        given = ("-DSRFLOW_ORT=OFF", "-DSRFLOW_TENSORRT=ON", f"-DTensorRT_INCLUDE_DIR={tmp_path}")
        return configured("versions", *given, *options)

    for major, minor, infix, old in (
        (10, 14, "NV_TENSORRT_{}", True),
        (10, 15, "TRT_{}_ENTERPRISE", False),
        (1, 3, "TRT_{}_ENTERPRISE", False),  # of TensorRT-RTX
    ):
        about = f"are of {major}.{minor}; the plugins are made for 10.15 or newer"
        assert (about in told(major, minor, infix)) == old, (major, minor)
    words = told(10, 15, "TRT_{}_ENTERPRISE", "-DSRFLOW_TENSORRT_VERSION=11.4.0.106")
    assert f"TensorRT's headers in {tmp_path} are of 10.15, and a library works with one" in words


def test_every_gpu_of_these_years_has_machine_code_or_ptx(native_tree, configured):
    """PTX works on GPUs of its number and above. Orin (87) and Thor (110) do not run other GPUs'
    machine code."""
    configured("no_nvcc", "-DSRFLOW_ORT=OFF")
    cache = (native_tree.path / "build" / "no_nvcc" / "CMakeCache.txt").read_text()
    (values,) = re.findall(r"^SRFLOW_CUDA_ARCHITECTURES:\w+=(.*)$", cache, flags=re.MULTILINE)
    architectures = [value.partition("-") for value in values.split(";")]
    compiled = {int(number) for number, _, kind in architectures if kind != "virtual"}
    ptx = {int(number) for number, _, kind in architectures if kind != "real"}
    assert compiled >= {75, 80, 86, 89, 90, 120}
    for gpu, closest in ((87, 80), (100, 90), (103, 90), (110, 90), (121, 120)):
        assert max(number for number in ptx if number <= gpu) == closest


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["cpu", "asan"])
def test_preset_builds_and_passes_its_tests_from_a_fresh_clone(native_tree, preset):
    if not native_tree.has(preset, "GTest_DIR"):
        pytest.skip(f"GoogleTest is not installed: {DEBIAN}")
    native_tree.build(preset)
    assert "100% tests passed" in native_tree.run(["ctest", "--preset", preset])


def test_install_puts_the_library_under_lib(native_tree, ort_library, tmp_path):
    native_tree.run(["cmake", "--install", "build/cpu", "--prefix", str(tmp_path)])
    assert (tmp_path / "lib" / ort_library.name).is_file()
    assert (tmp_path / "include" / "srflow" / "srflow.h").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("gpu", [80, 89, 90, 120])
@pytest.mark.parametrize("name", ["flow_step_tail", "latents"])
def test_threads_keep_their_numbers_in_registers_and_leave_room_for_two_blocks(tmp_path, gpu, name):
    skip_without_nvcc()
    command = [
        "nvcc",
        "-std=c++17",
        "-O3",
        "-cubin",
        f"-arch=sm_{gpu}",
        "-Xptxas",
        "-v",
        "-I",
        ROOT / "runtime/include",
    ]
    command += [ROOT / "runtime/cuda" / f"{name}.cu", "-o", tmp_path / "kernel.cubin"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert max(map(int, re.findall(r"Used (\d+) registers", said))) <= 104, "of 128"
    assert max(map(int, re.findall(r"(\d+) bytes spill stores", said))) <= 16, (
        "16 on sm_80, for three blocks, 0 elsewhere"
    )
