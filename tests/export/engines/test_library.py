"""Which library builds engines: what is missing or too old, in which words."""

import sys
from types import ModuleType

import pytest

from srflow_export.engines import _library as library
from srflow_export.engines._library import Library, load_library
from srflow_sdk.errors import ExportError, MissingExtraError
from srflow_sdk.system.hardware import Gpu


def test_a_missing_library_says_what_is_missing_how_to_get_it_and_how_to_build_elsewhere(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(library, "find_gpu", lambda: None)
    with pytest.raises(MissingExtraError) as caught:
        load_library("tensorrt", elsewhere="srflow-export --this")
    text = str(caught.value)
    assert "TensorRT is not installed" in text
    assert "an NVIDIA GPU" in text
    assert "this machine has none" in text
    assert 'pip install "srflow-sdk[tensorrt]"' in text
    assert text.endswith("on another: srflow-export --this")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingExtraError, match=r'TensorRT-RTX is not installed.*"srflow-sdk\[rtx\]"') as caught:
        load_library("tensorrt_rtx", elsewhere="")
    assert "NVIDIA GPU" not in str(caught.value)


def test_bindings_without_their_libraries_are_told_apart(monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.11: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(MissingExtraError, match=r"does not load \(libnvinfer.so.11: .*--force-reinstall"):
        load_library("tensorrt", elsewhere="")


@pytest.mark.parametrize("version", ["10.14.1.48", "8.6.1", "9.3"])
def test_an_old_library_is_refused(monkeypatch, version):
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(version))
    monkeypatch.setattr(library, "find_gpu", lambda: Gpu(name="G", compute_capability="9.0", cuda="13.0"))
    with pytest.raises(ExportError, match=f"{version} is too old; 10.15 is the first.*--upgrade"):
        load_library("tensorrt", elsewhere="")


@pytest.mark.parametrize("version", ["10.15.1.29", "11.4.0.106"])
def test_tensorrt_without_a_gpu_is_refused_and_with_one_is_taken(monkeypatch, version):
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(version))
    monkeypatch.setattr(library, "find_gpu", lambda: None)
    with pytest.raises(ExportError, match=rf"{version} is installed, but there is no NVIDIA GPU.*--rtx.*another: X$"):
        load_library("tensorrt", elsewhere="X")
    gpu = Gpu(name="G", compute_capability="9.0", cuda="13.0")
    monkeypatch.setattr(library, "find_gpu", lambda: gpu)
    assert load_library("tensorrt", elsewhere="") == Library(
        runtime="tensorrt", module=sys.modules["tensorrt"], version=version, gpu=gpu
    )


def fake_tensorrt(version):
    module = ModuleType("tensorrt")
    module.__version__ = version
    return module
