"""What is fastest is measured once for each machine and model, and remembered."""

import dataclasses
import functools
import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from srflow_sdk.backends import base, open_backend, openvino as graphs, ways
from srflow_sdk.backends.ways import REFERENCE, Measured, Way, choose, measured
from srflow_sdk.errors import (
    ArgumentError,
    BundleError,
    CancelledError,
    DeviceError,
    OutOfMemoryError,
)
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.hardware import is_installed
from srflow_sdk.system.interrupts import PassingError
from srflow_sdk.upscaler import Upscaler

from ..tiny_bundle import INT8_ROW, tiny_manifest, write_tiny_bundle

INT8 = Way(device="cpu", precision="int8")
OPENVINO = Way(device="openvino", precision="bundle")
BF16 = Way(device="openvino", precision="bf16")
INT8_OPENVINO = Way(device="openvino", precision="int8")
MANIFEST = tiny_manifest(parity=[INT8_ROW])


def timed(way, seconds, decibels=math.inf):
    return Measured(way=way, seconds=seconds, decibels=decibels)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "precision"


@pytest.fixture(autouse=True)
def _one_round(monkeypatch):
    """Repetitions only make times more exact."""
    monkeypatch.setattr(ways, "_ROUNDS", 1)


@pytest.fixture
def bundle(tmp_path):
    return Bundle.open(write_tiny_bundle(tmp_path / "tiny.srflow", int8="near"))


@pytest.fixture
def measurements(monkeypatch):
    """How many measurements began so far, by what the log says."""
    begun = []

    def note(message, *_):
        if message.startswith("measuring"):
            begun.append(message)

    monkeypatch.setattr(ways._log, "info", note)
    return lambda: len(begun)


@pytest.fixture(autouse=True)
def _without_openvino(monkeypatch):
    """Measure its ways only where a test asks for it."""
    monkeypatch.setattr(ways, "is_installed", lambda _: False)


def both(bundle, *, threads=1):
    found = measured(bundle, threads=threads)
    assert list(found) == [REFERENCE, INT8]
    return list(found.values())


def test_what_was_measured_is_not_measured_again(bundle, measurements):
    first = both(bundle)
    assert [one.way for one in first] == [REFERENCE, INT8]
    assert all(0 < one.seconds < math.inf and one.error is None for one in first)
    assert first[0].decibels == math.inf
    assert 38 < first[1].decibels < 90
    assert both(bundle) == first
    assert measurements() == 1


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (OutOfMemoryError("memory ran out"), "_make_backend"),
        (PassingError("no threads"), "_seconds"),
        (MemoryError(), "_make_backend"),
    ],
)
def test_a_failure_that_may_pass_is_measured_at_the_next_start(bundle, monkeypatch, error, name):
    real = getattr(ways, name)

    def failing(first, second, *rest, **keywords):
        if "int8" in (getattr(first, "precision", None), getattr(second, "precision", None)):
            raise error
        return real(first, second, *rest, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(ways, name, failing)
        backend = open_backend(bundle, device="cpu", threads=1, precision="fastest")
        assert (backend.device, backend.precision) == ("cpu", "bundle")
        backend.deactivate()
        assert isinstance(error, MemoryError) or str(error) in (both(bundle)[1].error or "")
    assert both(bundle)[1].error is None


def test_a_way_is_timed_by_its_ratio_to_the_reference_at_that_moment(bundle, monkeypatch):
    seconds = {"bundle": 2.0, "int8": 1.5}

    def taken(backend, *_):
        if backend.precision == "int8":
            seconds["bundle"] = 6.0  # from now on the machine is busy
        return seconds[backend.precision]

    monkeypatch.setattr(ways, "_seconds", taken)
    assert [one.seconds for one in both(bundle)] == [2.0, 0.5]


def test_a_change_of_what_it_depends_on_and_a_damaged_entry_are_measured_again(
    bundle, monkeypatch, tmp_path, cache
):
    calls = []
    monkeypatch.setattr(
        ways, "_measure", lambda *_: calls.append(1) or ([timed(REFERENCE, 1.0)], True)
    )

    def again(bundle=bundle, threads=1):
        before = len(calls)
        for _ in range(2):
            assert ways.measured(bundle, threads=threads) == {REFERENCE: timed(REFERENCE, 1.0)}
        return len(calls) == before + 1

    assert again()
    assert not again()
    assert again(threads=2)
    assert again(
        Bundle.open(write_tiny_bundle(tmp_path / "other.srflow", int8="near", default_tau=0.5))
    )
    for name, value in (("processor", lambda: "another"), ("__version__", "0.0.1")):
        monkeypatch.setattr(ways, name, value)
        assert again()
    for content in (b"", b'{"way": 1}', b"[" * 5000):
        for entry in cache.iterdir():
            entry.write_bytes(content)
        assert again()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), CancelledError("cancelled")])
def test_an_interrupted_measurement_leaves_nothing(bundle, cache, monkeypatch, error):
    draw = base.window_noise
    calls = []

    def interrupted(*arguments, **keywords):
        calls.append(1)
        if len(calls) == 5:  # while the second way is compared
            raise error
        return draw(*arguments, **keywords)

    monkeypatch.setattr(base, "window_noise", interrupted)
    with pytest.raises(type(error)):
        both(bundle)
    assert list(cache.iterdir()) == []


