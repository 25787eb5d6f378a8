"""Engines with plugins: the library is loaded before they are, and only the one that they were built with."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from srflow_sdk.backends import native_library
from srflow_sdk.backends.native_library import PLUGINS
from srflow_sdk.backends.tensorrt import TensorRTBackend
from srflow_sdk.errors import DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import PluginLibrary
from srflow_sdk.system.local_files import file_sha256

from .engine_machine import EngineMachine, noise
from .fake_tensorrt import PLUGIN_LIBRARY, with_plugins, write_engine_bundle


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's folder, with a library of plugins."""
    monkeypatch.setattr(native_library, "_BESIDE", tmp_path / "native")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv(PLUGINS, raising=False)
    (tmp_path / "native").mkdir()
    (tmp_path / "native" / "libsrflow_trt.so").write_bytes(PLUGIN_LIBRARY)
    return tmp_path / "native"


@pytest.fixture
def bundle(beside: Path, tiny_bundle: Path, tmp_path: Path) -> Bundle:
    """One whose engines were built with that library; it has a copy of its own, which nobody may load."""
    library = beside / "libsrflow_trt.so"
    plugins = PluginLibrary(sha256=file_sha256(library), version="0.1.0", tensorrt_major=11)
    return write_engine_bundle(tiny_bundle, tmp_path / "tiny.srflow", spoil=with_plugins, plugins=plugins)


def opened(bundle: Bundle) -> TensorRTBackend:
    backend = TensorRTBackend(bundle)
    backend.activate()
    return backend


def refused(bundle: Bundle) -> str:
    with pytest.raises(DeviceError) as caught:
        opened(bundle)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_library_is_loaded_once_before_the_engines(
    machine: EngineMachine, beside: Path, bundle: Bundle, lr: np.ndarray, expected: np.ndarray
) -> None:
    for _ in range(2):
        backend = opened(bundle)
        assert np.abs(backend.sample(backend.encode(lr), noise(1), 0.7) - expected).max() < 1e-6
        backend.deactivate()
    assert machine.library.get_plugin_registry()._loads == [str(beside / "libsrflow_trt.so")]


def test_the_variable_comes_before_the_package(
    machine: EngineMachine, beside: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.so"
    other.write_bytes(PLUGIN_LIBRARY)
    monkeypatch.setenv(PLUGINS, str(other))
    opened(bundle).deactivate()
    assert machine.library.get_plugin_registry()._loads == [str(other)]


@pytest.mark.parametrize("named", [None, ""])
def test_engines_whose_library_is_not_here_are_refused_with_both_fixes(
    machine: EngineMachine, beside: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    if named is None:
        (beside / "libsrflow_trt.so").unlink()
    else:
        monkeypatch.setenv(PLUGINS, named)
    text = refused(bundle)
    assert "and here are none and TensorRT 11.1.0.106: name that file in SRFLOW_TENSORRT_PLUGINS, or build them" in text
    assert text.endswith(f"srflow-export --engines-for {bundle.path} --trt fp32 --shapes 20x20,40x40,64x64")


def test_another_library_is_refused_before_its_code_runs(machine: EngineMachine, beside: Path, bundle: Bundle) -> None:
    (beside / "libsrflow_trt.so").write_bytes(PLUGIN_LIBRARY + b" of another build")
    wanted = bundle.manifest.engines[0].plugins
    assert wanted is not None
    assert f"for TensorRT 11 with the sha256 {wanted.sha256}, and here are {beside}/libsrflow_trt.so" in refused(bundle)
    assert machine.library.get_plugin_registry()._loads == []


def test_a_library_for_another_major_version_is_refused(
    machine: EngineMachine, beside: Path, bundle: Bundle, tiny_bundle: Path, tmp_path: Path
) -> None:
    plugins = bundle.manifest.engines[0].plugins
    assert plugins is not None
    other = dataclasses.replace(plugins, tensorrt_major=10)
    older = write_engine_bundle(tiny_bundle, tmp_path / "older.srflow", spoil=with_plugins, plugins=other)
    assert "they need the libsrflow_trt.so of srflow-sdk 0.1.0 for TensorRT 10 with" in refused(older)
    assert machine.library.get_plugin_registry()._loads == []


def test_a_file_that_tensorrt_cannot_load_is_named(machine: EngineMachine, beside: Path, tiny_bundle: Path) -> None:
    library = beside / "libsrflow_trt.so"
    library.write_bytes(b"no library")
    plugins = PluginLibrary(sha256=file_sha256(library), version="0.1.0", tensorrt_major=11)
    bundle = write_engine_bundle(tiny_bundle, beside / "odd.srflow", spoil=with_plugins, plugins=plugins)
    assert f"TensorRT 11.1.0.106 cannot load {library}; build it again (docs/native.md)" in refused(bundle)


def test_engines_without_plugins_load_nothing(machine: EngineMachine, beside: Path, engine_bundle: Bundle) -> None:
    opened(engine_bundle).deactivate()
    assert machine.library.get_plugin_registry()._loads == []
