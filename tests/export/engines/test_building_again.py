"""The inputs that an engine depends on: whatever decides what is built builds again, and nothing else does."""

import dataclasses
import shutil
from types import SimpleNamespace

import onnx
import pytest

from srflow_export.engines._builder import BuilderOptions
from srflow_export.engines._library import Library
from srflow_export.engines._pairs import build_engines
from srflow_sdk.model.engine_records import LrProfile
from srflow_sdk.system.hardware import Gpu
from tests.export.engines.conftest import REQUEST

HERE = Library(
    runtime="tensorrt_rtx",
    module=SimpleNamespace(ComputeCapability=SimpleNamespace(__members__={"SM89": 1, "SM120": 2})),
    version="1.7.1.116",
    gpu=Gpu(name="G", compute_capability="9.0", cuda="13.0"),
)


@pytest.fixture
def builds(monkeypatch):
    """Names of the graphs that were built from, by a library that is not there."""
    names = []
    monkeypatch.setattr(
        "srflow_export.engines._pairs.build_engine", lambda _, graph, *__, **___: names.append(graph.name) or b"engine"
    )
    monkeypatch.setattr("srflow_export.engines._pairs.check_plan", lambda *_: True)
    return names


def build_again(folder, manifest, request, here):
    shutil.rmtree(folder / "engines", ignore_errors=True)
    build_engines(folder, manifest, request, library=here)


@pytest.mark.parametrize(
    ("request_changes", "library_changes"),
    [
        ({"precision": "fp32"}, {}),
        ({"sms": (89,)}, {}),
        ({"profile": LrProfile(min=(16, 16), opt=(64, 64), max=(168, 168))}, {}),
        ({"builder": BuilderOptions(level=2)}, {}),
        ({"builder": BuilderOptions(workspace=1 << 30)}, {}),
        ({}, {"version": "1.7.1.117"}),
        ({}, {"runtime": "tensorrt"}),
        ({}, {"gpu": None}),
        ({}, {"gpu": Gpu(name="H", compute_capability="9.0", cuda="13.0")}),
        ({}, {"gpu": Gpu(name="G", compute_capability="8.9", cuda="13.0")}),
        ({}, {"gpu": Gpu(name="G", compute_capability="9.0", cuda="13.1")}),
    ],
    ids=str,
)
def test_whatever_decides_what_is_built_builds_again(folder, manifest, builds, request_changes, library_changes):
    build_again(folder, manifest, REQUEST, HERE)
    build_again(folder, manifest, REQUEST, HERE)
    assert len(builds) == 2
    changed = dataclasses.replace(REQUEST, **request_changes), dataclasses.replace(HERE, **library_changes)
    build_again(folder, manifest, *changed)
    assert builds[2:] == ["encoder.onnx", "sampler.onnx"]
    build_again(folder, manifest, *changed)
    build_again(folder, manifest, REQUEST, HERE)
    assert len(builds) == 4


def test_another_graph_builds_again(folder, manifest, builds):
    build_again(folder, manifest, REQUEST, HERE)
    model = onnx.load(folder / "sampler.onnx")
    model.doc_string = "another"
    onnx.save(model, folder / "sampler.onnx")
    build_again(folder, manifest, REQUEST, HERE)
    assert builds == ["encoder.onnx", "sampler.onnx", "sampler.onnx"]