def test_of_two_at_a_time_one_measures_and_the_other_takes_its_result(bundle, measurements):
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: both(bundle), range(2))
    assert first == second
    assert measurements() == 1


def test_without_a_cache_folder_it_is_measured_each_time(bundle, measurements, monkeypatch):
    monkeypatch.setenv("SRFLOW_CACHE_DIR", "/dev/null/none")
    both(bundle)
    both(bundle)
    assert measurements() == 2


def test_a_way_that_does_not_start_is_recorded_and_not_chosen(bundle, measurements, monkeypatch):
    real = ways._make_backend

    def failing(bundle, way, threads):
        if way == INT8:
            raise DeviceError("it does not start")
        return real(bundle, way, threads)

    monkeypatch.setattr(ways, "_make_backend", failing)
    found = both(bundle)
    assert found[1].error == "it does not start"
    assert choose({one.way: one for one in found}, MANIFEST, device="auto") == REFERENCE
    assert both(bundle) == found
    assert measurements() == 1


@pytest.mark.parametrize("int8", ["other", "infinite"])
def test_int8_with_other_pictures_than_recorded_is_not_chosen(tmp_path, int8):
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "wrong.srflow", int8=int8))
    found = both(bundle)
    assert found[1].decibels < 38
    assert found[1].seconds == math.inf
    with_time = {
        REFERENCE: found[0],
        INT8: Measured(way=INT8, seconds=1e-9, decibels=found[1].decibels),
    }
    assert choose(with_time, bundle.manifest, device="cpu") == REFERENCE


@pytest.mark.parametrize(
    ("found", "device", "chosen"),
    [
        ([timed(REFERENCE, 1.0), timed(INT8, 0.5, 44)], "auto", INT8),
        ([timed(REFERENCE, 1.0), timed(INT8, 0.95, 44)], "auto", REFERENCE),
        ([timed(REFERENCE, 1.0), timed(INT8, 0.5, 40)], "auto", REFERENCE),
        ([timed(REFERENCE, 1.0), timed(OPENVINO, 0.5, 120)], "auto", OPENVINO),
        ([timed(REFERENCE, 1.0), timed(OPENVINO, 0.5, 60)], "auto", REFERENCE),
        (
            [timed(REFERENCE, 1.0), timed(OPENVINO, 0.5, 120), timed(BF16, 0.48, 50)],
            "auto",
            OPENVINO,
        ),
        (
            [timed(REFERENCE, 1.0), timed(INT8_OPENVINO, 0.5, 44), timed(BF16, 0.4, 50)],
            "auto",
            BF16,
        ),
        (
            [timed(REFERENCE, 0.1), timed(OPENVINO, 1.0, 120), timed(BF16, 0.5, 50)],
            "openvino",
            BF16,
        ),
        ([timed(REFERENCE, 0.1), timed(OPENVINO, 1.0, 20)], "openvino", None),
    ],
)
def test_the_fastest_within_the_gate_is_chosen(found, device, chosen):
    assert choose({one.way: one for one in found}, MANIFEST, device=device) == chosen


# What `precision=` computes, and what it refuses.

needs_openvino = pytest.mark.skipif(
    not is_installed("openvino"), reason="openvino is not installed"
)


@pytest.fixture
def with_openvino(monkeypatch):
    monkeypatch.setattr(ways, "is_installed", is_installed)


@pytest.fixture
def floats(photo):
    return (photo / 255).astype(np.float32)


def remember(bundle, *found):
    """Let it be what an earlier start measured."""
    file = ways._file(bundle, 1)
    assert file is not None
    file.write_text(json.dumps([dataclasses.asdict(one) for one in found]))


def decibels(one, other):
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return -10 * math.log10(error) if error else math.inf


def test_bundle_is_what_was_exported_whatever_else_the_bundle_holds_and_was_measured(
    bundle, tiny_bundle, floats
):
    known = (REFERENCE, INT8, BF16, OPENVINO)
    remember(
        bundle,
        *(Measured(way=way, seconds=0.001 if way == INT8 else 1.0, decibels=60.0) for way in known),
    )
    with Upscaler(bundle, threads=1, precision="fastest") as fastest:
        assert fastest.precision == "int8"
        rounded = fastest.upscale(floats)
    with (
        Upscaler(bundle, threads=1) as plain,
        Upscaler(tiny_bundle, device="cpu", threads=1) as without,
    ):
        assert plain.precision == "bundle"
        picture = plain.upscale(floats)
        np.testing.assert_array_equal(picture, without.upscale(floats))
    assert 30 < decibels(picture, rounded) < 100


@needs_openvino
@pytest.mark.usefixtures("with_openvino")
def test_bf16_runs_on_openvino_or_says_that_the_processor_cannot(bundle, floats):
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(DeviceError, match="no bfloat16 arithmetic"):
            Upscaler(bundle, threads=1, precision="bf16")
        return
    with (
        Upscaler(bundle, threads=1, precision="bf16") as upscaler,
        Upscaler(bundle, device="cpu") as exact,
    ):
        assert (upscaler.device, upscaler.precision) == ("openvino", "bf16")
        assert 38 < decibels(upscaler.upscale(floats), exact.upscale(floats)) < 100


