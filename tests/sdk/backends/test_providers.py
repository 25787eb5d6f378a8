"""The table of ONNX Runtime's providers: what each is given, what is refused and why, and the order
of "auto"."""

import dataclasses
import os
import sys
from types import SimpleNamespace
from typing import Any, get_args

import onnxruntime
import pytest

from srflow_sdk import backends
from srflow_sdk.backends import OnnxRuntimeBackend, open_backend, providers, tensorrt
from srflow_sdk.backends.providers import PROVIDERS, Provider, find_devices
from srflow_sdk.errors import ArgumentError, DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.hardware import DeviceName, Gpu, PluginDevice, split_device

CUDA, CPU = (f"{name}ExecutionProvider" for name in ("CUDA", "CPU"))
GPU = onnxruntime.OrtHardwareDeviceType.GPU


@pytest.fixture
def bundle(tiny_bundle):
    return Bundle.open(tiny_bundle)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    monkeypatch.setattr(providers, "_registered", set())
    return tmp_path / "cache"


@pytest.fixture
def gpu_build(monkeypatch):
    """An ONNX Runtime that offers CUDA."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A WebGPU package, to be given content."""
    folder = tmp_path / "site"
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "onnxruntime_ep_webgpu", raising=False)
    (folder / "onnxruntime_ep_webgpu").mkdir(parents=True)
    yield folder / "onnxruntime_ep_webgpu"
    sys.modules.pop("onnxruntime_ep_webgpu", None)


def offer(monkeypatch, *names, gpu=None):
    """Make providers look installed, and where `gpu` says so, plug-ins find a GPU or none."""
    monkeypatch.setattr(Provider, "offered", lambda self: self.device in names)
    if gpu is not None:
        found = [Found("", GPU if gpu else onnxruntime.OrtHardwareDeviceType.CPU)]
        monkeypatch.setattr(providers, "find_devices", lambda _plugin: found)
        monkeypatch.setattr(
            providers,
            "find_gpu",
            lambda: Gpu(name="NVIDIA L4", compute_capability="8.9", cuda="13.0"),
        )


class Found:
    """What ONNX Runtime says of a device of a plug-in provider."""

    def __init__(self, provider, kind=GPU, **metadata):
        self.ep_name = provider
        self.ep_metadata = metadata
        self.device = SimpleNamespace(type=kind, vendor="Maker", metadata=metadata)


@pytest.mark.usefixtures("gpu_build")
@pytest.mark.parametrize(
    ("listed", "says"),
    [
        ([CUDA, CPU], r"CUDA runs no part of encoder\.onnx: CPUExecutionProvider does"),
        ([CPU], r"CUDA support but could not start it"),
    ],
)
def test_a_provider_that_takes_no_node_or_does_not_start_is_refused(
    bundle, monkeypatch, listed, says
):
    """ONNX Runtime makes a session without it, in silence, and may still list it."""
    real = onnxruntime.InferenceSession

    def idle(path, options, providers, **rest):
        session = real(path, options, providers=[CPU], **rest)
        session._providers = listed
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", idle)
    with pytest.raises(DeviceError, match=says):
        open_backend(bundle, device="cuda")


@pytest.mark.usefixtures("gpu_build")
def test_the_gpu_of_that_number_computes_and_keeps_the_conditioning(bundle, monkeypatch):
    asked = []

    def session(_path, _options, providers, **_):
        asked.append([options["device_id"] for _, options in providers[:-1]])
        raise RuntimeError("there is no GPU")

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(DeviceError, match=r"shows no GPU 1 here.*nvidia-smi"):
        open_backend(bundle, device="cuda:1")
    found = Gpu(name="NVIDIA L4", compute_capability="8.9", cuda="13.0")
    monkeypatch.setattr(providers, "find_gpu", lambda _number: found)
    with pytest.raises(DeviceError, match="there is no GPU"):
        open_backend(bundle, device="cuda:1")
    assert asked == [["1"]]
    assert OnnxRuntimeBackend(bundle, device="cuda", gpu=1).gpu == 1


@pytest.mark.parametrize(
    ("device", "gpu", "arena"),
    [("cpu", 0, "cpu:0"), ("cuda", 1, "gpu:1"), ("rtx", 0, "cpu:0")],
)
def test_after_an_out_of_memory_only_arenas_of_built_in_providers_are_asked_to_shrink(
    bundle, monkeypatch, device, gpu, arena
):
    """ONNX Runtime ends a run that names an arena it does not have
    (ValidateAndParseShrinkArenaString)."""
    asked = []
    options = SimpleNamespace(add_run_config_entry=lambda _name, value: asked.append(value))
    monkeypatch.setattr(onnxruntime, "RunOptions", lambda: options)
    backend = OnnxRuntimeBackend(bundle, device=device, gpu=gpu)
    backend._scarce = True
    binding = SimpleNamespace(get_outputs=list)
    session = SimpleNamespace(io_binding=lambda: binding, run_with_iobinding=lambda *_: None)
    backend._run(session, {}, [], "encoding")
    assert asked == [arena]


