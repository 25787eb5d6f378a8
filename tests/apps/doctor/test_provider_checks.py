"""The doctor's lines about ONNX Runtime's providers, with the machine's answers made up."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from srflow_apps.doctor import examination
from srflow_apps.doctor.examination import Check, check_openvino, check_plugin, judged
from srflow_sdk.system.device_names import PluginDevice

CPU_RUNTIME = {"package": "onnxruntime", "providers": ["CPUExecutionProvider"]}
BROKEN: dict[str, Any] = {"error": "no module"}
DRIVER = {"gpus": ["NVIDIA L4"], "cuda": "13.0"}
NO_DRIVER = {"error": "no driver"}
UPSCALED = {"size": [128, 128], "seconds": 0.25, "decibels": 131.0}
FOUND = {"installed": True, "version": "1.8.1", "needs": "hardware", "fix": "pip install it", "devices": ["GPU, Arc"]}


def answered(answers: dict[str, dict[str, Any]]) -> Any:
    """Probes give these answers, by their names."""
    return mock.patch.object(examination, "ask", lambda question, *_device: answers[question])


def plugin(
    device: PluginDevice = "webgpu",
    *,
    runtime: dict[str, Any] = CPU_RUNTIME,
    driver: dict[str, Any] = NO_DRIVER,
    **answers: dict[str, Any],
) -> Check:
    with answered(answers):
        return check_plugin(device, runtime, driver)


def test_a_plugin_that_computes_the_cpus_picture_is_ok() -> None:
    check = plugin(plugin_provider=FOUND, upscale=UPSCALED)
    assert (check.name, check.state) == ("webgpu EP", "ok")
    assert check.detail == "1.8.1 on GPU, Arc: works: 32×32 to 128×128 in 0.25 s, 131 dB against the CPU"


def test_a_plugin_that_is_absent_has_a_command_and_says_what_it_needs() -> None:
    check = plugin(plugin_provider={"installed": False, "needs": "a GPU", "fix": "pip install it"})
    assert (check.state, check.detail, check.fixes) == (
        "missing",
        "not installed; it needs a GPU",
        (("", "pip install it"),),
    )


def test_a_plugin_without_a_device_is_missing_and_one_that_fails_is_a_problem() -> None:
    check = plugin(plugin_provider={**FOUND, "devices": []})
    assert (check.state, "it needs hardware" in check.detail) == ("missing", True)
    assert plugin(plugin_provider={"error": "it died"}) == Check(name="webgpu EP", state="problem", detail="it died")
    check = plugin(plugin_provider=FOUND, upscale={"error": "it does not start"})
    assert (check.state, check.detail) == ("problem", "1.8.1 on GPU, Arc: it does not start")


def test_the_rtx_plugin_without_an_nvidia_gpu_is_no_problem() -> None:
    assert plugin("rtx", plugin_provider={"error": "libcuda.so.1"}).state == "missing"
    assert plugin("rtx", plugin_provider={"error": "libcuda.so.1"}, driver=DRIVER).state == "problem"


@pytest.mark.parametrize(
    ("decibels", "state", "says"),
    [
        (None, "ok", "equal"),
        (91.0, "ok", "91 dB"),
        (60.0, "ok", "NVIDIA_TF32_OVERRIDE=1"),
        (9.0, "problem", "a wrong picture"),
    ],
)
def test_a_device_is_judged_by_its_picture(decibels: float | None, state: str, says: str) -> None:
    check = judged("device", {**UPSCALED, "decibels": decibels})
    assert check.state == state
    assert says in check.detail
    assert ("TF32" in check.detail) == (decibels == 60)


def test_without_onnx_runtime_nothing_is_asked() -> None:
    check = plugin(runtime=BROKEN)
    assert (check.state, check.detail) == ("missing", "ONNX Runtime does not work, see above")


OPENVINO = {"version": "2026.4.1", "device": "CPU, AMD EPYC", "arithmetic": ["BF16", "FP32"]}


def openvino(**answers: dict[str, Any]) -> Check:
    with answered(answers):
        return check_openvino()


def test_openvino_says_its_device_what_the_processor_has_and_how_good_the_picture_is() -> None:
    check = openvino(openvino=OPENVINO, upscale=UPSCALED)
    assert (check.name, check.state) == ("OpenVINO", "ok")
    assert check.detail == (
        "2026.4.1 on CPU, AMD EPYC, which computes in BF16, FP32: works: 32×32 to 128×128 in 0.25 s, 131 dB against "
        "the CPU"
    )


def test_openvino_that_is_absent_broken_or_wrong_has_a_command() -> None:
    check = openvino(openvino={"error": "OpenVINO is not installed: pip install it"})
    assert (check.state, check.fixes) == ("missing", (("", 'pip install "srflow-sdk[openvino]"'),))
    for answers in (
        {"openvino": {"error": "it does not start"}},
        {"openvino": OPENVINO, "upscale": {"error": "it computes a different picture"}},
        {"openvino": OPENVINO, "upscale": {**UPSCALED, "decibels": 9.0}},
    ):
        check = openvino(**answers)
        assert (check.state, check.fixes) == ("problem", (("", "pip install -U --force-reinstall openvino"),))
