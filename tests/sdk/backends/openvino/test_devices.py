"""What OpenVINO runs on: threads and precision of the processor, the first GPU, and what auto takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino
import pytest

from srflow_sdk.backends import openvino as graphs
from srflow_sdk.backends.openvino import OpenVinoBackend
from srflow_sdk.backends.providers import Provider
from srflow_sdk.model.bundle import Bundle

from .pictures import opened, picture


def test_threads_of_the_processor_and_its_precision_are_set(bundle: Bundle) -> None:
    with OpenVinoBackend(bundle, both=True, threads=1, hint="bf16") as backend:
        encoder, sampler = (getattr(backend, name)._compiled for name in ("_encoder", "_sampler"))
        assert [graph.get_property("INFERENCE_NUM_THREADS") for graph in (encoder, sampler)] == [1, 1]
        assert sampler.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"


class Machine:
    """OpenVINO's Core on a machine with other devices, where every graph runs on the processor."""

    def __init__(self, *devices: str) -> None:
        self.available_devices = list(devices)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.core = openvino.Core()

    def get_property(self, device: str, name: str) -> Any:
        return f"{device} of a test" if name == "FULL_DEVICE_NAME" else self.core.get_property("CPU", name)

    def compile_model(self, path: str, device: str, settings: dict[str, Any]) -> Any:
        self.asked.append((device, settings))
        return self.core.compile_model(path, "CPU", settings)


def on(monkeypatch: pytest.MonkeyPatch, *devices: str) -> Machine:
    machine = Machine(*devices)
    monkeypatch.setattr(graphs, "openvino_core", lambda: machine)
    monkeypatch.setattr(graphs, "_RENDERERS", (Path("/dev"), "null" if len(devices) > 1 else "none"))
    return machine


def test_the_first_gpu_is_taken_in_float32(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = on(monkeypatch, "CPU", "GPU.0", "GPU.1", "NPU")
    with opened(bundle, "openvino") as backend:
        picture(backend, bundle)
    assert {device for device, _ in machine.asked} == {"GPU.0"}
    for _, settings in machine.asked:
        assert settings["INFERENCE_PRECISION_HINT"] == "f32"
        assert not [name for name in settings if "THREADS" in name or "PINNING" in name], "of the CPU"


def test_bfloat16_is_the_processors(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = on(monkeypatch, "CPU", "GPU")
    with OpenVinoBackend(bundle, hint="f32"):
        assert [device for device, _ in machine.asked] == ["GPU", "GPU"]
    machine.asked.clear()
    with OpenVinoBackend(bundle, threads=1, hint="bf16"):
        assert [device for device, _ in machine.asked] == ["CPU"], "ONNX Runtime draws"


def test_auto_takes_openvinos_gpu_and_leaves_the_processor_to_onnx_runtime(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Provider, "offered", lambda self: self.device == "cpu")
    for devices, expected in ((("CPU", "GPU"), "openvino"), (("CPU",), "cpu"), (("CPU", "NPU"), "cpu")):
        on(monkeypatch, *devices)
        with opened(bundle, "auto") as backend:
            assert backend.device == expected


def test_without_a_gpus_device_file_openvino_is_not_even_imported(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "_RENDERERS", (Path("/dev"), "none"))
    monkeypatch.setattr(graphs, "import_openvino", lambda: pytest.fail("imported"))
    graphs._core.cache_clear()
    assert not graphs.gpu_offered()
