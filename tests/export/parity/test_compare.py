"""Two bundles, a bundle and a checkpoint, two devices: side by side, with the worse one's promise
as the bound."""

import shutil
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from polygraphy.backend import trt
from polygraphy.backend.onnxrt import OnnxrtRunner

from srflow_export.parity import compare as comparing
from srflow_export.parity.compare import compare
from srflow_export.parity.measure import TAUS
from srflow_export.parity.photographs import photo_patches
from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.errors import ArgumentError, BundleError, DeviceError, ExportError
from srflow_sdk.model.engine_records import LrProfile
from srflow_training import RRDB, save_checkpoint
from tests.export.running import run, save_tiny
from tests.sdk.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    write_tiny_bundle(folder / "one.srflow")
    write_tiny_bundle(folder / "brighter.srflow", gain=1.01)
    write_tiny_bundle(folder / "half.srflow", half_overflow=True, precision="fp16")
    write_tiny_bundle(folder / "x8.srflow", scale=8, size_multiple=1)
    return folder


def test_a_device_gives_what_the_graphs_give(folder):
    rows = compare(str(folder / "one.srflow"), f"{folder / 'one.srflow'}@cpu")
    assert [(row.photo, row.tau) for row in rows] == [
        (photo, tau) for photo in ("edges", "face", "fur", "sky") for tau in TAUS
    ]
    assert {row.graph for row in rows} == {f"{folder / 'one.srflow'}@cpu"}
    assert min(row.psnr_db for row in rows) > 120
    assert not any(row.levels_db for row in rows)  # a device shows no levels


def test_a_precision_is_compared_as_an_application_has_it(monkeypatch):
    monkeypatch.setattr(
        comparing,
        "photo_patches",
        lambda *arguments, **limits: photo_patches(*arguments, **limits)[:1],
    )
    (row, *_) = rows = compare("x4-small", "x4-small@openvino@bf16")
    assert row.graph == "x4-small@openvino@bf16"
    assert 43 < min(row.psnr_db for row in rows) < 80  # rounded, and fine enough


def test_a_path_may_have_an_at(folder, tmp_path):
    shutil.copytree(folder / "one.srflow", tmp_path / "a@b" / "one.srflow")
    assert compare(f"{tmp_path}/a@b/one.srflow", f"{tmp_path}/a@b/one.srflow@cpu@bundle")


def test_bundles_that_differ_are_shown_in_a_table_and_end_with_status_1(folder):
    result = run("--compare", folder / "one.srflow", folder / "brighter.srflow")
    assert result.exit_code == 1
    *lines, error = (
        line for line in result.output.splitlines() if not line.startswith("comparing")
    )  # slow machines
    assert len(lines) == 1 + 4 * len(TAUS)
    assert error.startswith(f"error: {folder / 'brighter.srflow'} at tau ")
    assert f"dB against {folder / 'one.srflow'}, but 90 dB are needed" in error


def test_the_bound_is_the_lower_precisions(folder):
    with pytest.raises(ExportError, match=r"values are not finite, unlike those of .*one\.srflow"):
        compare(str(folder / "one.srflow"), str(folder / "half.srflow"))
    # 1 % brighter is 40 dB down or so: below what float32 promises, and int8 would
    write_tiny_bundle(folder / "int8.srflow", gain=1.005, precision="int8")
    rows = compare(str(folder / "one.srflow"), str(folder / "int8.srflow"))
    assert 38 < np.min([row.psnr_db for row in rows]) < 90


def test_a_checkpoint_is_run_in_torch_and_levels_are_compared(folder):
    network = str(save_tiny(folder / "net.safetensors"))
    rows = compare(network, network)
    assert {tuple(row.levels_db.items()) for row in rows} == {((3, 200.0), (2, 200.0), (1, 200.0))}


def profile(low, high):
    return LrProfile(min=(low, low), opt=(high, high), max=(high, high))


@pytest.mark.parametrize(
    ("low", "high", "size"), [(2, 240, (40, 48)), (2, 32, (32, 32)), (64, 96, (64, 64))]
)
def test_patches_fit_the_sizes_that_engines_take(low, high, size):
    patches = photo_patches(2, limits=[profile(low, high)])
    assert {patch.lr.shape[2:] for patch in patches} == {size}


def test_a_device_with_limits_is_compared_within_them(folder, monkeypatch):
    monkeypatch.setattr(OnnxRuntimeBackend, "window_limits", property(lambda _self: profile(2, 32)))
    sizes = []
    encode = OnnxRuntimeBackend.encode_impl
    monkeypatch.setattr(
        OnnxRuntimeBackend,
        "encode_impl",
        lambda self, lr: sizes.append(lr.shape[2:]) or encode(self, lr),
    )
    compare(str(folder / "one.srflow"), f"{folder / 'one.srflow'}@cpu")
    assert set(sizes) == {(32, 32)}


def test_engines_alone_are_run_by_polygraphys_runner(folder, monkeypatch):
    """With ONNX Runtime in TensorRT's place: which tensors go in, and which picture comes out."""

    class OnGraph(OnnxrtRunner):
        def __init__(self, graph, allocation_strategy):
            super().__init__(onnxruntime.InferenceSession(graph))

        def infer(self, feed, copy_outputs_to_host=True):
            return super().infer(feed)

    monkeypatch.setattr(trt, "TrtRunner", OnGraph)
    monkeypatch.setattr(trt, "EngineFromBytes", lambda graph: graph)
    record = SimpleNamespace(
        encoder="encoder.onnx",
        sampler="sampler.onnx",
        runtime="tensorrt",
        profile=profile(2, 32),
    )
    monkeypatch.setattr(comparing, "select_engines", lambda _: (record, None, None))
    rows = compare(str(folder / "one.srflow"), f"{folder / 'one.srflow'}@engines")
    assert len(rows) == 4 * len(TAUS)
    assert min(row.psnr_db for row in rows) > 120


@pytest.mark.parametrize(
    ("second", "kind", "says"),
    [
        ("one.srflow@engines", DeviceError, "has no TensorRT engines"),
        ("x8.srflow", ArgumentError, "they differ in scale or in their latents"),
        ("one.srflow@gpu", ArgumentError, "'gpu' is not one of auto, cpu, cuda"),
        ("one.srflow@int8@cpu", ArgumentError, "name a device, a precision, or DEVICE@PRECISION"),
        (
            "one.srflow@rounded@cpu",
            ArgumentError,
            "name a device, a precision, or DEVICE@PRECISION",
        ),
        ("one.srflow@cpu@int8", BundleError, r"has no encoder\.int8\.onnx"),
        ("net2.safetensors@cpu", ArgumentError, "runs only in torch"),
        ("rrdb.safetensors", ExportError, "holds only an LR encoder"),
        ("nothing.srflow", BundleError, "no such bundle"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(folder, second, kind, says):
    save_tiny(folder / "net2.safetensors")
    save_checkpoint(folder / "rrdb.safetensors", RRDB(scale=4, nf=8, growth=4, blocks=2))
    with pytest.raises(kind, match=says):
        compare(str(folder / "one.srflow"), str(folder / second))