@needs_openvino
@pytest.mark.usefixtures("with_openvino")
def test_fastest_does_not_take_bf16_where_the_processor_has_none(bundle, monkeypatch):
    """OpenVINO would compute it in float32, and the picture's record would say bf16."""
    monkeypatch.setattr(ways, "has_bf16", lambda: False)
    found = ways.measured(bundle, threads=1)
    assert list(found) == [REFERENCE, INT8_OPENVINO, INT8, BF16, OPENVINO]
    assert found[BF16].seconds == math.inf
    assert found[BF16].error == "this processor has no bfloat16 arithmetic"
    assert ways._read(ways._file(bundle, 1)) == found, "it is not measured again"


def test_a_tile_that_is_not_finite_in_int8_is_computed_again_in_float32(
    tmp_path, tiny_bundle, floats, caplog
):
    overflowing = write_tiny_bundle(tmp_path / "infinite.srflow", int8="infinite")
    with Upscaler(overflowing, device="cpu", threads=1, precision="int8") as upscaler:
        assert (upscaler.device, upscaler.precision) == ("cpu", "int8")
        picture = upscaler.upscale(floats)
        samples = upscaler.encode(floats).samples(2)  # with conditioning that is kept
    assert "computing it again in float32" in caplog.text
    with Upscaler(tiny_bundle, device="cpu", threads=1) as exact:
        np.testing.assert_allclose(picture, exact.upscale(floats), atol=1e-6)
        np.testing.assert_allclose(samples[1], exact.upscale(floats, sample=1), atol=1e-6)


@needs_openvino
@pytest.mark.usefixtures("with_openvino")
@pytest.mark.parametrize(
    ("theirs", "our_db", "runs_on"),
    [
        (timed(INT8_OPENVINO, 0.01, 40.0), 42.0, "openvino"),
        # further than 3 dB, and still hard to see
        (timed(INT8_OPENVINO, 0.01, 44.0), 60.0, "openvino"),
        (timed(INT8_OPENVINO, 0.11, 44.0), 45.0, "cpu"),
        (timed(INT8_OPENVINO, 0.01, 41.0), 45.0, "cpu"),
        (Measured(way=INT8_OPENVINO, error="it did not start"), 45.0, "cpu"),
    ],
)
def test_int8_runs_where_it_is_faster_and_right(bundle, theirs, our_db, runs_on):
    remember(bundle, timed(REFERENCE, 0.2), theirs, timed(INT8, 0.1, our_db))
    backend = open_backend(bundle, threads=1, precision="int8")
    assert (backend.device, backend.precision) == (runs_on, "int8")
    backend.deactivate()
    if theirs.error is not None or theirs.decibels < min(our_db - 3, 43):
        with pytest.raises(DeviceError, match="int8 gives no picture near enough on OpenVINO here"):
            open_backend(bundle, device="openvino", threads=1, precision="int8")


@pytest.mark.parametrize(
    ("fields", "options", "error", "words"),
    [
        ({}, {"device": "cuda", "precision": "int8"}, ArgumentError, "for processors"),
        ({}, {"device": "cpu", "precision": "bf16"}, ArgumentError, "computed by OpenVINO"),
        ({}, {"precision": "fp16"}, ArgumentError, "must be one of bundle, bf16, int8, fastest"),
        ({}, {"precision": "int8"}, BundleError, "srflow-export --bundle {path} --also int8"),
        ({"precision": "fp16"}, {"precision": "int8"}, ArgumentError, "computes in fp16 already"),
    ],
)
def test_what_no_device_computes_is_refused(tmp_path, fields, options, error, words):
    path = write_tiny_bundle(tmp_path / "b.srflow", **fields)
    with pytest.raises(error, match=words.format(path=path)):
        Upscaler(path, **options)


def test_fastest_of_a_half_bundle_is_the_bundle(tmp_path):
    half = write_tiny_bundle(tmp_path / "half.srflow", precision="fp16")
    with Upscaler(half, threads=1, precision="fastest") as upscaler:
        assert (upscaler.device, upscaler.precision) == ("cpu", "bundle")


def test_without_openvino_bf16_names_the_extra_and_the_others_run_on_onnx_runtime(
    bundle, monkeypatch
):
    monkeypatch.setitem(sys.modules, "openvino", None)  # importing it fails
    # which may have started before
    monkeypatch.setattr(graphs, "_core", functools.cache(graphs._core.__wrapped__))
    for options in ({"precision": "bf16"}, {"precision": "int8", "device": "openvino"}):
        with pytest.raises(DeviceError, match=r'pip install -U "srflow-sdk\[openvino\]"'):
            open_backend(bundle, **options)
    for precision in ("int8", "fastest"):
        backend = open_backend(bundle, threads=1, precision=precision)
        assert backend.device == "cpu"
        backend.deactivate()
