"""Chains of ONNX Runtime's providers, the choice among devices, and the refusal of those that err."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import click
import numpy as np
import onnxruntime
import pytest

from srflow_apps.commands.cli import upscale
from srflow_sdk import backends
from srflow_sdk.backends import OnnxRuntimeBackend, open_backend
from srflow_sdk.backends import _agreement as agreement
from srflow_sdk.backends import _ort_providers as ort_providers
from srflow_sdk.backends import _tensorrt as tensorrt
from srflow_sdk.backends._ort_providers import TensorRTProvider, tensorrt_library_version, unoptimised
from srflow_sdk.backends._plugin_providers import PluginProvider
from srflow_sdk.errors import ArgumentError, DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import EngineRecord, LrProfile, input_shapes, shapes_text
from srflow_sdk.system.device_names import DeviceName, PluginDevice, split_device
from srflow_sdk.system.hardware import Gpu
from tests.sdk.tiny_bundle import write_tiny_bundle

TENSORRT, CUDA, CPU = (f"{name}ExecutionProvider" for name in ("Tensorrt", "CUDA", "CPU"))


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tensorrt_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX Runtime that offers TensorRT, with the library there."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(ort_providers, "preload_cuda", lambda: None)
    monkeypatch.setattr(ort_providers, "tensorrt_library_version", lambda: "10.15.1")


@pytest.mark.usefixtures("tensorrt_build")
def test_tensorrt_comes_before_cuda_before_the_cpu_with_caches_and_profiles(bundle: Bundle, cache: Path) -> None:
    provider = TensorRTProvider(bundle)
    provider.prepare()
    assert provider.limits is not None
    (name, options), (cuda, _), cpu = provider.configure(None, "encoder.onnx")
    assert (name, cuda, cpu) == (TENSORRT, CUDA, CPU)
    folder = Path(options["trt_engine_cache_path"])
    assert folder == Path(options["trt_timing_cache_path"])
    assert folder.parent == cache / "onnxruntime-tensorrt"
    assert folder.is_dir()
    for part in (bundle.model_sha256[:16], onnxruntime.__version__, "10.15.1"):
        assert part in folder.name
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "1"
    assert "trt_fp16_enable" not in options
    most = provider.limits.max[0]
    assert (options["trt_profile_min_shapes"], options["trt_profile_max_shapes"]) == (
        "lr:1x3x2x2",
        f"lr:1x3x{most}x{most}",
    )
    (_, options), *_ = provider.configure(None, "sampler.onnx")
    shapes = dict(part.split(":") for part in options["trt_profile_min_shapes"].split(","))
    levels = {"noise_level1": "1x6x4x4", "noise_level2": "1x12x2x2", "noise_level3": "1x48x1x1"}
    assert {name: shapes.pop(name) for name in levels} == levels
    assert sorted(shapes.values()) == ["1", "1x3x2x2", "1x5x2x2"], "tau, and what the encoder gives"


def test_input_shapes_are_those_that_the_embedded_model_really_has() -> None:
    embedded = Bundle.embedded()
    scale = embedded.manifest.scale
    with OnnxRuntimeBackend(embedded, threads=1) as backend:
        conditioning = backend.encode(np.zeros((1, 3, 24, 16), np.float32))
    found = {name: list(value.shape()) for name, value in conditioning.values.items()}
    inputs = [(value.name, value.shape) for value in unoptimised(embedded.file("sampler.onnx")).get_inputs()]
    profile = LrProfile(min=(24, 16), opt=(24, 16), max=(24, 16))
    found_shapes = input_shapes(inputs, profile, scale=scale, graph="sampler.onnx")
    shapes = dict(part.split(":") for part in shapes_text(found_shapes, "opt").split(","))
    for name, shape in found.items():
        assert shapes.pop(name) == "x".join(map(str, shape))
    levels = {f"noise_level{entry.level}": entry for entry in embedded.manifest.latent_levels}
    assert set(shapes) == {*levels, "tau"}
    for name, entry in levels.items():
        assert shapes[name] == f"1x{entry.channels}x{24 * scale >> entry.level}x{16 * scale >> entry.level}"


@pytest.mark.usefixtures("tensorrt_build")
def test_without_a_cache_folder_tensorrt_only_loses_the_cache(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "file"))
    provider = TensorRTProvider(bundle)
    provider.prepare()
    options = provider.configure(None, "encoder.onnx")[0][1]
    assert not [name for name in options if "cache" in name]


@pytest.mark.usefixtures("tensorrt_build")
def test_typed_graphs_are_not_given_to_a_provider_that_would_not_keep_their_types(tmp_path: Path) -> None:
    half = Bundle.open(write_tiny_bundle(tmp_path / "half.srflow", precision="fp16"))
    with pytest.raises(DeviceError, match=r"strongly typed.*srflow-export .*--trt fp16"):
        open_backend(half, device="tensorrt")


def test_tensorrt_without_engines_and_without_the_provider_says_both(bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match=r'no TensorRT engines.*no TensorRT support.*device="cuda"'):
        open_backend(bundle, device="tensorrt")


@pytest.mark.parametrize(("number", "version"), [(101501, "10.15.1"), (110000, "11.0.0"), (8601, "8.6.1")])
def test_the_tensorrt_library_says_its_version(monkeypatch: pytest.MonkeyPatch, number: int, version: str) -> None:
    class Library:
        def getInferLibVersion(self) -> int:  # noqa: N802
            return number

    monkeypatch.setattr("ctypes.CDLL", lambda _name: Library())
    assert tensorrt_library_version() == version


def test_a_tensorrt_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", absent)
    with pytest.raises(DeviceError, match=r'TensorRT 10.*cannot open.*pip install "tensorrt==10'):
        tensorrt_library_version()


def test_a_provider_that_takes_no_node_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime lists a provider that runs nothing among a session's."""
    real = onnxruntime.InferenceSession

    def idle(path: str, options: Any, providers: list[Any], **rest: Any) -> Any:
        session = real(path, options, providers=[CPU], **rest)
        session._providers = [CUDA, CPU]
        return session

    monkeypatch.setattr(ort_providers, "cuda_offered", lambda: True)
    monkeypatch.setattr(onnxruntime, "InferenceSession", idle)
    with pytest.raises(DeviceError, match=r"CUDA runs no part of encoder\.onnx .*CPUExecutionProvider"):
        open_backend(bundle, device="cuda")


