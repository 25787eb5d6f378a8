"""Which engines a machine can run, and what it is told where it can run none."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from srflow_sdk.backends.tensorrt import TensorRTBackend, select_engines, tensorrt_offered
from srflow_sdk.errors import BundleError, DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import REQUIRED_FILES
from srflow_sdk.system.hardware import Gpu

from .engine_machine import EngineMachine
from .fake_tensorrt import write_engine_bundle

H100 = Gpu(name="NVIDIA H100", compute_capability="9.0", cuda="13.0")


def refused(machine: EngineMachine, bundle: Bundle) -> str:
    with pytest.raises(DeviceError) as caught:
        TensorRTBackend(bundle).activate()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_engines_that_fit_are_chosen(machine: EngineMachine, engine_bundle: Bundle) -> None:
    record, library, gpu = select_engines(engine_bundle)
    assert record == engine_bundle.manifest.engines[0]
    assert library is machine.library
    assert gpu.name == "NVIDIA GeForce RTX 4090"
    assert tensorrt_offered(engine_bundle)


def test_a_bundle_without_engines_is_refused_with_what_runs_it_and_what_builds_them(
    machine: EngineMachine, tiny_bundle: Path
) -> None:
    bundle = Bundle.open(tiny_bundle)
    assert not tensorrt_offered(bundle)
    text = refused(machine, bundle)
    assert 'has no TensorRT engines; use device="cuda" or device="cpu", which run its ONNX graphs' in text
    assert text.endswith(f"srflow-export --engines-for {bundle.path} --trt fp32")


def test_a_machine_without_a_gpu_is_told_so(machine: EngineMachine, engine_bundle: Bundle) -> None:
    machine.found = None
    assert not tensorrt_offered(engine_bundle)
    assert "engines need an NVIDIA GPU, but the driver shows no GPU 0 or is not installed" in refused(
        machine, engine_bundle
    )


@pytest.mark.parametrize(
    ("runtime", "fix"),
    [
        ("tensorrt", 'TensorRT 11.1.0.106, which is not installed: pip install "tensorrt-cu13==11.1.0.106"'),
        ("tensorrt_rtx", 'TensorRT-RTX 1.7.1.116, which is not installed: pip install "tensorrt-rtx-cu13==1.7.1.116"'),
    ],
)
def test_a_library_that_is_not_installed_is_named_with_its_version(
    machine: EngineMachine,
    monkeypatch: pytest.MonkeyPatch,
    tiny_bundle: Path,
    tmp_path: Path,
    runtime: Any,
    fix: str,
) -> None:
    bundle = write_engine_bundle(tiny_bundle, tmp_path / "b.srflow", runtime=runtime)
    monkeypatch.delitem(sys.modules, runtime)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    assert not tensorrt_offered(bundle)
    assert fix in refused(machine, bundle)


def test_a_library_that_cannot_be_loaded_is_to_be_installed_again(
    machine: EngineMachine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine_bundle: Bundle
) -> None:
    """As the wheel of TensorRT's Python module is without the wheel of its libraries."""
    (tmp_path / "tensorrt.py").write_text("raise FileNotFoundError('Could not find: libnvinfer.so.11')")
    monkeypatch.delitem(sys.modules, "tensorrt")
    monkeypatch.syspath_prepend(tmp_path)
    text = refused(machine, engine_bundle)
    assert "which cannot be imported (Could not find: libnvinfer.so.11): pip install" in text


def test_another_version_is_refused_with_both_fixes(machine: EngineMachine, engine_bundle: Bundle) -> None:
    machine.install(__version__="11.2.0.1")
    text = refused(machine, engine_bundle)
    assert "built by TensorRT 11.1.0.106, but 11.2.0.1 is installed" in text
    assert text.endswith(
        'pip install "tensorrt-cu13==11.1.0.106", or build them for this one: '
        f"srflow-export --engines-for {engine_bundle.path} --trt fp32 --shapes 20x20,40x40,64x64"
    )


