"""Engines put into a bundle that is there already: with plugins, by several processes at once.

The real plugin library in the real parser: tests/native/test_tensorrt_plugins.py.
"""

import contextlib
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from filelock import FileLock, Timeout

from srflow_export import onnx_models
from srflow_export.bundle_writer import staged_bundle
from srflow_export.engines import bundles
from srflow_export.engines.bundles import add_engines, build_engines, default_profile
from srflow_export.engines.graphs import PLUGINS_ABI
from srflow_export.engines.requests import EngineRequest, Library, parse_shapes
from srflow_sdk._version import __version__
from srflow_sdk.backends import native_library
from srflow_sdk.backends.native_library import PLUGINS
from srflow_sdk.errors import BundleError, DeviceError, ExportError
from srflow_sdk.geometry.tiles import core_size
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import PluginLibrary
from srflow_sdk.system.hardware import Gpu
from tests.export.engines.conftest import REQUEST
from tests.networks import random_srflow, tiny_config
from tests.sdk.backends.fake_tensorrt import write_plugin_library
from tests.sdk.tiny_bundle import tiny_manifest


@pytest.mark.parametrize(
    ("runtime", "free", "side", "whole"),
    [
        ("tensorrt", 78_000_000_000, 544, (256, 512)),
        ("tensorrt", 23_000_000_000, 400, (256,)),
        ("tensorrt", 8 << 30, 240, ()),
        ("tensorrt", None, 240, ()),
        ("tensorrt_rtx", 78_000_000_000, 240, (256, 512)),  # built for GPUs that are elsewhere
        ("tensorrt_rtx", 8 << 30, 240, ()),
    ],
)
def test_default_sizes_follow_the_gpu_and_pictures_are_in_one_piece(
    monkeypatch, runtime, free, side, whole
):
    full_size = tiny_manifest(precision="fp16", halo=16, conditioning_bytes_per_pixel=16_896)
    monkeypatch.setattr("srflow_export.engines.bundles.gpu_free_memory", lambda: free)
    profile = default_profile(full_size, runtime)
    assert profile.opt == (side, side)
    budget = (free or 8 << 30) // 2
    cores = {
        size: core_size(
            "auto",
            height=size,
            width=size,
            multiple=2,
            halo=16,
            conditioning_bytes_per_pixel=16_896,
            budget=budget,
            limits=profile,
        )
        for size in (256, 512)
    }
    assert tuple(size for size, core in cores.items() if core is None) == whole


TENSORRT = EngineRequest(runtime="tensorrt", precision="fp16")

GPU = Gpu(name="NVIDIA H100 80GB HBM3", compute_capability="9.0", cuda="13.0")


class Registry:
    """The rule of the parser: a node is a plugin only if its creator is there by then. See
    IPluginRegistry."""

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
    vars(module).update(
        __version__="10.15.1.29", get_plugin_registry=lambda: registry, registry=registry
    )
    return Library(runtime="tensorrt", module=module, version=module.__version__, gpu=GPU)


@pytest.fixture
def calls(monkeypatch):
    """Calls of the builder: graph, whether with plugins, whether they were loaded. Each gives
    another engine."""
    found = []

    def build(trt, graph, *_, plugins, **__):
        found.append((graph.name, plugins, bool(trt.registry.loaded)))
        return f"{graph.name} {len(found)}".encode()

    monkeypatch.setattr("srflow_export.engines.bundles.build_engine", build)
    return found


@pytest.fixture(scope="session")
def with_nodes(exported, tmp_path_factory):
    folder = shutil.copytree(exported, tmp_path_factory.mktemp("nodes") / "exported")
    sampler = onnx_models.sampler_model(
        random_srflow(tiny_config(steps=1)), "fp16", flow_nodes=True
    )
    (folder / "sampler.onnx").write_bytes(onnx_models.serialise(sampler, {}))
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


