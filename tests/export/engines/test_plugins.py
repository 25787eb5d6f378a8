"""Flow operations as plugins: which library is loaded, when, what is recorded, and the line that says so.

The real library in the real parser: tests/native/test_tensorrt_plugins.py.
"""

import dataclasses
import shutil
import subprocess
from types import ModuleType

import pytest

from srflow_export import onnx_models
from srflow_export.engines._library import Library
from srflow_export.engines._pairs import build_engines
from srflow_export.engines._request import EngineRequest
from srflow_sdk._version import __version__
from srflow_sdk.backends import native_library
from srflow_sdk.backends.native_library import PLUGINS
from srflow_sdk.errors import DeviceError, ExportError
from srflow_sdk.model.engine_records import EngineRecord, PluginLibrary
from srflow_sdk.model.manifest import _read_record
from srflow_sdk.system.hardware import Gpu
from srflow_sdk.system.local_files import file_sha256
from tests.networks import random_srflow, tiny_config

REQUEST = EngineRequest(runtime="tensorrt", precision="fp16")
GPU = Gpu(name="NVIDIA H100 80GB HBM3", compute_capability="9.0", cuda="13.0")


class Registry:
    """The rule of the parser: a node is a plugin only if its creator is there by then. See IPluginRegistry."""

    def __init__(self):
        self.loaded = []

    def load_library(self, plugin_path):
        if self.loaded:
            raise AssertionError("loaded twice")  # TensorRT refuses what is registered
        self.loaded.append(plugin_path)

    def get_creator(self, type, version, plugin_namespace=""):
        return object() if self.loaded else None


@pytest.fixture
def tensorrt():
    registry = Registry()
    module = ModuleType("tensorrt")
    vars(module).update(__version__="10.15.1.29", get_plugin_registry=lambda: registry, registry=registry)
    return Library(runtime="tensorrt", module=module, version=module.__version__, gpu=GPU)


@pytest.fixture
def builds(monkeypatch):
    """Calls of the builder: graph, whether with plugins, whether they were loaded. Each gives another engine."""
    found = []

    def build(trt, graph, *_, plugins, **__):
        found.append((graph.name, plugins, bool(trt.registry.loaded)))
        return f"{graph.name} {len(found)}".encode()

    monkeypatch.setattr("srflow_export.engines._pairs.build_engine", build)
    monkeypatch.setattr("srflow_export.engines._pairs.check_plan", lambda *_: True)
    return found


@pytest.fixture(scope="session")
def with_nodes(exported, tmp_path_factory):
    folder = shutil.copytree(exported, tmp_path_factory.mktemp("nodes") / "exported")
    sampler = onnx_models.sampler_model(random_srflow(tiny_config(steps=1)), "fp16", flow_nodes=True)
    (folder / "sampler.onnx").write_bytes(onnx_models.finished(sampler, {}))
    return folder


@pytest.fixture
def plugged(with_nodes, tmp_path):
    return shutil.copytree(with_nodes, tmp_path / "plugged")


@pytest.fixture
def beside(monkeypatch, tmp_path):
    """The package's folder for libraries."""
    monkeypatch.setattr(native_library, "_BESIDE", tmp_path / "native")
    monkeypatch.delenv(PLUGINS, raising=False)
    (tmp_path / "native").mkdir()
    return tmp_path / "native"


def write_library(file, version=__version__, major=10):
    """A library with the C functions that are asked; the plugins are the registry's own."""
    if shutil.which("cc") is None:
        pytest.skip("cc is not installed: apt-get install gcc")
    answer = f"int srflow_tensorrt_major(void) {{ return {major}; }}" if major else ""
    source = f'const char *srflow_version(void) {{ return "{version}"; }}\n{answer}\n'
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(file)]
    subprocess.run(command, input=source, text=True, check=True)
    return file


def test_the_library_is_loaded_before_the_graphs_are_parsed_and_recorded(tensorrt, builds, plugged, manifest, beside):
    library, lines = write_library(beside / "libsrflow_trt.so"), []
    record = build_engines(plugged, manifest, REQUEST, library=tensorrt, say=lines.append)
    assert builds == [("encoder.onnx", False, True), ("sampler.onnx", True, True)]
    assert record.plugins == PluginLibrary(sha256=file_sha256(library), version=__version__, tensorrt_major=10)
    assert (
        _read_record(EngineRecord, dataclasses.asdict(record) | {"profile": _lists(record.profile)}).plugins
        == record.plugins
    )
    assert lines == [f"flow operations: 5 plugins of {library}, which the engines need wherever they run"]