class Wrong(OnnxRuntimeBackend):
    """The CPU's picture and an error of one part in `parts`."""

    parts = 10.0

    @property
    def device(self) -> str:
        return "wrong"

    def sample_impl(self, conditioning: Any, noise: Mapping[int, Any], tau: float) -> Any:
        sr = super().sample_impl(conditioning, noise, tau)
        return sr * np.float32(1 + 1 / self.parts)


def test_the_agreement_of_two_backends_is_a_psnr(bundle: Bundle) -> None:
    with Wrong(bundle, threads=1) as wrong, OnnxRuntimeBackend(bundle, threads=1) as cpu:
        coarse = agreement.agreement(wrong, cpu, bundle.manifest)
        wrong.parts = 1000
        fine = agreement.agreement(wrong, cpu, bundle.manifest)
        assert fine - coarse == pytest.approx(40, abs=3)
        assert agreement.agreement(cpu, cpu, bundle.manifest) == float("inf")


def test_values_that_are_not_finite_disagree_unless_the_network_makes_them(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wrong, "parts", float("nan"))
    huge = Bundle.open(write_tiny_bundle(tmp_path / "huge.srflow", gain=float("inf")))
    with Wrong(bundle, threads=1) as wrong, OnnxRuntimeBackend(bundle, threads=1) as cpu:
        assert agreement.agreement(wrong, cpu, bundle.manifest) == float("-inf")
    with Wrong(huge, threads=1) as wrong, OnnxRuntimeBackend(huge, threads=1) as cpu:
        assert agreement.agreement(wrong, cpu, huge.manifest) == float("inf")


@pytest.mark.parametrize(
    ("parity", "message"),
    [
        ([], "where rounding leaves at least 38"),
        ([{"tau": 0.0, "own_db": 25.0}], None),
        ([{"tau": 0.0, "own_db": 25.0}, {"tau": 0.8, "own_db": 44.0}], None),
        ([{"tau": 0.0, "own_db": 44.0}], "at least 34"),
        ([{"tau": 1.0, "own_db": 25.0}], "at least 38"),  # above the default
        ([{"tau": 0.0, "own_db": None}, {"tau": 0.0, "own_db": -200.0}, {"own_db": 25.0}], "at least 38"),
    ],
)
def test_a_network_that_multiplies_rounding_is_held_to_what_its_export_recorded(
    bundle: Bundle, parity: list[dict[str, Any]], message: str | None
) -> None:
    """The tiny bundle's picture and an error of one part in ten are 20 to 30 dB apart."""
    manifest = dataclasses.replace(bundle.manifest, parity=parity, default_tau=0.8)
    with Wrong(bundle, threads=1) as wrong, OnnxRuntimeBackend(bundle, threads=1) as cpu:
        assert 20 < agreement.agreement(wrong, cpu, manifest) < 30
        if message is None:
            agreement.check_agreement(wrong, cpu, manifest, fix="do so")
        else:
            with pytest.raises(DeviceError, match=message):
                agreement.check_agreement(wrong, cpu, manifest, fix="do so")