def test_the_library_is_loaded_before_the_graphs_are_parsed_and_recorded(
    tensorrt, calls, plugged, manifest, beside
):
    library = write_plugin_library(beside / "libsrflow_trt.so", abi=PLUGINS_ABI)
    lines = []
    record = build_engines(plugged, manifest, TENSORRT, library=tensorrt, say=lines.append)
    assert calls == [("encoder.onnx", False, True), ("sampler.onnx", True, True)]
    assert record.plugins == PluginLibrary(version=__version__, tensorrt_major=10, abi=PLUGINS_ABI)
    assert lines == [
        f"flow operations: 3 plugins of {library}, which the engines need wherever they run"
    ]


def test_without_a_library_functions_are_built_and_the_line_says_how_to_get_one(
    tensorrt, calls, plugged, manifest, beside
):
    lines = []
    record = build_engines(plugged, manifest, TENSORRT, library=tensorrt, say=lines.append)
    assert record.plugins is None
    assert calls[1] == ("sampler.onnx", False, False)
    (line,) = lines
    assert line.startswith(
        "flow operations: 3 functions in standard operators, as there is no plugin library: "
    )
    assert "python -m srflow_export.native tensorrt" in line


def test_tensorrt_rtx_gets_functions(rtx, plugged, manifest, beside, monkeypatch):
    write_plugin_library(beside / "libsrflow_trt.so")
    found = []
    monkeypatch.setattr(
        "srflow_export.engines.bundles.build_engine",
        lambda *_, plugins, **__: found.append(plugins) or b"engine",
    )
    lines = []
    request = EngineRequest(runtime="tensorrt_rtx", precision="fp16", sms=(89,))
    assert build_engines(plugged, manifest, request, say=lines.append).plugins is None
    assert found == [False, False]
    assert lines == [
        "flow operations: 3 functions in standard operators, as TensorRT-RTX has no plugins"
    ]


@pytest.mark.parametrize(
    ("made", "error", "words"),
    [
        (
            {"major": 11},
            ExportError,
            rf"is for TensorRT 11 \(ABI 2\), not 10 \(ABI {PLUGINS_ABI}\): "
            r"build it again \(python -m",
        ),
        (
            {"abi": 1},
            ExportError,
            rf"is for TensorRT 10 \(ABI 1\), not 10 \(ABI {PLUGINS_ABI}\): build it",
        ),
        (
            {"major": 0},
            DeviceError,
            r"has no plugins for TensorRT: name a libsrflow_trt.so in SRFLOW_TENSORRT_PLUGINS",
        ),
        (
            {"version": "0.0.1"},
            DeviceError,
            r"is from srflow-sdk 0.0.1, but .*, or set SRFLOW_TENSORRT_PLUGINS= to",
        ),
    ],
    ids=["other TensorRT", "other plugins", "custom ops", "other SDK"],
)
def test_a_library_that_does_not_fit_is_refused_with_the_fix(
    tensorrt, calls, plugged, manifest, beside, made, error, words
):
    write_plugin_library(beside / "libsrflow_trt.so", **made)
    with pytest.raises(error, match=words):
        build_engines(plugged, manifest, TENSORRT, library=tensorrt)
    assert not calls
    assert tensorrt.module.registry.loaded == []


def test_the_plugins_that_engines_are_built_for_are_those_of_the_header():
    header = (Path(__file__).parents[3] / "runtime/include/srflow/srflow.h").read_text("utf-8")
    assert f"#define SRFLOW_PLUGINS_ABI {PLUGINS_ABI}\n" in header


def write_bundle(target, exported, manifest, names=("encoder.onnx", "sampler.onnx")):
    with staged_bundle(target) as stage:
        for name in names:
            (stage.path / name).write_bytes((exported / name).read_bytes())
        stage.commit(manifest)
    return target


@pytest.fixture
def bundle(exported, manifest, tmp_path):
    return write_bundle(tmp_path / "tiny.srflow", exported, manifest)


