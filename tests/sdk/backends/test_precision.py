"""What `precision=` computes, and what it refuses."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from srflow_sdk.backends import OnnxRuntimeBackend, open_backend, ways
from srflow_sdk.backends import openvino as graphs
from srflow_sdk.backends.ways import REFERENCE, Measured, Way
from srflow_sdk.errors import ArgumentError, BundleError, DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import FLOAT32_DB
from srflow_sdk.system.raising import is_installed
from srflow_sdk.upscaler import Upscaler

from ..tiny_bundle import write_tiny_bundle

INT8 = Way(device="cpu", precision="int8")
BF16 = Way(device="openvino", precision="bf16")
FLOAT32 = Way(device="openvino", precision="bundle")
INT8_OPENVINO = Way(device="openvino", precision="int8")
needs_openvino = pytest.mark.skipif(not is_installed("openvino"), reason="openvino is not installed")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)  # importing it fails
    monkeypatch.setattr(graphs, "_core", functools.cache(graphs._core.__wrapped__))  # which may have started before
    monkeypatch.setattr(ways, "is_installed", lambda _: False)


@pytest.fixture
def with_int8(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "int8.srflow", int8="near")


@pytest.fixture
def floats(photo: np.ndarray) -> np.ndarray:
    return (photo / 255).astype(np.float32)


def remember(bundle: Bundle, *found: Measured) -> None:
    """Let it be what an earlier start measured."""
    file = ways._file(bundle, 1)
    assert file is not None
    file.write_text(json.dumps([dataclasses.asdict(one) for one in found]))


def decibels(one: np.ndarray, other: np.ndarray) -> float:
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return -10 * math.log10(error) if error else math.inf


def test_bundle_is_what_was_exported_whatever_else_the_bundle_holds_and_was_measured(
    with_int8: Path, tiny_bundle: Path, floats: np.ndarray
) -> None:
    bundle = Bundle.open(with_int8)
    known = (REFERENCE, INT8, BF16, FLOAT32)
    remember(bundle, *(Measured(way=way, seconds=0.001 if way == INT8 else 1.0, decibels=60.0) for way in known))
    with Upscaler(with_int8, threads=1, precision="fastest") as fastest:
        assert fastest.precision == "int8"
        rounded = fastest.upscale(floats)
    with Upscaler(with_int8, threads=1) as plain, Upscaler(tiny_bundle, device="cpu", threads=1) as without:
        assert plain.precision == "bundle"
        picture = plain.upscale(floats)
        np.testing.assert_array_equal(picture, without.upscale(floats))
    assert 30 < decibels(picture, rounded) < 100


def test_bundle_computes_the_same_bits_as_its_graphs_in_a_plain_session(with_int8: Path, floats: np.ndarray) -> None:
    lr = np.ascontiguousarray(floats[:16, :16].transpose(2, 0, 1)[None])
    bundle = Bundle.open(with_int8)
    noise = {
        entry.level: np.ones((1, entry.channels, 64 >> entry.level, 64 >> entry.level), np.float32)
        for entry in bundle.manifest.latent_levels
    }
    backend = open_backend(bundle, device="cpu", threads=1)
    with OnnxRuntimeBackend(bundle, device="cpu", threads=1) as plain:
        expected = plain.sample(plain.encode(lr), noise, 0.8)
    np.testing.assert_array_equal(backend.sample(backend.encode(lr), noise, 0.8), expected)
    backend.deactivate()


@needs_openvino
def test_bundle_on_openvino_is_within_the_agreement_of_exact_devices(with_int8: Path, floats: np.ndarray) -> None:
    pictures = []
    for device in ("cpu", "openvino"):
        with Upscaler(with_int8, device=device, threads=1) as upscaler:  # type: ignore[arg-type]
            assert upscaler.precision == "bundle"
            pictures.append(upscaler.upscale(floats))
    assert decibels(*pictures) > FLOAT32_DB


def test_int8_runs_the_quantised_encoder(with_int8: Path) -> None:
    with Upscaler(with_int8, device="cpu", threads=1, precision="int8") as upscaler:
        assert (upscaler.device, upscaler.precision) == ("cpu", "int8")


@needs_openvino
def test_bf16_runs_on_openvino_or_says_that_the_processor_cannot(with_int8: Path, floats: np.ndarray) -> None:
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(DeviceError, match="no bfloat16 arithmetic"):
            Upscaler(with_int8, threads=1, precision="bf16")
        return
    with Upscaler(with_int8, threads=1, precision="bf16") as upscaler, Upscaler(with_int8, device="cpu") as exact:
        assert (upscaler.device, upscaler.precision) == ("openvino", "bf16")
        assert 38 < decibels(upscaler.upscale(floats), exact.upscale(floats)) < 100


@needs_openvino
def test_bf16_that_takes_longer_says_so(with_int8: Path, caplog: pytest.LogCaptureFixture) -> None:
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16 arithmetic")
    bundle = Bundle.open(with_int8)
    bf16 = Way(device="openvino", precision="bf16")
    for seconds, said in ((0.2, True), (0.05, False)):
        caplog.clear()
        remember(bundle, Measured(way=REFERENCE, seconds=0.1), Measured(way=bf16, seconds=seconds, decibels=50.0))
        open_backend(bundle, threads=1, precision="bf16").deactivate()
        assert ("bf16 takes longer than float32" in caplog.text) is said


@pytest.mark.parametrize(
    ("device", "precision", "error", "words"),
    [
        ("cuda", "int8", ArgumentError, "for processors"),
        ("webgpu", "bf16", ArgumentError, "for processors"),
        ("cpu", "bf16", ArgumentError, "computed by OpenVINO"),
        ("cpu", "fp16", ArgumentError, "must be one of bundle, bf16, int8, fastest"),
    ],
)
def test_what_no_device_computes_is_refused(
    with_int8: Path, device: str, precision: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Upscaler(with_int8, device=device, precision=precision)  # type: ignore[arg-type]


def test_a_bundle_without_an_int8_encoder_names_the_command_that_adds_it(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match=f"srflow-export --bundle {tiny_bundle} --also int8"):
        Upscaler(tiny_bundle, precision="int8")


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_half_bundle_computes_in_less_already(tmp_path: Path, precision: str) -> None:
    half = write_tiny_bundle(tmp_path / "half.srflow", precision="fp16")
    with pytest.raises(ArgumentError, match="computes in fp16 already"):
        Upscaler(half, precision=precision)  # type: ignore[arg-type]


def test_fastest_of_a_half_bundle_is_the_bundle(tmp_path: Path) -> None:
    half = write_tiny_bundle(tmp_path / "half.srflow", precision="fp16")
    with Upscaler(half, threads=1, precision="fastest") as upscaler:
        assert (upscaler.device, upscaler.precision) == ("cpu", "bundle")


@needs_openvino
def test_fastest_does_not_take_bf16_where_the_processor_has_none(
    with_int8: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO would compute it in float32, and the picture's record would say bf16."""
    monkeypatch.setattr(ways, "has_bf16", lambda: False)
    bundle = Bundle.open(with_int8)
    found = ways.measured(bundle, threads=1)
    assert list(found) == [REFERENCE, INT8_OPENVINO, INT8, BF16, FLOAT32]
    assert found[BF16].seconds == math.inf
    assert found[BF16].error == "this processor has no bfloat16 arithmetic"
    assert ways._read(ways._file(bundle, 1)) == found, "it is not measured again"


