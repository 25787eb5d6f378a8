"""Where the native library is looked for, and which files are refused."""

from __future__ import annotations

import ctypes.util
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from srflow_sdk.backends import OnnxRuntimeBackend, native_library
from srflow_sdk.backends.native_library import VARIABLE, check_native_library, find_native_library, load_plugins
from srflow_sdk.errors import DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import PluginLibrary
from tests.sdk.tiny_bundle import write_tiny_bundle


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's folder for it."""
    monkeypatch.setattr(native_library, "_BESIDE", tmp_path / "native")
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(native_library.sys, "platform", "linux")
    (tmp_path / "native").mkdir()
    return tmp_path / "native"


def test_the_variable_comes_before_the_package_and_empty_means_none(
    beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_native_library() is None
    (beside / "libsrflow_ort.so").touch()
    assert find_native_library() == beside / "libsrflow_ort.so"
    (tmp_path / "other.so").touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "other.so"))
    assert find_native_library() == tmp_path / "other.so"
    monkeypatch.setenv(VARIABLE, "")
    assert find_native_library() is None


@pytest.mark.parametrize("named", ["other.so", "./other.so", "../native/libsrflow_ort.so"])
def test_a_relative_path_is_refused_and_not_loaded(
    beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """Otherwise whoever can write to the current folder could run code."""
    (tmp_path / "other.so").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, named)
    with pytest.raises(DeviceError, match="only a whole path is taken"):
        find_native_library()


def test_a_variable_that_names_no_file_is_refused_with_the_way_out(
    beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere/libsrflow_ort.so")
    with pytest.raises(DeviceError, match=r"no such file; build the library \(docs/native.md\), or unset"):
        find_native_library()


def test_what_is_no_library_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(DeviceError, match=r"text\.so is not a usable library"):
        check_native_library(tmp_path / "text.so", version="1.0")
    other = ctypes.util.find_library("m")
    assert other is not None
    with pytest.raises(DeviceError, match="srflow_version"):
        check_native_library(Path(other), version="1.0")


def test_engines_take_the_library_that_they_were_built_with_alone(beside: Path) -> None:
    library, loads = beside / "libsrflow_trt.so", list[str]()
    registry = SimpleNamespace(get_creator=lambda *plugin: loads or None, load_library=loads.append)
    trt = SimpleNamespace(__version__="11.1", get_plugin_registry=lambda: registry)
    library.write_bytes(b"another build")
    wanted = PluginLibrary(sha256=sha256(b"built with").hexdigest(), version="0.1.0", tensorrt_major=11)
    with pytest.raises(DeviceError, match=rf"for TensorRT 11 with the sha256 {wanted.sha256}, and here are {library}"):
        load_plugins(trt, wanted, rebuild="srflow-export")
    assert loads == []  # before its code runs
    library.write_bytes(b"built with")
    load_plugins(trt, wanted, rebuild="srflow-export")
    load_plugins(trt, wanted, rebuild="srflow-export")
    assert loads == [str(library)]
    with pytest.raises(DeviceError, match="and TensorRT 10"):
        load_plugins(SimpleNamespace(__version__="10.9"), wanted, rebuild="srflow-export")


@pytest.mark.parametrize("plugins", [True, False])
def test_only_bundles_with_plugins_ask_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugins: bool) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "tiny.srflow", plugins=plugins))
    monkeypatch.setenv(VARIABLE, "/nowhere/libsrflow_ort.so")
    backend = OnnxRuntimeBackend(bundle, device="cpu")
    if plugins:
        with pytest.raises(DeviceError, match="no such file"):
            backend.activate()
    else:
        backend.activate()
        backend.deactivate()
