"""What is fastest is measured once for each machine and model, and remembered."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from srflow_sdk.backends import _fastest, _fastest_cache, open_backend
from srflow_sdk.backends._fastest import cached_choice, choose, measured
from srflow_sdk.backends._fastest_cache import Measured
from srflow_sdk.backends._fastest_patches import mosaic, patches
from srflow_sdk.backends._precision_ways import REFERENCE, Way
from srflow_sdk.bundle import Bundle
from srflow_sdk.errors import CancelledError

from ..tiny_bundle import INT8_ROW, tiny_manifest, write_tiny_bundle

INT8 = Way(device="cpu", precision="int8")
OPENVINO = Way(device="openvino", precision="bundle")
BF16 = Way(device="openvino", precision="bf16")
INT8_OPENVINO = Way(device="openvino", precision="int8")
MANIFEST = tiny_manifest(parity=[INT8_ROW])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "precision"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path / "tiny.srflow", int8="near"))


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many measurements began so far, by what the log says."""
    begun: list[str] = []

    def note(message: str, *_: object) -> None:
        if message.startswith("measuring"):
            begun.append(message)

    monkeypatch.setattr(_fastest._log, "info", note)
    return lambda: len(begun)


def ways(bundle: Bundle, *, threads: int | None = 1) -> list[Measured]:
    return measured(bundle, [REFERENCE, INT8], threads=threads)


def test_what_was_measured_is_not_measured_again(bundle: Bundle, measurements: Callable[[], int]) -> None:
    first = ways(bundle)
    assert [one.way for one in first] == [REFERENCE, INT8]
    assert all(one.seconds is not None and one.seconds > 0 and one.error is None for one in first)
    assert first[0].decibels == math.inf
    assert 38 < first[1].decibels < 90
    assert ways(bundle) == first
    assert measurements() == 1


def test_a_slow_moment_is_not_remembered_and_no_way_is_skipped_without_a_limit(bundle: Bundle) -> None:
    slow = measured(bundle, [REFERENCE, INT8], threads=1, longest_s=0)
    assert slow[1].error == "not measured: the others took too long"
    assert ways(bundle)[1].error is None


@pytest.mark.parametrize("change", ["processor", "version", "threads", "model"])
def test_a_change_of_what_it_depends_on_measures_again(
    bundle: Bundle,
    measurements: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    change: str,
) -> None:
    ways(bundle)
    if change == "processor":
        monkeypatch.setattr(_fastest_cache, "_processor", lambda: {"name": "another", "instructions": "0"})
    elif change == "version":
        monkeypatch.setattr(_fastest_cache, "_version", lambda _: "0.0.1")
    elif change == "model":
        bundle = Bundle.open(write_tiny_bundle(tmp_path / "other.srflow", int8="near", default_tau=0.5))
    ways(bundle, threads=2 if change == "threads" else 1)
    assert measurements() == 2


@pytest.mark.parametrize("content", [b"", b"{", b'{"key": 1, "measured": []}', b"[" * 5000])
def test_a_damaged_entry_is_measured_again(
    bundle: Bundle, measurements: Callable[[], int], cache: Path, content: bytes
) -> None:
    ways(bundle)
    (entry,) = cache.iterdir()
    entry.write_bytes(content)
    ways(bundle)
    assert measurements() == 2
    ways(bundle)
    assert measurements() == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), CancelledError("cancelled")])
def test_an_interrupted_measurement_leaves_nothing(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    draw, calls = _fastest.window_noise, []

    def interrupted(*arguments: object, **keywords: object) -> object:
        calls.append(1)
        if len(calls) == 5:  # while the second way is compared
            raise error
        return draw(*arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(_fastest, "window_noise", interrupted)
    with pytest.raises(type(error)):
        ways(bundle)
    assert list(cache.iterdir()) == []


def test_of_two_at_a_time_one_measures_and_the_other_takes_its_result(
    bundle: Bundle, measurements: Callable[[], int]
) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: ways(bundle), range(2))
    assert first == second
    assert measurements() == 1


def test_without_a_cache_folder_it_is_measured_each_time(
    bundle: Bundle, measurements: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRFLOW_CACHE_DIR", "/dev/null/none")
    ways(bundle)
    ways(bundle)
    assert measurements() == 2


def test_a_way_that_does_not_start_is_recorded_and_not_chosen(tmp_path: Path) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "plain.srflow"))  # there is no int8 encoder
    found = ways(bundle)
    assert found[1].error is not None
    assert "encoder.int8.onnx" in found[1].error
    assert choose(found, MANIFEST, device="auto") == REFERENCE
    assert ways(bundle) == found


@pytest.mark.parametrize("int8", ["other", "infinite"])
def test_int8_with_other_pictures_than_recorded_is_not_chosen(tmp_path: Path, int8: str) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "wrong.srflow", int8=int8))  # type: ignore[arg-type]
    found = ways(bundle)
    assert found[1].decibels < 38
    assert found[1].seconds is None
    with_time = [found[0], Measured(way=INT8, seconds=1e-9, decibels=found[1].decibels)]
    assert choose(with_time, bundle.manifest, device="cpu") == REFERENCE


def timed(way: Way, seconds: float, decibels: float = math.inf) -> Measured:
    return Measured(way=way, seconds=seconds, decibels=decibels)


@pytest.mark.parametrize(
    ("found", "device", "chosen"),
    [
        ([timed(REFERENCE, 1.0), timed(INT8, 0.5, 44)], "auto", INT8),
        ([timed(REFERENCE, 1.0), timed(INT8, 0.95, 44)], "auto", REFERENCE),
        ([timed(REFERENCE, 1.0), timed(INT8, 0.5, 40)], "auto", REFERENCE),
        ([timed(REFERENCE, 1.0), timed(OPENVINO, 0.5, 120)], "auto", OPENVINO),
        ([timed(REFERENCE, 1.0), timed(OPENVINO, 0.5, 60)], "auto", REFERENCE),
        ([timed(REFERENCE, 1.0), timed(OPENVINO, 0.5, 120), timed(BF16, 0.48, 50)], "auto", OPENVINO),
        ([timed(REFERENCE, 1.0), timed(INT8_OPENVINO, 0.5, 44), timed(BF16, 0.4, 50)], "auto", BF16),
        ([timed(REFERENCE, 0.1), timed(OPENVINO, 1.0, 120), timed(BF16, 0.5, 50)], "openvino", BF16),
        ([timed(REFERENCE, 0.1), timed(OPENVINO, 1.0, 20)], "openvino", None),
    ],
)
def test_the_fastest_within_the_gate_is_chosen(found: list[Measured], device: str, chosen: Way | None) -> None:
    assert choose(found, MANIFEST, device=device) == chosen


def test_the_backend_says_what_fastest_became(bundle: Bundle) -> None:
    assert cached_choice(bundle, threads=1) is None
    backend = open_backend(bundle, threads=1, precision="fastest")
    assert (chosen := cached_choice(bundle, threads=1)) is not None
    named = "float32" if backend.precision == "bundle" else backend.precision
    assert chosen.startswith(f"{named} on {backend.device} (")
    backend.deactivate()


def test_the_photographs_fit_any_network() -> None:
    for multiple in (1, 2, 7, 64):
        for photo in patches(multiple):
            assert photo.dtype == np.float32
            assert photo.shape[2] % multiple == photo.shape[3] % multiple == 0
            assert 0 <= photo.min() < photo.max() <= 1
    assert mosaic(patches(2)).shape == (1, 3, 64, 64)
