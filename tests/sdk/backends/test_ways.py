"""What is fastest is measured once for each machine and model, and remembered."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from srflow_sdk.backends import Backend, base, open_backend, ways
from srflow_sdk.backends.ways import REFERENCE, Measured, Way, cached_choice, choose, measured
from srflow_sdk.errors import CancelledError, DeviceError, OutOfMemoryError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.raising import PassingError

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


@pytest.fixture(autouse=True)
def _one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repetitions only make times more exact."""
    monkeypatch.setattr(ways, "_ROUNDS", 1)


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

    monkeypatch.setattr(ways._log, "info", note)
    return lambda: len(begun)


@pytest.fixture(autouse=True)
def _without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ways are measured in test_precision.py."""
    monkeypatch.setattr(ways, "is_installed", lambda _: False)


def both(bundle: Bundle, *, threads: int | None = 1) -> list[Measured]:
    found = measured(bundle, threads=threads)
    assert list(found) == [REFERENCE, INT8]
    return list(found.values())


def test_what_was_measured_is_not_measured_again(bundle: Bundle, measurements: Callable[[], int]) -> None:
    first = both(bundle)
    assert [one.way for one in first] == [REFERENCE, INT8]
    assert all(0 < one.seconds < math.inf and one.error is None for one in first)
    assert first[0].decibels == math.inf
    assert 38 < first[1].decibels < 90
    assert both(bundle) == first
    assert measurements() == 1


def test_beside_the_reference_one_way_is_open_at_a_time(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    real, opened_ways = ways._made, []
    is_open: list[Backend] = []

    def counting(bundle: Bundle, way: Way, threads: int | None) -> Backend:
        is_open[:] = [backend for backend in is_open if backend._active]
        assert len(is_open) <= 1, f"{way} is opened beside {is_open}"
        is_open.append(real(bundle, way, threads))
        opened_ways.append(way)
        return is_open[-1]

    monkeypatch.setattr(ways, "_made", counting)
    both(bundle)
    assert opened_ways == [REFERENCE, INT8]
    assert not any(backend._active for backend in is_open)


@pytest.mark.parametrize("error", [OutOfMemoryError("memory ran out"), PassingError("no threads"), MemoryError()])
@pytest.mark.parametrize("name", ["_made", "_seconds"])
def test_a_failure_that_may_pass_is_measured_at_the_next_start(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, error: Exception, name: str
) -> None:
    real = getattr(ways, name)

    def failing(first: Any, second: Any, *rest: Any, **keywords: Any) -> Any:
        if "int8" in (getattr(first, "precision", None), getattr(second, "precision", None)):
            raise error
        return real(first, second, *rest, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(ways, name, failing)
        backend = open_backend(bundle, device="cpu", threads=1, precision="fastest")
        assert (backend.device, backend.precision) == ("cpu", "bundle")
        backend.deactivate()
        assert isinstance(error, MemoryError) or str(error) in (both(bundle)[1].error or "")
        assert cached_choice(bundle, threads=1) is None
    assert both(bundle)[1].error is None


def test_a_way_is_timed_by_its_ratio_to_the_reference_at_that_moment(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {"bundle": 2.0, "int8": 1.5}

    def taken(backend: Backend, *_: object) -> float:
        if backend.precision == "int8":
            seconds["bundle"] = 6.0  # from now on the machine is busy
        return seconds[backend.precision]

    monkeypatch.setattr(ways, "_seconds", taken)
    assert [one.seconds for one in both(bundle)] == [2.0, 0.5]


@pytest.mark.parametrize("change", ["processor", "version", "threads", "model"])
def test_a_change_of_what_it_depends_on_measures_again(
    bundle: Bundle,
    measurements: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    change: str,
) -> None:
    both(bundle)
    if change == "processor":
        monkeypatch.setattr(ways, "processor", lambda: "another")
    elif change == "version":
        monkeypatch.setattr(ways, "_version", lambda _: "0.0.1")
    elif change == "model":
        bundle = Bundle.open(write_tiny_bundle(tmp_path / "other.srflow", int8="near", default_tau=0.5))
    both(bundle, threads=2 if change == "threads" else 1)
    assert measurements() == 2


@pytest.mark.parametrize("content", [b"", b"{", b'{"way": 1}', b"[" * 5000])
def test_a_damaged_entry_is_measured_again(
    bundle: Bundle, measurements: Callable[[], int], cache: Path, content: bytes
) -> None:
    both(bundle)
    (entry,) = cache.iterdir()
    entry.write_bytes(content)
    both(bundle)
    assert measurements() == 2
    both(bundle)
    assert measurements() == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), CancelledError("cancelled")])
def test_an_interrupted_measurement_leaves_nothing(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    draw, calls = base.window_noise, []

    def interrupted(*arguments: object, **keywords: object) -> object:
        calls.append(1)
        if len(calls) == 5:  # while the second way is compared
            raise error
        return draw(*arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(base, "window_noise", interrupted)
    with pytest.raises(type(error)):
        both(bundle)
    assert list(cache.iterdir()) == []


def test_of_two_at_a_time_one_measures_and_the_other_takes_its_result(
    bundle: Bundle, measurements: Callable[[], int]
) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: both(bundle), range(2))
    assert first == second
    assert measurements() == 1


def test_without_a_cache_folder_it_is_measured_each_time(
    bundle: Bundle, measurements: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRFLOW_CACHE_DIR", "/dev/null/none")
    both(bundle)
    both(bundle)
    assert measurements() == 2


def test_a_way_that_does_not_start_is_recorded_and_not_chosen(
    bundle: Bundle, measurements: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ways._made

    def failing(bundle: Bundle, way: Way, threads: int | None) -> Backend:
        if way == INT8:
            raise DeviceError("it does not start")
        return real(bundle, way, threads)

    monkeypatch.setattr(ways, "_made", failing)
    found = both(bundle)
    assert found[1].error == "it does not start"
    assert choose({one.way: one for one in found}, MANIFEST, device="auto") == REFERENCE
    assert both(bundle) == found
    assert measurements() == 1


@pytest.mark.parametrize("int8", ["other", "infinite"])
def test_int8_with_other_pictures_than_recorded_is_not_chosen(tmp_path: Path, int8: str) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "wrong.srflow", int8=int8))  # type: ignore[arg-type]
    found = both(bundle)
    assert found[1].decibels < 38
    assert found[1].seconds == math.inf
    with_time = {REFERENCE: found[0], INT8: Measured(way=INT8, seconds=1e-9, decibels=found[1].decibels)}
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
    assert choose({one.way: one for one in found}, MANIFEST, device=device) == chosen


def test_the_backend_says_what_fastest_became(bundle: Bundle) -> None:
    assert cached_choice(bundle, threads=1) is None
    backend = open_backend(bundle, threads=1, precision="fastest")
    assert (chosen := cached_choice(bundle, threads=1)) is not None
    named = "float32" if backend.precision == "bundle" else backend.precision
    assert chosen.startswith(f"{named} on {backend.device} (")
    backend.deactivate()
