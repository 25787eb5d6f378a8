"""The doctor's judgement, with the machine's answers made up. The real machine: tests/frame."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import metadata
from importlib.metadata import Distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from srflow_apps.commands import cli
from srflow_apps.doctor import examination as doctor
from srflow_apps.doctor.examination import MISSING, OK, PROBLEM, Check, basics_work, examine

CPU_RUNTIME = {
    "version": "1.32.0",
    "package": "onnxruntime",
    "cuda": "",
    "providers": ["CPUExecutionProvider"],
}
GPU_RUNTIME = {
    "version": "1.32.0",
    "package": "onnxruntime-gpu",
    "cuda": "13.0",
    "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
}
DRIVER = {"gpus": ["NVIDIA L4"], "cuda": "13.0"}
WORKS = "works: 32×32 to 128×128 in 0.25 s"
NO_DRIVER = RuntimeError("libcuda.so.1: cannot open shared object file: No such file or directory")
ANSWERS: dict[str, Any] = {  # of a CPU machine where all is well
    "describe_runtime": CPU_RUNTIME,
    "find_gpus": NO_DRIVER,
    "upscale": WORKS,
    "check_plugin": (MISSING, "not installed; it needs hardware", "pip install it"),
    "import_version": RuntimeError("No module named 'tensorrt'"),
    "import_version tensorrt_rtx": RuntimeError("No module named 'tensorrt_rtx'"),
    "load_cuda_libraries": None,
    "start_cuda": None,
}
Diagnose = Callable[..., dict[str, Check]]


@pytest.fixture
def diagnose(monkeypatch: pytest.MonkeyPatch) -> Diagnose:
    """Check by name, on a CPU machine where all is well but for the given answers; those that are
    errors are raised."""

    def diagnosed(**other: Any) -> dict[str, Check]:
        answers = {**ANSWERS, **{name.replace("__", " "): answer for name, answer in other.items()}}

        def asked(question: str) -> Callable[..., Any]:
            def answer(*arguments: str) -> Any:
                found = answers.get(" ".join([question, *arguments]), answers[question])
                if isinstance(found, Exception):
                    raise found
                return found

            return answer

        for question in {name.partition(" ")[0] for name in answers}:
            monkeypatch.setattr(doctor, question, asked(question))
        for name in ("image files", "native library", "OpenVINO"):
            monkeypatch.setitem(doctor.PARTS, name, lambda: (OK, "as ever"))
        return {check.name: check for check in examine()}

    return diagnosed


def test_a_cpu_machine_misses_the_gpu_parts_and_nothing_else(diagnose: Diagnose) -> None:
    checks = diagnose()
    assert checks["upscale on CPU"].detail == WORKS
    devices = ("NVIDIA GPU", "upscale on CUDA", "TensorRT", "TensorRT-RTX", "rtx EP", "webgpu EP")
    assert {name for name, check in checks.items() if check.state == MISSING} >= {*devices}
    assert not [check for check in checks.values() if check.state == PROBLEM]
    assert basics_work(checks.values())


@pytest.mark.parametrize("basic", ["describe_runtime", "upscale__cpu"])
def test_what_fails_is_a_problem_in_one_line_and_the_basics_do_not_work(
    diagnose: Diagnose, basic: str
) -> None:
    checks = diagnose(
        **{basic: RuntimeError("broken\nin two"), "upscale__cpu": RuntimeError("broken\nin two")}
    )
    (check, *_) = [check for check in checks.values() if check.state == PROBLEM]
    assert check.detail.endswith("broken in two")
    assert not basics_work(checks.values())


GPU = {"describe_runtime": GPU_RUNTIME, "find_gpus": DRIVER}
LOST = RuntimeError("libcublasLt.so.13: cannot open shared object file")


@pytest.mark.parametrize(
    ("answers", "name", "state", "says", "fix"),
    [
        ({"find_gpus": DRIVER}, "NVIDIA GPU", OK, "[gpu-cu13] and [tensorrt-cu13] fit it", None),
        (
            {"find_gpus": DRIVER},
            "upscale on CUDA",
            MISSING,
            "built without CUDA",
            "--no-deps onnxruntime-gpu",
        ),
        (GPU, "upscale on CUDA", OK, WORKS, None),
        ({"describe_runtime": GPU_RUNTIME}, "upscale on CUDA", MISSING, "no NVIDIA GPU", None),
        (
            {**GPU, "start_cuda": LOST},
            "upscale on CUDA",
            PROBLEM,
            f"{WORKS}, but latents are drawn by the",
            None,
        ),
        (
            {**GPU, "load_cuda_libraries": LOST},
            "upscale on CUDA",
            MISSING,
            "libcublasLt.so.13",
            "-gpu[cuda,cudnn]",
        ),
        (
            {**GPU, "find_gpus": {**DRIVER, "cuda": "12.4"}},
            "upscale on CUDA",
            PROBLEM,
            "is for CUDA 13.0, which the driver (up to 12.4) does not run",
            '--no-deps "onnxruntime-gpu<1.27"',
        ),
        ({}, "TensorRT", MISSING, "no NVIDIA GPU", None),  # and so no command: it takes gigabytes
        (
            {"check_plugin": RuntimeError("it died"), "find_gpus": DRIVER},
            "rtx EP",
            PROBLEM,
            "it died",
            None,
        ),
    ],
)
def test_a_part_says_what_it_can_do_or_why_not_and_the_command(
    diagnose: Diagnose, answers: dict[str, Any], name: str, state: str, says: str, fix: str | None
) -> None:
    check = diagnose(**answers)[name]
    assert (check.state, says in check.detail) == (state, True), check
    assert [command.endswith(fix) or fix in command for _, command in check.fixes] == (
        [] if fix is None else [True]
    )


def test_openvino_upscales_or_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = doctor.check_openvino.__wrapped__  # type: ignore[attr-defined]
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert openvino()[0::2] == (MISSING, 'pip install "srflow-sdk[openvino]"')
    monkeypatch.undo()
    pytest.importorskip("openvino", reason='pip install "srflow-sdk[openvino]"')
    monkeypatch.setattr(doctor, "upscale", lambda _device: WORKS)
    state, detail = openvino()
    assert (state, detail.endswith(f": {WORKS}")) == (OK, True)
    monkeypatch.setattr(doctor, "PARTS", {"OpenVINO": broken})
    (check,) = examine()
    assert (check.state, check.fixes) == (
        PROBLEM,
        (("", "pip install -U --force-reinstall openvino"),),
    )


def test_programs_get_the_same_as_json(diagnose: Diagnose) -> None:
    expected = diagnose()
    result = CliRunner().invoke(cli.doctor, ["--json"])
    data = json.loads(result.stdout)
    assert [check["name"] for check in data["checks"]] == list(expected)
    assert data["works"] is (result.exit_code == 0) is True
    assert data["checks"][0] == {**data["checks"][0], "state": "ok", "fixes": [], "basic": False}
    webgpu = next(check for check in data["checks"] if check["name"] == "webgpu EP")
    assert webgpu["fixes"] == [{"purpose": "", "command": "pip install it"}]


def test_every_extra_has_its_line_or_a_check_elsewhere_or_is_for_a_clone() -> None:
    tensorrt = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13")
    checked_elsewhere = (
        "gpu",
        "gpu-cu12",
        "gpu-cu13",
        "heic",
        "openvino",
        "rtx",
        *tensorrt,
        "webgpu",
    )
    placed = [*doctor.EXTRAS, *checked_elsewhere, "bench", "dev", "docs", "native"]
    assert sorted(placed) == sorted(metadata.metadata("srflow-sdk").get_all("Provides-Extra") or ())


@pytest.mark.parametrize(
    ("installed", "state", "detail"),
    [
        ({"starlette": "1.10"}, OK, "starlette 1.10"),
        ({"starlette": "1.10+cpu", "flip": "9"}, OK, "starlette 1.10+cpu"),
        (
            {"starlette": "2.1"},
            PROBLEM,
            "a local page: starlette 2.1 is installed, <2,>=0.40 is needed",
        ),
        ({}, MISSING, "a local page; not installed: starlette"),
    ],
)
def test_versions_and_markers_of_an_extras_packages_are_evaluated(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], state: str, detail: str
) -> None:
    requires = ["starlette<2,>=0.40; extra == 'demo'", "numpy>=1"]
    requires += [
        f'{one}; python_version < "3" and extra == "{extra}"'
        for one, extra in (("flip", "demo"), ("ray", "ray"))
    ]
    monkeypatch.setattr("importlib.metadata.requires", lambda _name: requires)

    def found(*, name: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(version=installed[name])] if name in installed else []

    monkeypatch.setattr("importlib.metadata.distributions", found)
    expected = [state, detail, *([] if state == OK else ['pip install "srflow-sdk[demo]"'])]
    assert [*doctor.check_extra("demo")] == expected
    assert doctor.check_extra("ray") == (MISSING, "--ray; not made for this Python or machine")


def test_a_question_brings_its_answer_or_one_line_of_error() -> None:
    assert doctor.import_version("json")
    with pytest.raises(RuntimeError, match=r"^No module named 'no_such_module'$"):
        doctor.import_version("no_such_module")
    asked = (
        doctor.describe_runtime,
        doctor.check_image_files,
        doctor.check_plugin,
        doctor.check_native_library,
        doctor.upscale,
    )
    runtime, image_files, plugin, native_library, upscale = (one.__wrapped__ for one in asked)
    assert upscale("cpu").startswith("works: 32×32 to 128×128 in ")
    assert native_library()[0] in (OK, MISSING)
    assert set(runtime()) == {"version", "package", "cuda", "providers"}
    assert "PNG" in image_files()[1]
    assert plugin("webgpu")[0] in (OK, MISSING)


def test_a_question_that_kills_python_is_answered_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(RuntimeError, match=r"^Python crashed \(exit status -?11\)$"):
        doctor.import_version("deadly")


RUNTIME = ["onnxruntime/__init__.py", "onnxruntime/capi/state.so", "../../bin/onnxruntime_test"]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two builds of ONNX Runtime, and packages whose files only look like theirs."""
    files = {
        "onnxruntime": RUNTIME,
        "onnxruntime_directml": RUNTIME,
        "onnxruntime-extensions": ["onnxruntime_extensions/__init__.py"],
        "onnx": ["onnx/onnxruntime/__init__.py"],
    }
    found = []
    for name, names in files.items():
        info = tmp_path / f"{name.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "RECORD").write_text("".join(f"{file},sha256=abc,1\n" for file in names))
        found.append(Distribution.at(info))
    monkeypatch.setattr("importlib.metadata.distributions", lambda: found)