@pytest.mark.usefixtures("without_openvino")
def test_without_openvino_bf16_names_the_extra_and_the_others_run_on_onnx_runtime(with_int8: Path) -> None:
    with pytest.raises(DeviceError, match=r'pip install "srflow-sdk\[openvino\]"'):
        Upscaler(with_int8, precision="bf16")
    with Upscaler(with_int8, threads=1, precision="int8") as upscaler:
        assert upscaler.device == "cpu"
    with Upscaler(with_int8, threads=1, precision="fastest") as upscaler:
        assert upscaler.device == "cpu"


def on_openvino(seconds: float, decibels: float) -> Measured:
    return Measured(way=Way(device="openvino", precision="int8"), seconds=seconds, decibels=decibels)


@needs_openvino
@pytest.mark.parametrize(
    ("theirs", "our_db", "runs_on"),
    [
        (on_openvino(0.01, 40.0), 42.0, "openvino"),
        (on_openvino(0.01, 44.0), 60.0, "openvino"),  # further than 3 dB, and still hard to see
        (on_openvino(0.11, 44.0), 45.0, "cpu"),
        (on_openvino(0.01, 41.0), 45.0, "cpu"),
        (on_openvino(0.01, 11.0), 45.0, "cpu"),
        (Measured(way=Way(device="openvino", precision="int8"), error="it did not start"), 45.0, "cpu"),
    ],
)
def test_int8_runs_where_it_is_faster_and_right(with_int8: Path, theirs: Measured, our_db: float, runs_on: str) -> None:
    bundle = Bundle.open(with_int8)
    ours = Measured(way=INT8, seconds=0.1, decibels=our_db)
    remember(bundle, Measured(way=REFERENCE, seconds=0.2), theirs, ours)
    backend = open_backend(bundle, threads=1, precision="int8")
    assert (backend.device, backend.precision) == (runs_on, "int8")
    backend.deactivate()
    if theirs.error is not None or theirs.decibels < min(our_db - 3, 43):
        with pytest.raises(DeviceError, match="int8 gives no picture near enough on OpenVINO here"):
            open_backend(bundle, device="openvino", threads=1, precision="int8")


def test_a_tile_that_is_not_finite_in_int8_is_computed_again_in_float32(
    tmp_path: Path, tiny_bundle: Path, floats: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    overflowing = write_tiny_bundle(tmp_path / "infinite.srflow", int8="infinite")
    with Upscaler(overflowing, device="cpu", threads=1, precision="int8") as upscaler:
        picture = upscaler.upscale(floats)
        samples = upscaler.encode(floats).samples(2)  # with conditioning that is kept
    assert "computing it again in float32" in caplog.text
    with Upscaler(tiny_bundle, device="cpu", threads=1) as exact:
        np.testing.assert_allclose(picture, exact.upscale(floats), atol=1e-6)
        np.testing.assert_allclose(samples[1], exact.upscale(floats, sample=1), atol=1e-6)