@pytest.mark.parametrize("device", get_args(PluginDevice))
def test_an_absent_package_is_refused_with_the_command_that_installs_it(
    bundle, monkeypatch, device
):
    offer(monkeypatch)
    with pytest.raises(
        DeviceError, match=f"is not installed: pip install {PROVIDERS[device].package}; it needs"
    ):
        open_backend(bundle, device=device)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("raise OSError('libcuda.so.1: cannot open')\n", r"libcuda\.so\.1: cannot open; it needs"),
        (
            "def get_library_path():\n    return '/nowhere/lib.so'\n",
            "cannot be loaded: .*needs a GPU",
        ),
        ("", "no attribute 'get_library_path'"),
    ],
)
def test_a_package_that_cannot_be_loaded_is_refused_and_tried_again_next_time(
    bundle, package, content, says
):
    (package / "__init__.py").write_text(content)
    assert PROVIDERS["webgpu"].offered(), "it is found without importing it"
    for _ in range(2):
        with pytest.raises(DeviceError, match=says):
            open_backend(bundle, device="webgpu")


def test_a_gpu_is_preferred_and_what_cannot_compute_float32_or_at_all_is_left_out(monkeypatch):
    kinds = onnxruntime.OrtHardwareDeviceType
    plugin = PROVIDERS["webgpu"]
    cpu = Found(plugin.name, kinds.CPU)
    gpu = Found(plugin.name)
    machine = [
        cpu,
        Found(plugin.name, kinds.NPU),
        Found(plugin.name, is_virtual="1"),
        Found(f"{plugin.name}.AUTO"),
        gpu,
    ]
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: machine)
    offer(monkeypatch, "webgpu")
    assert find_devices(plugin) == [gpu, cpu]
    assert plugin.suits_auto()
    machine.pop()
    assert not plugin.suits_auto()


def test_no_device_is_refused_with_what_it_needs(bundle, monkeypatch):
    monkeypatch.setattr(providers, "_registered", {PROVIDERS["webgpu"].module})
    monkeypatch.setattr(onnxruntime, "get_ep_devices", list)
    with pytest.raises(DeviceError, match=r"WebGPU offers no device.*Vulkan.*srflow-doctor"):
        open_backend(bundle, device="webgpu")


@pytest.mark.parametrize(
    ("device", "number", "settings"),
    [("webgpu", 0, {"preferredLayout": "NCHW"}), ("rtx", 1, {"nv_runtime_cache_path": "/"})],
)
def test_each_plugin_gets_the_device_of_that_number_and_the_settings_that_keep_the_picture(
    bundle, monkeypatch, device, number, settings
):
    machine = [Found(PROVIDERS[device].name) for _ in range(2)]
    given = []
    monkeypatch.setattr(providers, "find_devices", lambda _plugin: machine)
    PROVIDERS[device].prepare(number)
    assert "NVIDIA_TF32_OVERRIDE" not in os.environ, "the program's own torch would be slower"
    options = SimpleNamespace(add_provider_for_devices=lambda *both: given.append(both))
    assert PROVIDERS[device].configure(options, bundle, number) is None
    (([chosen], values),) = given
    assert chosen is machine[number]
    assert values.keys() == settings.keys()
    assert all(values[name].startswith(value) for name, value in settings.items())
    with pytest.raises(DeviceError, match="offers no device 2 here, but 2 in all"):
        PROVIDERS[device].prepare(2)


def test_a_library_is_registered_once_and_not_if_the_application_did(package, monkeypatch):
    """ONNX Runtime refuses the same name twice, and shows every device twice for two names."""
    (package / "__init__.py").write_text("def get_library_path():\n    return 'lib.so'\n")
    plugin = PROVIDERS["webgpu"]
    calls = list[Any]()
    monkeypatch.setattr(
        onnxruntime, "register_execution_provider_library", lambda *names: calls.append(names)
    )
    monkeypatch.setattr(onnxruntime, "get_ep_devices", list)
    for _ in range(2):
        assert find_devices(plugin) == []
    assert calls == [(plugin.module, "lib.so")]
    monkeypatch.setattr(providers, "_registered", set())
    device = Found(plugin.name)
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: [device])
    assert find_devices(plugin) == [device]
    assert len(calls) == 1