@pytest.mark.usefixtures("installed")
def test_distributions_that_own_onnxruntime_are_found_and_the_fix_leaves_one() -> None:
    assert doctor.list_runtimes() == ["onnxruntime 1.2", "onnxruntime-directml 1.2"]
    assert doctor.keep_only("onnxruntime-gpu") == (
        "pip uninstall -y onnxruntime onnxruntime-directml onnxruntime-gpu && "
        "pip install --force-reinstall --no-deps onnxruntime-gpu"
    )


def broken() -> dict[str, str]:
    raise RuntimeError("it has no InferenceSession")


@pytest.mark.parametrize(
    ("owners", "says", "fix"),
    [
        ([], "not installed; import onnxruntime fails: it has no", "pip install onnxruntime"),
        (["onnxruntime 1.2"], "onnxruntime 1.2 is installed and broken", "--no-deps onnxruntime"),
        (
            ["onnxruntime 1.2", "onnxruntime-gpu 1.3"],
            "overwrite each other's files; import",
            "--no-deps onnxruntime",
        ),
    ],
)
def test_a_runtime_that_does_not_import_is_told_what_is_wrong_and_the_command(
    monkeypatch: pytest.MonkeyPatch, owners: list[str], says: str, fix: str
) -> None:
    monkeypatch.setattr(doctor, "describe_runtime", broken)
    monkeypatch.setattr(doctor, "find_gpus", broken)
    monkeypatch.setattr(doctor, "list_runtimes", lambda: owners)
    state, detail, first, second = doctor.PARTS["ONNX Runtime"]()
    assert (state, says in detail, first[0]) == (PROBLEM, True, "for the CPU")
    assert first[1].endswith(fix)
    assert second[1].endswith(f"{fix}-gpu")