@pytest.fixture
def no_builds(rtx, monkeypatch):
    """Engines that only say what they are: test_build.py has real ones."""
    monkeypatch.setattr(
        "srflow_export.engines.bundles.build_engine",
        lambda trt, graph, shapes, request, **_: repr((graph.sha256, shapes, request.sms)).encode(),
    )


def test_engines_are_added_and_replaced_for_the_same_gpus_only(no_builds, bundle):
    before = Bundle.open(bundle).manifest
    add_engines(bundle, dataclasses.replace(REQUEST, sms=(89,)))
    add_engines(bundle, dataclasses.replace(REQUEST, sms=(120,)))
    first = Bundle.open(bundle).manifest
    assert [record.compute_capabilities for record in first.engines] == [("12.0",), ("8.9",)]
    profile = parse_shapes("16,32,64")
    add_engines(bundle, dataclasses.replace(REQUEST, sms=(89,), profile=profile))
    after = Bundle.open(bundle).manifest  # which verifies every file
    assert [(record.compute_capabilities, record.profile) for record in after.engines] == [
        (("8.9",), profile),
        (("12.0",), first.engines[0].profile),
    ]
    assert len(after.files) == 6
    assert after.engines[0].encoder == first.engines[1].encoder
    assert after.files[after.engines[0].encoder] != first.files[first.engines[1].encoder]
    assert dataclasses.replace(after, engines=(), files={}, digest="") == dataclasses.replace(
        before, files={}, digest=""
    )


def test_the_inverters_engine_is_added_kept_and_replaced_with_the_others(
    no_builds, exported, manifest, tmp_path
):
    write_bundle(
        tmp_path / "tiny.srflow",
        exported,
        manifest,
        ("encoder.onnx", "sampler.onnx", "inverter.onnx"),
    )
    for sm in (89, 120, 89):
        after = add_engines(tmp_path / "tiny.srflow", dataclasses.replace(REQUEST, sms=(sm,)))
    assert [record.compute_capabilities for record in after.engines] == [("8.9",), ("12.0",)]
    assert all(record.inverter in after.files for record in after.engines)
    assert len(Bundle.open(tmp_path / "tiny.srflow").manifest.files) == 3 + 6


def test_a_failed_build_leaves_the_bundle_as_it_was(rtx, bundle, monkeypatch):
    before = Bundle.open(bundle).manifest

    def fail(*_args, **_kwargs):
        raise ExportError("no")

    monkeypatch.setattr(bundles, "build_engines", fail)
    with pytest.raises(ExportError):
        add_engines(bundle, REQUEST)
    assert Bundle.open(bundle).manifest == before
    assert [path.name for path in bundle.parent.iterdir() if path.name != "cache"] == [bundle.name]


def test_engines_are_built_without_torch(bundle):
    code = "import sys, srflow_export.engines.bundles; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_engines_are_built_for_what_another_process_wrote_meanwhile_and_under_the_lock(
    no_builds, bundle, exported, manifest, cache_folder, monkeypatch
):
    @contextlib.contextmanager
    def waited(target, **options):
        write_bundle(target, exported, dataclasses.replace(manifest, name="the new one"))
        with staged_bundle(target, **options) as stage:
            (lock,) = (cache_folder / "locks").iterdir()
            with pytest.raises(Timeout):
                FileLock(lock).acquire(timeout=0)
            yield stage

    monkeypatch.setattr(bundles, "staged_bundle", waited)
    add_engines(bundle, REQUEST)
    assert Bundle.open(bundle).manifest.name == "the new one"


def test_what_is_no_bundle_is_refused_without_a_lock_beside_it(tmp_path):
    with pytest.raises(BundleError, match="there is no such bundle"):
        add_engines(tmp_path / "absent.srflow", REQUEST)
    assert not list(tmp_path.iterdir())