def order(bundle, monkeypatch, *, works):
    """The devices that "auto" tries, up to the one that works."""
    tried = []

    def opened(_bundle, device, *, gpu=0, threads):
        tried.append(device)
        if device != works:
            raise DeviceError("it does not start")
        return device

    monkeypatch.setattr(backends, "_open_device", opened)
    assert open_backend(bundle) == works
    return tried


def test_auto_goes_from_cuda_over_the_plugins_with_a_gpu_to_the_cpu(bundle, monkeypatch, caplog):
    offer(monkeypatch, "cuda", *get_args(PluginDevice), gpu=True)
    monkeypatch.setattr(backends, "gpu_offered", lambda: True)
    gpus = ["cuda", *get_args(PluginDevice), "openvino"]
    assert order(bundle, monkeypatch, works="openvino") == gpus
    assert len(caplog.records) == len(gpus) - 1
    assert order(bundle, monkeypatch, works="cpu") == [*gpus, "cpu"]
    assert order(bundle, monkeypatch, works="cuda") == ["cuda"]


def test_auto_leaves_out_plugins_without_a_gpu_in_silence_and_warns_of_those_that_cannot_be_loaded(
    bundle, monkeypatch, caplog
):
    offer(monkeypatch, *get_args(PluginDevice), gpu=False)
    assert order(bundle, monkeypatch, works="cpu") == ["cpu"]
    assert not caplog.records
    offer(monkeypatch, "webgpu")

    def broken(_plugin):
        raise DeviceError("WebGPU cannot be loaded")

    monkeypatch.setattr(Provider, "suits_auto", broken)
    assert order(bundle, monkeypatch, works="cpu") == ["cpu"]
    assert "continuing without webgpu: WebGPU cannot be loaded" in caplog.text


def test_auto_takes_the_bundles_own_engines_first_if_they_fit(bundle, engine_bundle, monkeypatch):
    offer(monkeypatch, "cuda")
    monkeypatch.setattr(tensorrt, "tensorrt_offered", lambda _bundle: True)
    assert order(engine_bundle, monkeypatch, works="cuda") == ["tensorrt", "cuda"]
    assert order(bundle, monkeypatch, works="cuda") == ["cuda"], "it has no engines"
    monkeypatch.setattr(tensorrt, "tensorrt_offered", lambda _bundle: False)
    assert order(engine_bundle, monkeypatch, works="cuda") == ["cuda"]


def test_engines_that_do_not_fit_are_the_error_and_run_on_the_gpu_of_that_number(
    engine_bundle, monkeypatch
):
    def refuse(_bundle, *, gpu):
        raise DeviceError(f"built for another GPU than {gpu}")

    monkeypatch.setattr(tensorrt, "TensorRTBackend", refuse)
    with pytest.raises(DeviceError, match="built for another GPU than 1"):
        open_backend(engine_bundle, device="tensorrt:1")


def test_unknown_devices_are_refused_with_the_list_and_only_gpus_have_numbers(bundle):
    with pytest.raises(ArgumentError) as caught:
        open_backend(bundle, device="gpu")
    assert all(name in str(caught.value) for name in get_args(DeviceName))
    for device in ("cpu:0", "webgpu:1", "cuda:01", "cuda:", "cuda:-1", "cuda:1:2", "cuda:¹"):
        with pytest.raises(ArgumentError, match="such as cuda:1"):
            split_device(device)


def test_auto_says_that_a_gpu_is_not_used_where_the_runtime_is_the_cpus(
    bundle, monkeypatch, caplog
):
    monkeypatch.setattr(Provider, "offered", lambda self: self.device == "cpu")
    monkeypatch.setattr(
        backends, "find_gpu", lambda: Gpu(name="NVIDIA L4", compute_capability="8.9", cuda="13.0")
    )
    for device in ("auto", "cpu"):
        open_backend(bundle, device=device).deactivate()
    (said,) = caplog.messages
    assert said.startswith(
        "NVIDIA L4 is not used, as this ONNX Runtime is built without CUDA; srflow-doctor prints"
    )


def test_cuda_is_compared_with_the_cpu(bundle, monkeypatch):
    row = dataclasses.replace(PROVIDERS["cpu"], device="cuda", title="CUDA")
    monkeypatch.setitem(PROVIDERS, "cuda", row)
    compared = []
    monkeypatch.setattr(
        backends, "check_agreement", lambda backend, *_, **__: compared.append(backend.device)
    )
    for device in ("cuda", "cpu"):
        open_backend(bundle, device=device).deactivate()
    assert compared == ["cuda"]
