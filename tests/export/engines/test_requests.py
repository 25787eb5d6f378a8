"""Requests for engines: what they may ask for, what is refused, in which words, and the command for
the same."""

import dataclasses
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from srflow_export.engines import requests
from srflow_export.engines.graphs import read_graph
from srflow_export.engines.requests import (
    EngineRequest,
    Library,
    check_profile,
    check_request,
    format_command,
    load_library,
    parse_shapes,
)
from srflow_sdk.errors import ArgumentError, ExportError, MissingExtraError
from srflow_sdk.model.engine_records import LrProfile
from srflow_sdk.system.hardware import Gpu
from tests.export.engines.conftest import REQUEST
from tests.sdk.tiny_bundle import tiny_manifest


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sms": ()}, "add --sm"),
        ({"runtime": "tensorrt"}, "--sm goes with --rtx"),
    ],
)
def test_requests_that_cannot_be_are_refused(changes, words):
    with pytest.raises(ArgumentError, match=words):
        check_request(dataclasses.replace(REQUEST, **changes))


def test_the_command_says_all_that_was_asked_for_and_survives_the_shell():
    request = EngineRequest(
        runtime="tensorrt_rtx",
        precision="fp16",
        sms=(120, 89, 89),
        profile=parse_shapes("16,88x120,256"),
        level=0,
    )
    assert shlex.split(format_command(request, bundle=Path("my models/x4.srflow"))) == [
        *(
            "srflow-export",
            "--engines-for",
            "my models/x4.srflow",
            "--rtx",
            "fp16",
            "--sm",
            "89",
            "120",
        ),
        *("--shapes", "16x16,88x120,256x256", "--builder-level", "0"),
    ]
    plain = EngineRequest(runtime="tensorrt", precision="fp32")
    assert format_command(plain, bundle="B") == "srflow-export --engines-for B --trt fp32"


def test_shapes_are_squares_or_height_by_width():
    assert parse_shapes("16,88,256") == LrProfile(min=(16, 16), opt=(88, 88), max=(256, 256))
    assert parse_shapes("16x20, 88X100, 256×300") == LrProfile(
        min=(16, 20), opt=(88, 100), max=(256, 300)
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("16,88", "expected three sizes, not 2"),
        ("16,8x8x8,256", "'8x8x8' is not a size"),
        ("16,٨٨,256", "is not a size"),
        ("16x16,88x300,256x256", "must be in order"),
        ("16,88,99999", "must be in order, from 1 to 16384"),
    ],
)
def test_bad_shapes_are_refused_with_an_example(text, why):
    with pytest.raises(ArgumentError, match=why) as caught:
        parse_shapes(text)
    assert "16,88,256" in str(caught.value)


def test_sides_that_the_model_does_not_take_are_refused_with_the_next_that_it_does():
    manifest = tiny_manifest(size_multiple=8)
    check_profile(parse_shapes("16,88,256"), manifest)
    with pytest.raises(ArgumentError, match=r"multiples of 8, and 90x100 is not; use 96x104"):
        check_profile(parse_shapes("16,90x100,256"), manifest)


def test_every_input_has_the_size_of_its_level(exported):
    profile = parse_shapes("16x20,88x100,256x300")
    encoder = read_graph(exported / "encoder.onnx", precision="fp16").input_shapes(profile, scale=4)
    assert encoder == {"lr": ((1, 3, 16, 20), (1, 3, 88, 100), (1, 3, 256, 300))}
    sampler = read_graph(exported / "sampler.onnx", precision="fp16").input_shapes(profile, scale=4)
    assert sampler["tau"] == ((1,), (1,), (1,))
    assert sampler["level1_step0_coupling"][0] == (1, 8, 32, 40)
    assert sampler["level3_step0_injector_scale"][2] == (1, 48, 128, 150)
    assert sampler["noise_level2"][:2] == ((1, 12, 16, 20), (1, 12, 88, 100))
    assert len(sampler) == 3 * len(("coupling", "injector_scale", "injector_shift", "noise")) + 1


def test_a_missing_library_says_what_is_missing_how_to_get_it_and_how_to_build_elsewhere(
    monkeypatch,
):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(requests, "find_gpu", lambda: None)
    words = (
        r"TensorRT is not installed: .*srflow-sdk\[tensorrt\].*needs an NVIDIA GPU.*: "
        r"srflow-export --this$"
    )
    with pytest.raises(MissingExtraError, match=words):
        load_library("tensorrt", elsewhere="srflow-export --this")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(
        MissingExtraError, match=r'TensorRT-RTX is not installed.*"srflow-sdk\[rtx\]"'
    ) as caught:
        load_library("tensorrt_rtx", elsewhere="")
    assert "NVIDIA GPU" not in str(caught.value)


def test_bindings_without_their_libraries_are_told_apart(monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text(
        "raise ImportError('libnvinfer.so.11: cannot open shared object file')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(
        MissingExtraError, match=r"does not load \(libnvinfer.so.11: .*--force-reinstall"
    ):
        load_library("tensorrt", elsewhere="")


@pytest.mark.parametrize("version", ["10.14.1.48", "8.6.1", "9.3"])
def test_an_old_library_is_refused(monkeypatch, version):
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(version))
    monkeypatch.setattr(
        requests, "find_gpu", lambda: Gpu(name="G", compute_capability="9.0", cuda="13.0")
    )
    with pytest.raises(ExportError, match=f"{version} is too old; 10.15 is the first.*--upgrade"):
        load_library("tensorrt", elsewhere="")


@pytest.mark.parametrize("version", ["10.15.1.29", "11.4.0.106"])
def test_tensorrt_without_a_gpu_is_refused_and_with_one_is_taken(monkeypatch, version):
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(version))
    monkeypatch.setattr(requests, "find_gpu", lambda: None)
    with pytest.raises(
        ExportError,
        match=rf"{version} is installed, but there is no NVIDIA GPU.*--rtx.*another: X$",
    ):
        load_library("tensorrt", elsewhere="X")
    gpu = Gpu(name="G", compute_capability="9.0", cuda="13.0")
    monkeypatch.setattr(requests, "find_gpu", lambda: gpu)
    assert load_library("tensorrt", elsewhere="") == Library(
        runtime="tensorrt", module=sys.modules["tensorrt"], version=version, gpu=gpu
    )


def fake_tensorrt(version):
    module = ModuleType("tensorrt")
    module.__version__ = version
    return module
