"""Plug-in providers that are absent, broken or made up: discovery, the choice of a device, refusals, settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import onnxruntime
import pytest

from srflow_sdk.backends import _plugin_providers as plugin_providers
from srflow_sdk.backends import open_backend
from srflow_sdk.backends._plugin_providers import PLUGINS, PluginProvider
from srflow_sdk.errors import DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.device_names import PluginDevice


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A WebGPU package, to be given content; nothing is registered yet."""
    folder = tmp_path / "site"
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(plugin_providers, "_registered", set())
    monkeypatch.delitem(sys.modules, "onnxruntime_ep_webgpu", raising=False)
    (folder / "onnxruntime_ep_webgpu").mkdir(parents=True)
    yield folder / "onnxruntime_ep_webgpu"
    sys.modules.pop("onnxruntime_ep_webgpu", None)


def test_a_package_is_found_without_importing_it(package: Path) -> None:
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    assert PLUGINS["webgpu"].installed()


@pytest.mark.parametrize("device", get_args(PluginDevice))
def test_an_absent_package_is_refused_with_the_command_that_installs_it(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, device: PluginDevice
) -> None:
    monkeypatch.setattr(plugin_providers, "_registered", set())
    monkeypatch.setattr(PluginProvider, "installed", lambda: False)
    with pytest.raises(
        DeviceError, match=f"is not installed: pip install {PLUGINS[device].distributions[0]}.*It needs"
    ):
        open_backend(bundle, device=device)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("raise OSError('libcuda.so.1: cannot open')\n", r"libcuda\.so\.1: cannot open; it needs"),
        ("def get_library_path():\n    return '/nowhere/lib.so'\n", "cannot be loaded: .*needs a GPU"),
        ("", "no attribute 'get_library_path'"),
    ],
)
def test_a_package_that_cannot_be_loaded_is_refused_and_tried_again_next_time(
    bundle: Bundle, package: Path, content: str, says: str
) -> None:
    (package / "__init__.py").write_text(content)
    for _ in range(2):
        with pytest.raises(DeviceError, match=says):
            open_backend(bundle, device="webgpu")


def test_an_old_runtime_is_refused_with_the_upgrade(
    bundle: Bundle, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / "__init__.py").touch()
    monkeypatch.setattr(onnxruntime, "__version__", "1.20.1")
    with pytest.raises(DeviceError, match=r"needs ONNX Runtime 1\.24.*pip install -U"):
        open_backend(bundle, device="webgpu")


def test_rtx_needs_a_runtime_whose_cuda_memory_is_nvidias(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """In 1.24, `bind_output(name, "cuda")` names no vendor, and the plug-in's memory is not found."""
    monkeypatch.setattr(plugin_providers, "_registered", set())
    monkeypatch.setattr(PLUGINS["rtx"], "installed", lambda: True)
    monkeypatch.setattr(onnxruntime, "__version__", "1.24.4")
    with pytest.raises(DeviceError, match=r"needs ONNX Runtime 1\.25"):
        open_backend(bundle, device="rtx")


class Found:
    """What ONNX Runtime says of a device of a plug-in provider."""

    def __init__(self, provider: str, kind: Any, **metadata: str) -> None:
        self.ep_name = provider
        self.ep_metadata = metadata
        self.device = type("Hardware", (), {"type": kind, "vendor": "Maker", "metadata": metadata})()


def test_a_gpu_is_preferred_and_what_cannot_compute_float32_or_at_all_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds, plugin = onnxruntime.OrtHardwareDeviceType, PLUGINS["webgpu"]
    machine = [
        Found(plugin.provider, kinds.CPU),
        Found(plugin.provider, kinds.NPU),
        Found(plugin.provider, kinds.GPU, is_virtual="1"),
        Found(f"{plugin.provider}.AUTO", kinds.GPU),
        Found(plugin.provider, kinds.GPU, FULL_DEVICE_NAME="Arc"),
    ]
    monkeypatch.setattr(plugin_providers, "_registered", {plugin.module})
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: machine)
    found = plugin_providers.find_devices(plugin)
    assert [plugin_providers.described(device) for device in found] == ["GPU, Arc", "CPU, Maker"]
    assert plugin_providers.has_gpu(plugin)
    machine.pop()
    assert not plugin_providers.has_gpu(plugin)


def test_no_device_is_refused_with_what_it_needs(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_providers, "_registered", {PLUGINS["webgpu"].module})
    monkeypatch.setattr(onnxruntime, "get_ep_devices", list)
    with pytest.raises(DeviceError, match=r"WebGPU provider offers no device.*Vulkan.*srflow-doctor"):
        open_backend(bundle, device="webgpu")


def test_a_number_chooses_among_the_devices(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")  # so that it is put back
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    plugin, kind = PLUGINS["rtx"], onnxruntime.OrtHardwareDeviceType.GPU
    machine = [Found(plugin.provider, kind, FULL_DEVICE_NAME=name) for name in ("first", "second")]

    def found(_plugin: object) -> list[Any]:
        assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0", "set before the library is loaded"
        return machine

    monkeypatch.setattr(plugin_providers, "find_devices", found)
    provider = plugin(1, model_sha256="a" * 64)
    provider.prepare()
    assert (provider.gpu, provider._chosen) == (1, machine[1])
    with pytest.raises(DeviceError, match="has no device 2 here, only 2"):
        open_backend(bundle, device="rtx:2")


@pytest.mark.parametrize(
    ("device", "metadata", "expected"),
    [
        ("webgpu", {}, {"preferredLayout": "NCHW"}),
        ("rtx", {}, {"nv_runtime_cache_path": "/"}),
    ],
)
def test_each_provider_gets_the_settings_that_keep_the_picture(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, device: PluginDevice, metadata: dict[str, str], expected: Any
) -> None:
    plugin = PLUGINS[device]
    found = Found(plugin.provider, onnxruntime.OrtHardwareDeviceType.GPU, **metadata)
    monkeypatch.setattr(plugin_providers, "find_devices", lambda _plugin: [found])
    given: list[Any] = []

    class Options:
        def add_provider_for_devices(self, devices: list[Any], settings: dict[str, str]) -> None:
            given.append((devices, settings))

    provider = plugin(model_sha256="a" * 64)
    provider.prepare()
    assert provider.configure(Options(), "encoder.onnx") is None
    ((devices, settings),) = given
    assert devices == [found]
    assert settings.keys() == expected.keys()
    assert all(settings[name].startswith(value) for name, value in expected.items())
    assert "THREADS" not in str(settings), "of the CPU, and this is a GPU"


def test_a_library_is_registered_once_and_not_if_the_application_did(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime refuses the same name twice, and shows every device twice for two names."""
    (package / "__init__.py").write_text("def get_library_path():\n    return 'lib.so'\n")
    plugin, calls = PLUGINS["webgpu"], []
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", lambda *names: calls.append(names))
    monkeypatch.setattr(onnxruntime, "get_ep_devices", list)
    for _ in range(2):
        assert plugin_providers.find_devices(plugin) == []
    assert calls == [(plugin.module, "lib.so")]
    monkeypatch.setattr(plugin_providers, "_registered", set())
    device = Found(plugin.provider, onnxruntime.OrtHardwareDeviceType.GPU)
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: [device])
    assert plugin_providers.find_devices(plugin) == [device]
    assert len(calls) == 1