def offer(monkeypatch: pytest.MonkeyPatch, *names: PluginDevice, gpu: bool = True) -> None:
    """Make plug-in providers look installed."""
    monkeypatch.setattr(PluginProvider, "installed", classmethod(lambda cls: cls.device in names))
    monkeypatch.setattr(backends, "has_gpu", lambda _plugin: gpu)
    monkeypatch.setattr(backends, "find_gpu", lambda: object())


def test_a_plugin_that_computes_another_picture_is_an_error_if_asked_for_and_passed_over_if_not(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    offer(monkeypatch, "webgpu")
    closed: list[str] = []

    class Backend(Wrong):
        def __init__(self, bundle: Bundle, *, device: str = "cpu", gpu: int = 0, threads: int | None = None) -> None:
            super().__init__(bundle, threads=threads)
            self.parts = 4.0 if device == "webgpu" else float("inf")
            self._named = device

        @property
        def device(self) -> str:
            return self._named

        def deactivate_impl(self) -> None:
            closed.append(self._named)
            super().deactivate_impl()

    monkeypatch.setattr(backends, "OnnxRuntimeBackend", Backend)
    with pytest.raises(DeviceError, match=r"webgpu computes a different picture from cpu \(\d+ dB"):
        open_backend(bundle, device="webgpu", threads=1)
    assert closed == ["cpu", "webgpu"]
    backend = open_backend(bundle, threads=1)
    assert backend.device == "cpu"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "continuing without webgpu" in caplog.text
    backend.deactivate()


def order(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, *, works: str) -> list[str]:
    """The devices that "auto" tries, up to the one that works."""
    tried: list[str] = []

    def opened(_bundle: Bundle, device: str, *, gpu: int = 0, threads: int | None) -> Any:
        tried.append(device)
        if device != works:
            raise DeviceError("it does not start")
        return device

    monkeypatch.setattr(backends, "_opened", opened)
    assert open_backend(bundle) == works
    return tried


def test_auto_goes_from_cuda_over_the_plugins_with_a_gpu_to_the_cpu(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    offer(monkeypatch, *get_args(PluginDevice))
    monkeypatch.setattr(backends, "cuda_offered", lambda: True)
    monkeypatch.setattr(backends, "gpu_offered", lambda: True)
    assert order(bundle, monkeypatch, works="openvino") == ["cuda", "rtx", "webgpu", "openvino"]
    assert len(caplog.records) == 3
    assert order(bundle, monkeypatch, works="cpu") == ["cuda", "rtx", "webgpu", "openvino", "cpu"]
    assert order(bundle, monkeypatch, works="cuda") == ["cuda"]


def test_auto_leaves_out_plugins_without_a_gpu_in_silence(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backends, "cuda_offered", lambda: False)
    offer(monkeypatch, *get_args(PluginDevice), gpu=False)
    assert order(bundle, monkeypatch, works="cpu") == ["cpu"]
    offer(monkeypatch, "rtx")
    monkeypatch.setattr(backends, "find_gpu", lambda: None)
    assert order(bundle, monkeypatch, works="cpu") == ["cpu"]
    assert not caplog.records


def test_auto_warns_of_a_plugin_that_cannot_be_loaded(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    offer(monkeypatch, "webgpu")

    def broken(_plugin: type[PluginProvider]) -> bool:
        raise DeviceError("WebGPU cannot be loaded")

    monkeypatch.setattr(backends, "has_gpu", broken)
    monkeypatch.setattr(backends, "cuda_offered", lambda: False)
    assert order(bundle, monkeypatch, works="cpu") == ["cpu"]
    assert "continuing without webgpu: WebGPU cannot be loaded" in caplog.text


def with_engines(bundle: Bundle) -> Bundle:
    profile = LrProfile(min=(16, 16), opt=(64, 64), max=(128, 128))
    record = EngineRecord(
        runtime="tensorrt",
        version="10.15.1",
        precision="fp16",
        compute_capabilities=("8.9",),
        gpu="NVIDIA L4",
        profile=profile,
        encoder="encoder.plan",
        sampler="sampler.plan",
        graphs={},
    )
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, engines=(record,)))


def test_auto_takes_the_bundles_own_engines_first_if_they_fit(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "cuda_offered", lambda: True)
    offer(monkeypatch)
    monkeypatch.setattr(tensorrt, "tensorrt_offered", lambda _bundle: True)
    assert order(with_engines(bundle), monkeypatch, works="cuda") == ["tensorrt", "cuda"]
    assert order(bundle, monkeypatch, works="cuda") == ["cuda"], "it has no engines"
    monkeypatch.setattr(tensorrt, "tensorrt_offered", lambda _bundle: False)
    assert order(with_engines(bundle), monkeypatch, works="cuda") == ["cuda"]


@pytest.mark.usefixtures("tensorrt_build")
def test_engines_that_do_not_fit_are_the_error_and_not_replaced(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_bundle: Bundle, *, gpu: int) -> None:
        raise DeviceError("built for another GPU")

    monkeypatch.setattr(tensorrt, "TensorRTBackend", refuse)
    with pytest.raises(DeviceError, match="built for another GPU"):
        open_backend(with_engines(bundle), device="tensorrt")


def test_unknown_devices_are_refused_with_the_list(bundle: Bundle) -> None:
    with pytest.raises(ArgumentError) as caught:
        open_backend(bundle, device="gpu")
    assert all(name in str(caught.value) for name in get_args(DeviceName))


@pytest.mark.parametrize(
    "device",
    ["cpu:0", "auto:1", "openvino:1", "webgpu:1", "cuda:01", "cuda:", "cuda:-1", "cuda:x", "cuda:1:2", "cuda:¹"],
)
def test_only_gpus_have_numbers(device: str) -> None:
    with pytest.raises(ArgumentError, match="such as cuda:1"):
        split_device(device)


def test_the_command_takes_the_same_devices() -> None:
    (device,) = (option for option in upscale.params if option.name == "device")
    assert isinstance(device.type, click.Choice)
    assert tuple(device.type.choices) == get_args(DeviceName)
    assert all(device.type(name) == name for name in (*get_args(DeviceName), "cuda:1", "tensorrt:3"))
    with pytest.raises(click.BadParameter, match="device is 'gpu'"):
        device.type("gpu")


@pytest.mark.usefixtures("tensorrt_build")
@pytest.mark.parametrize("device", ["cuda:1", "tensorrt:1"])
def test_the_gpu_of_that_number_computes_and_keeps_the_conditioning(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    asked: list[Any] = []

    made = onnxruntime.InferenceSession

    def session(path: str, options: Any, providers: list[Any], **keywords: Any) -> Any:
        if providers == [CPU]:
            return made(path, options, providers=providers, **keywords)
        asked.append([options["device_id"] for _, options in providers[:-1]])
        raise RuntimeError("there is no GPU")

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(DeviceError, match=r"shows no GPU 1 here.*nvidia-smi"):
        open_backend(bundle, device=device)
    monkeypatch.setattr(
        ort_providers, "find_gpu", lambda _number: Gpu(name="NVIDIA L4", compute_capability="8.9", cuda="13.0")
    )
    with pytest.raises(DeviceError, match="there is no GPU"):
        open_backend(bundle, device=device)
    assert asked == [["1"] * (2 if "tensorrt" in device else 1)]
    backend = OnnxRuntimeBackend(bundle, device="cuda", gpu=1)
    assert backend.gpu == 1
    bound: list[Any] = []
    binding = SimpleNamespace(bind_cpu_input=lambda *_: None, bind_output=lambda _, *place: bound.append(place))
    outputs = [SimpleNamespace(name="features")]
    backend._encoder = SimpleNamespace(io_binding=lambda: binding, get_outputs=lambda: outputs)
    monkeypatch.setattr(backend, "_run", lambda *_: backend.deactivate_impl())
    with pytest.raises(AttributeError, match="get_outputs"):
        backend.encode_impl(np.zeros((1, 3, 2, 2), np.float32))
    assert bound == [("cuda", 1)]


def test_engines_of_a_bundle_run_on_the_gpu_of_that_number(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_bundle: Bundle, *, gpu: int) -> Any:
        raise DeviceError(f"on GPU {gpu}")

    monkeypatch.setattr(tensorrt, "TensorRTBackend", refuse)
    with pytest.raises(DeviceError, match="on GPU 1"):
        open_backend(with_engines(bundle), device="tensorrt:1")


@pytest.mark.usefixtures("tensorrt_build")
def test_tensorrt_computes_float32_in_float32_unless_the_environment_says_otherwise(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    TensorRTProvider(bundle).prepare()
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "1"
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    TensorRTProvider(bundle).prepare()
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


@pytest.mark.parametrize(
    ("device", "gpu", "arena"),
    [("cpu", 0, "cpu:0"), ("cuda", 1, "gpu:1"), ("tensorrt", 2, "gpu:2"), ("rtx", 0, "cpu:0")],
)
def test_after_an_out_of_memory_only_arenas_of_built_in_providers_are_asked_to_shrink(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, device: Any, gpu: int, arena: str
) -> None:
    """ONNX Runtime ends a run that names an arena it does not have (ValidateAndParseShrinkArenaString)."""
    asked: list[str] = []

    class RunOptions:
        def add_run_config_entry(self, _name: str, value: str) -> None:
            asked.append(value)

    monkeypatch.setattr(onnxruntime, "RunOptions", RunOptions)
    backend = OnnxRuntimeBackend(bundle, device=device, gpu=gpu)
    backend._scarce = True
    backend._run(SimpleNamespace(run_with_iobinding=lambda *_: None), None, "encoding")
    assert asked == [arena]
