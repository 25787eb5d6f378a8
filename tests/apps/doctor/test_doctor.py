"""The doctor's judgement, with the machine's answers made up. The real machine: tests/frame."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from click.testing import CliRunner

from srflow_apps.commands import cli
from srflow_apps.doctor import examination as doctor
from srflow_apps.doctor import probes
from srflow_apps.doctor.examination import Check, basics_work, examine
from srflow_apps.doctor.probes import ask
from srflow_sdk._version import __version__
from srflow_sdk.backends import open_backend
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.device_names import PluginDevice

CPU_RUNTIME = {"version": "1.32.0", "package": "onnxruntime", "cuda": "", "providers": ["CPUExecutionProvider"]}
GPU_RUNTIME = {
    "version": "1.32.0",
    "package": "onnxruntime-gpu",
    "cuda": "13.0",
    "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
}
DRIVER = {"gpus": ["NVIDIA L4"], "cuda": "13.0"}
WORKS = {"size": [128, 128], "seconds": 0.1}
EQUAL = {**WORKS, "decibels": 130.2}
ABSENT = {"installed": False, "version": "", "needs": "hardware", "fix": "pip install it"}
FORMATS = dict.fromkeys(("PNG", "JPEG", "WebP", "TIFF", "GIF", "AVIF"), True)
NO_DRIVER = {"error": "libcuda.so.1: cannot open shared object file: No such file or directory"}


def diagnose(monkeypatch: pytest.MonkeyPatch, **answers: dict[str, Any]) -> dict[str, Check]:
    """Check by name, on a CPU machine where all is well but for the given answers."""
    machine = {
        "onnxruntime": CPU_RUNTIME,
        "upscale_cpu": WORKS,
        "upscale_cuda": {"error": "no CUDA"},
        "cuda_libraries": {},
        "nvidia_driver": NO_DRIVER,
        "libvips": {"version": "8.18.7", "formats": {**FORMATS, "HEIC": False}},
        **{f"plugin_provider_{device}": ABSENT for device in get_args(PluginDevice)},
        "openvino": {"error": "OpenVINO is not installed: pip install it"},
        "native_library": {"path": None},
        "plugin_library": {"path": None},
        "module_tensorrt": {"error": "No module named 'tensorrt'"},
        "module_tensorrt_rtx": {"error": "No module named 'tensorrt_rtx'"},
        **answers,
    }
    monkeypatch.setattr(doctor, "ask", lambda *question: machine["_".join(question)])
    return {check.name: check for check in examine()}


def test_a_cpu_machine_misses_the_gpu_parts_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = diagnose(monkeypatch)
    assert checks["upscale on CPU"].state == "ok"
    providers = (*(f"{device} EP" for device in get_args(PluginDevice)), "OpenVINO")
    for name in ("NVIDIA GPU", "upscale on CUDA", "TensorRT", "TensorRT-RTX", *providers):
        assert checks[name].state == "missing"


def test_a_gpu_with_the_cpu_runtime_is_told_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    check = diagnose(monkeypatch, nvidia_driver=DRIVER)["upscale on CUDA"]
    assert check.state == "missing"
    assert check.fixes[0][1].endswith("--no-deps onnxruntime-gpu")


def test_an_older_driver_is_told_the_wheels_for_cuda_12(monkeypatch: pytest.MonkeyPatch) -> None:
    older = {**DRIVER, "cuda": "12.4"}
    checks = diagnose(monkeypatch, onnxruntime=GPU_RUNTIME, nvidia_driver=older)
    assert "[gpu-cu12] and [tensorrt-cu12] fit it" in checks["NVIDIA GPU"].detail
    assert checks["upscale on CUDA"].state == "problem"
    assert "is for CUDA 13.0, which the driver (up to 12.4) does not run" in checks["upscale on CUDA"].detail
    assert checks["upscale on CUDA"].fixes[0][1].endswith('--no-deps "onnxruntime-gpu<1.27"')
    assert checks["TensorRT"].fixes[0][1] == 'pip install "srflow-sdk[tensorrt-cu12]"'
    assert "[gpu-cu13]" in diagnose(monkeypatch, nvidia_driver=DRIVER)["NVIDIA GPU"].detail


def test_missing_cuda_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = {"error": "libcublasLt.so.13: cannot open shared object file: No such file or directory"}
    check = diagnose(monkeypatch, onnxruntime=GPU_RUNTIME, nvidia_driver=DRIVER, cuda_libraries=libraries)
    assert "libcublasLt.so.13" in check["upscale on CUDA"].detail
    assert "onnxruntime-gpu[cuda,cudnn]" in check["upscale on CUDA"].fixes[0][1]


def test_cuda_is_ok_only_if_it_really_upscales(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = {"onnxruntime": GPU_RUNTIME, "nvidia_driver": DRIVER}
    assert diagnose(monkeypatch, **gpu, upscale_cuda=EQUAL)["upscale on CUDA"].state == "ok"
    assert diagnose(monkeypatch, **gpu)["upscale on CUDA"].state == "problem"


def test_a_tensorrt_that_can_run_is_named_with_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    check = diagnose(monkeypatch, nvidia_driver=DRIVER, module_tensorrt={"version": "10.15.1"})["TensorRT"]
    assert (check.state, check.detail) == ("ok", "tensorrt 10.15.1 on NVIDIA L4")


def test_the_native_library_in_use_is_named_with_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert diagnose(monkeypatch)["native library"].state == "missing"
    found = {"path": "/opt/srflow/lib/libsrflow_ort.so", "what": "kernels for CPU and CUDA"}
    check = diagnose(monkeypatch, native_library=found)["native library"]
    assert (check.state, check.detail) == ("ok", "/opt/srflow/lib/libsrflow_ort.so, kernels for CPU and CUDA")
    assert diagnose(monkeypatch, native_library={"error": "invalid ELF"})["native library"].state == "problem"


def test_the_library_of_plugins_is_named_or_the_commands_that_build_it(monkeypatch: pytest.MonkeyPatch) -> None:
    build = ("in a clone", "pip install '.[native]' && python -m srflow_export.native tensorrt")
    check = diagnose(monkeypatch)["TensorRT plugins"]
    assert (check.state, check.fixes) == ("missing", (build,))
    found = {"path": "/opt/srflow/lib/libsrflow_trt.so", "what": "for TensorRT 10"}
    check = diagnose(monkeypatch, plugin_library=found)["TensorRT plugins"]
    assert (check.state, check.detail) == ("ok", "/opt/srflow/lib/libsrflow_trt.so, for TensorRT 10")
    broken = "libsrflow_trt.so is from srflow-sdk 0.0.9, but this is 0.1.0"
    check = diagnose(monkeypatch, plugin_library={"error": broken})["TensorRT plugins"]
    assert (check.state, check.fixes) == ("problem", (build,))


def test_the_probe_reads_the_plugins_major_version_and_refuses_another_release(tmp_path, monkeypatch) -> None:
    compiler = shutil.which("cc") or pytest.skip("no C compiler")
    monkeypatch.delenv("SRFLOW_TENSORRT_PLUGINS", raising=False)
    assert ask("plugin_library")["path"] is None
    library = tmp_path / "libsrflow_trt.so"
    monkeypatch.setenv("SRFLOW_TENSORRT_PLUGINS", str(library))
    for version in ("0.0.9", __version__):
        functions = {"const char *srflow_version": f'"{version}"', "int srflow_tensorrt_major": "10"}
        source = "\n".join(f"{name}(void) {{ return {value}; }}" for name, value in functions.items())
        command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", library]
        subprocess.run(command, input=source, text=True, check=True)
        answer = ask("plugin_library")
        if version != __version__:
            assert "is from srflow-sdk 0.0.9" in answer["error"]
    assert answer == {"path": str(library), "what": "for TensorRT 10"}


def test_an_absent_runtime_is_told_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "runtimes", list)
    check = diagnose(monkeypatch, onnxruntime={"error": "No module named 'onnxruntime'"})["ONNX Runtime"]
    assert check.state == "problem"
    assert check.fixes[0] == ("for the CPU", "pip install onnxruntime")


@pytest.mark.parametrize("part", ["upscale_cpu", "libvips"])
def test_basics_do_not_work_if_one_of_them_fails(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    checks = diagnose(monkeypatch, **{part: {"error": "broken"}})
    assert not basics_work(checks.values())
    assert [check.detail for check in checks.values() if check.detail == "broken"]


def test_formats_that_cannot_be_read_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check = diagnose(monkeypatch)["image files"]
    assert (check.state, "not HEIC" in check.detail) == ("ok", True)


def test_a_report_is_aligned_and_never_breaks_a_command() -> None:
    command = "pip install " + "x" * 150
    lines = Check(name="part", state="missing", detail="word " * 40, fixes=(("why", command),)).lines().splitlines()
    assert lines[0].startswith("missing  part             word")
    assert all(line.startswith(" " * 26 + "word") for line in lines[1:-1])
    assert lines[-1] == " " * 26 + f"fix (why): {command}"


def test_a_report_is_as_wide_as_the_terminal_but_not_narrower_than_a_sentence_needs() -> None:
    check = Check(name="part", state="ok", detail="word " * 40)
    assert max(map(len, check.lines(width=80).splitlines())) in range(75, 81)
    assert max(map(len, check.lines(width=20).splitlines())) in range(55, 61)


def test_programs_get_the_same_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = diagnose(monkeypatch)
    result = CliRunner().invoke(cli.doctor, ["--json"])
    data = json.loads(result.stdout)
    assert [check["name"] for check in data["checks"]] == list(expected)
    assert data["works"] is (result.exit_code == 0) is True
    assert data["checks"][0] == {"basic": True, **data["checks"][0], "state": "ok", "fixes": []}


def test_every_extra_has_its_line_or_a_check_elsewhere_or_is_for_a_clone() -> None:
    tensorrt = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13")
    checked_elsewhere = ("gpu", "gpu-cu12", "gpu-cu13", "heic", "openvino", "rtx", *tensorrt, "webgpu")
    placed = [*doctor.PURPOSES, *checked_elsewhere, "bench", "dev", "docs", "native"]
    assert sorted(placed) == sorted(metadata.metadata("srflow-sdk").get_all("Provides-Extra") or ())


def install(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
    """Let these distributions be all that there are."""

    def found(*, name: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(version=versions[name])] if name in versions else []

    monkeypatch.setattr("importlib.metadata.distributions", found)


def test_extras_are_read_from_the_distributions_own_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    requires = [
        "numpy>=1.26",
        "torch>=2.6; extra == 'export'",
        'onnx>=1.17; extra == "export"',
        "piq; extra == 'train'",
    ]
    monkeypatch.setattr("importlib.metadata.requires", lambda _name: requires)
    install(monkeypatch, {"torch": "2.13", "onnx": "1.23"})
    assert doctor.check_extra("export") == Check(name="srflow-export", state="ok", detail="torch 2.13, onnx 1.23")


@pytest.mark.parametrize(
    ("installed", "state", "detail", "fix"),
    [
        ({"starlette": "1.10"}, "ok", "starlette 1.10; not made for this Python or machine: flip", False),
        ({"starlette": "1.10", "flip": "9"}, "ok", "starlette 1.10; not made for this Python or machine: flip", False),
        ({"starlette": "1.10+cpu"}, "ok", "starlette 1.10+cpu; not made for this Python or machine: flip", False),
        ({"starlette": "2.1"}, "problem", "a local page: starlette 2.1 is installed, <2,>=0.40 is needed", True),
        ({}, "missing", "a local page; not installed: starlette", True),
    ],
)
def test_versions_and_markers_of_an_extras_packages_are_evaluated(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], state: str, detail: str, fix: bool
) -> None:
    requires = ["starlette<2,>=0.40; extra == 'demo'", 'flip>=2; python_version < "3" and extra == "demo"', "numpy>=1"]
    monkeypatch.setattr("importlib.metadata.requires", lambda _name: requires)

    install(monkeypatch, installed)
    fixes = (("", 'pip install "srflow-sdk[demo]"'),) if fix else ()
    assert doctor.check_extra("demo") == Check(name="srflow-demo", state=state, detail=detail, fixes=fixes)


def test_an_extra_that_this_machine_cannot_have_is_not_told_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.requires", lambda _name: ['ray; python_version < "3" and extra == "ray"'])
    assert doctor.check_extra("ray") == Check(
        name="Ray", state="missing", detail="--ray; not made for this Python or machine: ray"
    )


def test_a_probe_brings_its_answer_or_one_line_of_error() -> None:
    assert probes.ask("module", "json")["version"]
    assert probes.ask("module", "no_such_module") == {"error": "No module named 'no_such_module'"}
    assert set(probes.ask("onnxruntime")) == {"version", "package", "cuda", "providers"}
    assert probes.ask("libvips")["formats"]["PNG"]
    assert probes.ask("plugin_provider", "webgpu")["needs"]


def test_the_probe_of_a_device_compares_its_picture_with_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    import srflow_sdk.upscaler

    real = srflow_sdk.upscaler.Upscaler
    monkeypatch.setattr(srflow_sdk.upscaler, "Upscaler", lambda device: real(device="cpu", threads=1))
    assert "decibels" not in probes.upscale("cpu")
    assert probes.upscale("cuda")["decibels"] is None

    class Brighter(real):
        def upscale(self, image: Any, **options: Any) -> Any:
            return super().upscale(image, **options) + 0.01

    monkeypatch.setattr(
        srflow_sdk.upscaler, "Upscaler", lambda device: (real if device == "cpu" else Brighter)(device="cpu", threads=1)
    )
    assert probes.upscale("cuda")["decibels"] == pytest.approx(40, abs=0.1)


def test_the_fastest_precision_is_what_was_measured_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bundle: Path
) -> None:
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path))
    embedded = Bundle.embedded
    monkeypatch.setattr(
        Bundle, "embedded", lambda name: Bundle.open(tiny_bundle) if name == "x4-small" else embedded(name)
    )
    check = diagnose(monkeypatch)["precision"]
    each = "; ".join(f"{name}: not measured yet" for name in Bundle.embedded_names())
    assert (check.state, check.detail) == ("ok", f"fastest for {each}; --precision fastest measures it, once")
    backend = open_backend(Bundle.embedded("x4-small"), precision="fastest")
    check = diagnose(monkeypatch)["precision"]
    assert check.state == "ok"
    taken = {"bundle": "float32", "bf16": "bf16"}[backend.precision]  # which of them is faster depends on the processor
    assert check.detail.startswith(f"fastest for x4-small: {taken} on {backend.device} (float32 on cpu 0.")
    assert "; x4-photo: not measured yet; " in check.detail
    backend.deactivate()