def test_engines_of_tensorrt_rtx_are_built_again_for_this_gpu(
    machine: EngineMachine, tiny_bundle: Path, tmp_path: Path
) -> None:
    machine.install("tensorrt_rtx", __version__="1.8")
    path = tmp_path / "my models" / "b.srflow"
    bundle = write_engine_bundle(tiny_bundle, path, runtime="tensorrt_rtx", compute_capabilities=("8.9", "12.0"))
    again = f"srflow-export --engines-for '{bundle.path}' --rtx fp32 --sm 89 --shapes 20x20,40x40,64x64"
    assert refused(machine, bundle).endswith(again)
    machine.install("tensorrt_rtx")
    machine.found = Gpu(name="NVIDIA GeForce RTX 3080", compute_capability="8.6", cuda="13.0")
    assert "has 8.6" in refused(machine, bundle)
    assert refused(machine, bundle).endswith(again.replace("89", "86"))


def test_a_bundle_whose_typed_graphs_give_no_engines_is_built_from_its_float32_ones(
    machine: EngineMachine, tiny_bundle: Path
) -> None:
    bundle = Bundle.open(tiny_bundle)
    bundle = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, precision="bf16"))
    assert refused(machine, bundle).endswith("--trt fp32")


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt_rtx"])
def test_another_gpu_is_refused_with_the_command_that_builds_for_it(
    machine: EngineMachine, tiny_bundle: Path, tmp_path: Path, runtime: Any
) -> None:
    """TensorRT-RTX builds for no H100."""
    machine.install(runtime)
    bundle = write_engine_bundle(
        tiny_bundle,
        tmp_path / "b.srflow",
        half=True,
        runtime=runtime,
        gpu="NVIDIA L4",
        compute_capabilities=("8.9", "12.0"),
    )
    machine.found = H100
    assert not tensorrt_offered(bundle)
    text = refused(machine, bundle)
    assert "compute capability 8.9 or 12.0 (NVIDIA L4), but this GPU, NVIDIA H100, has 9.0; build them for it" in text
    assert text.endswith(f"--engines-for {bundle.path} --trt fp16 --shapes 20x20,40x40,64x64")


def test_engines_of_another_graph_are_refused(machine: EngineMachine, tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = write_engine_bundle(tiny_bundle, tmp_path / "b.srflow", graphs=dict.fromkeys(REQUIRED_FILES, "0" * 64))
    assert "engines/encoder.plan: built from a different encoder.onnx than the bundle's; build them again" in refused(
        machine, bundle
    )


def test_a_tampered_engine_is_refused_as_the_bundle_is_opened(
    machine: EngineMachine, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = write_engine_bundle(tiny_bundle, tmp_path / "b.srflow")
    path = bundle.file("engines/sampler.plan")
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(BundleError, match=r"engines/sampler\.plan differs from what was exported"):
        Bundle.open(bundle.path)


def test_the_first_engines_that_fit_are_taken_and_else_each_says_why_not(
    machine: EngineMachine, engine_bundle: Bundle
) -> None:
    (record,) = engine_bundle.manifest.engines
    old = dataclasses.replace(record, version="10.15.1.29", encoder="engines/old.plan")
    foreign = dataclasses.replace(record, compute_capabilities=("12.0",), encoder="engines/foreign.plan")
    last = dataclasses.replace(record, precision="fp16")

    def holding(*records: Any) -> Bundle:
        return dataclasses.replace(
            engine_bundle, manifest=dataclasses.replace(engine_bundle.manifest, engines=tuple(records))
        )

    assert select_engines(holding(old, foreign, record, last))[0] is record
    text = refused(machine, holding(old, foreign))
    assert "engines/old.plan: built by TensorRT 10.15.1.29" in text
    assert "; engines/foreign.plan: built for compute capability 12.0" in text


def test_cuda_bindings_that_are_missing_are_named(
    machine: EngineMachine, monkeypatch: pytest.MonkeyPatch, engine_bundle: Bundle
) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    assert refused(machine, engine_bundle).endswith('pip install "cuda-bindings==13.*"')