def _lists(profile):
    return {name: list(size) for name, size in dataclasses.asdict(profile).items()}


def test_the_variable_comes_before_the_package(tensorrt, builds, plugged, manifest, beside, tmp_path, monkeypatch):
    write_library(beside / "libsrflow_trt.so")
    monkeypatch.setenv(PLUGINS, str(write_library(tmp_path / "other.so")))
    build_engines(plugged, manifest, REQUEST, library=tensorrt)
    assert tensorrt.module.registry.loaded == [str(tmp_path / "other.so")]


def test_another_library_is_another_engine_and_functions_are_a_third(tensorrt, builds, plugged, manifest, beside):
    """Only the sampler's: the encoder has no flow operations."""

    def built_again():
        shutil.rmtree(plugged / "engines", ignore_errors=True)
        builds.clear()
        tensorrt.module.registry.loaded.clear()
        build_engines(plugged, manifest, REQUEST, library=tensorrt)
        return [(name, plugins) for name, plugins, _ in builds]

    assert built_again() == [("encoder.onnx", False), ("sampler.onnx", False)]
    file = write_library(beside / "libsrflow_trt.so")
    assert built_again() == [("sampler.onnx", True)]
    assert built_again() == []
    other = beside / "other.so"
    other.write_bytes(file.read_bytes() + b"\0")
    other.replace(file)  # not written into the file that is loaded
    assert built_again() == [("sampler.onnx", True)]


def test_without_a_library_functions_are_built_and_the_line_says_how_to_get_one(
    tensorrt, builds, plugged, manifest, beside
):
    lines = []
    record = build_engines(plugged, manifest, REQUEST, library=tensorrt, say=lines.append)
    assert record.plugins is None
    assert builds[1] == ("sampler.onnx", False, False)
    (line,) = lines
    assert line.startswith("flow operations: 5 functions in standard operators, as there is no plugin library: ")
    assert "python -m srflow_export.native tensorrt" in line


def test_graphs_without_flow_operations_ask_for_no_library(tensorrt, builds, folder, manifest, monkeypatch):
    monkeypatch.setenv(PLUGINS, "/nowhere/libsrflow_trt.so")
    lines = []
    assert build_engines(folder, manifest, REQUEST, library=tensorrt, say=lines.append).plugins is None
    assert not lines


def test_tensorrt_rtx_gets_functions(rtx, plugged, manifest, beside, monkeypatch):
    write_library(beside / "libsrflow_trt.so")
    found = []
    monkeypatch.setattr(
        "srflow_export.engines._pairs.build_engine", lambda *_, plugins, **__: found.append(plugins) or b"engine"
    )
    lines = []
    request = EngineRequest(runtime="tensorrt_rtx", precision="fp16", sms=(89,))
    assert build_engines(plugged, manifest, request, say=lines.append).plugins is None
    assert found == [False, False]
    assert lines == ["flow operations: 5 functions in standard operators, as TensorRT-RTX has no plugins"]


@pytest.mark.parametrize(
    ("made", "error", "words"),
    [
        (
            {"major": 11},
            ExportError,
            r"is for TensorRT 11, and 10.15.1.29 is installed: build it with the headers of T",
        ),
        ({"major": 0}, ExportError, r"has no plugins for TensorRT: name a libsrflow_trt.so in SRFLOW_TENSORRT_PLUGINS"),
        ({"version": "0.0.1"}, DeviceError, r"is from srflow-sdk 0.0.1, but .*, or set SRFLOW_TENSORRT_PLUGINS= to"),
    ],
    ids=["other TensorRT", "custom ops", "other SDK"],
)
def test_a_library_that_does_not_fit_is_refused_with_the_fix(
    tensorrt, builds, plugged, manifest, beside, made, error, words
):
    write_library(beside / "libsrflow_trt.so", **made)
    with pytest.raises(error, match=words):
        build_engines(plugged, manifest, REQUEST, library=tensorrt)
    assert not builds
    assert tensorrt.module.registry.loaded == []
