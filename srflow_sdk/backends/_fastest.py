"""Measures, once for each machine and model, which way of computing a picture is the fastest within the gate.

Every candidate draws two small photographs, which are compared with float32 on ONNX Runtime; one that is near enough is
timed in turns with that, so that a load hits both, and closed. The results are kept in the cache folder.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.backends._base import Backend
from srflow_sdk.backends._fastest_cache import Measured, cache_key, one_at_a_time, read_measured, write_measured
from srflow_sdk.backends._fastest_patches import mosaic, patches
from srflow_sdk.backends._openvino_graphs import installed as openvino_is_installed
from srflow_sdk.backends._precision_gate import int8_is_proved, is_within_gate
from srflow_sdk.backends._precision_ways import REFERENCE, Way, opened
from srflow_sdk.errors import CancelledError, OutOfMemoryError, SRFlowError
from srflow_sdk.latents.random_field import window_noise
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import INT8_ENCODER, Manifest
from srflow_sdk.model.psnr_bounds import LEAST_DB
from srflow_sdk.system.raising import PassingError, memory_errors_typed

WORTH = 1.1
"""How many times faster a less exact way must be to be chosen: less is within what a measurement varies by."""

LONGEST_S = 8.0
"""After so long "fastest" leaves further candidates to the next start: a full-size one takes up to 4 s."""

_LATER = "not measured yet: the next start does it"

_ROUNDS = (2, 5)  # at least and at most
_TIMING_S = 0.5  # after so long there are no further rounds
_QUICK_S = 0.4  # of CPU time

_log = logging.getLogger(__name__)
_Array = NDArray[np.float32]


def candidates(bundle: Bundle, device: str) -> list[Way]:
    """What "fastest" measures on a device ("auto", "cpu" or "openvino"), the reference first."""
    ways = [REFERENCE]
    has_int8 = INT8_ENCODER in bundle.manifest.files and int8_is_proved(bundle.manifest)
    if device != "cpu" and openvino_is_installed():
        # In the order of their promise: time may run out.
        ways += [Way(device="openvino", precision="int8")] if has_int8 else []
        ways += [Way(device="openvino", precision="bf16"), Way(device="openvino", precision="bundle")]
    if has_int8 and device != "openvino":
        ways.insert(min(2, len(ways)), Way(device="cpu", precision="int8"))
    return ways


def measured(
    bundle: Bundle, ways: Sequence[Way], *, threads: int | None, longest_s: float = math.inf
) -> list[Measured]:
    """What each way takes and gives on this machine, in their order; the reference must be the first.

    Taken from the cache if nothing has changed since. What is not there is measured and kept, unless it failed for want
    of something that may be there another time. After longest_s no further way is begun once there is one more
    result to keep: the next start goes on.

    Raises: DeviceError, BundleError if even the reference does not run; CancelledError.
    """
    key = cache_key(bundle, threads=threads)
    if (found := _all_of(ways, read_measured(key))) is not None:
        return found
    with one_at_a_time():
        known = read_measured(key)
        if (found := _all_of(ways, known)) is not None:  # another process measured while this one waited
            return found
        begun = time.monotonic()
        _log.info("measuring what is fastest on this processor, once for this model …")
        found = _measure(bundle, ways, known, threads=threads, until=begun + longest_s)
        _log.info("measured in %.1f s: %s", time.monotonic() - begun, "; ".join(map(described, found)))
        write_measured(key, {**known, **{one.way: one for one in found}}.values())
        return found


def _all_of(ways: Sequence[Way], known: Mapping[Way, Measured]) -> list[Measured] | None:
    return [known[way] for way in ways] if all(way in known for way in ways) else None


def choose(found: Sequence[Measured], manifest: Manifest, *, device: str) -> Way | None:
    """The fastest way within the gate; None if a device was asked for that has none.

    A less exact way must be worth it: at least 1.1 times as fast as a more exact one.
    """
    usable = [
        one
        for one in found
        if one.seconds is not None
        and (device != "openvino" or one.way.device == "openvino")
        and (one.way == REFERENCE or is_within_gate(one.way, one.decibels, manifest))
    ]
    best: Measured | None = None
    for ways in (
        [one for one in usable if one.way == REFERENCE],
        [one for one in usable if one.way != REFERENCE and one.way.precision == "bundle"],
        [one for one in usable if one.way.precision != "bundle"],
    ):
        quickest = min(ways, key=_seconds, default=None)
        if quickest is not None and (best is None or _seconds(quickest) * WORTH < _seconds(best)):
            best = quickest
    return None if best is None else best.way


def described(one: Measured) -> str:
    """One measurement in words."""
    if one.error is not None:
        return f"{one.way}: {one.error}"
    decibels = "" if one.decibels == math.inf else f", {one.decibels:.1f} dB"
    seconds = "not timed" if one.seconds is None else f"{one.seconds:.3f} s of CPU time"
    return f"{one.way} {seconds}{decibels}"


def cached_choice(bundle: Bundle, *, threads: int | None = None) -> str | None:
    """What `precision="fastest"` takes here, in words, if it was measured before; for the doctor. Measures nothing."""
    if bundle.manifest.precision != "fp32":
        return None
    known = read_measured(cache_key(bundle, threads=threads))
    if REFERENCE not in known:
        return None
    found = [known.get(way, _later(way)) for way in candidates(bundle, "auto")]
    chosen = choose(found, bundle.manifest, device="auto") or REFERENCE
    return f"{chosen} ({'; '.join(map(described, found))})"


def _later(way: Way) -> Measured:
    return Measured(way=way, error=_LATER, passing=PassingError)


@dataclass(frozen=True, kw_only=True)
class _Standard:
    """What every way is compared with: the reference, its pictures of the photographs, and the image that is timed."""

    backend: Backend
    photographs: list[_Array]
    pictures: list[_Array]
    timed: _Array


def _measure(
    bundle: Bundle, ways: Sequence[Way], known: Mapping[Way, Measured], *, threads: int | None, until: float
) -> list[Measured]:
    """All of the ways, those measured now that are not known. Besides the reference, one is open at a time."""
    found, begun = dict(known), False
    with _open(bundle, REFERENCE, threads=threads) as reference:
        photographs = patches(bundle.manifest.size_multiple)
        pictures = [_picture(reference, photo, bundle.manifest) for photo in photographs]
        quick = _timed(reference, photographs[0], bundle.manifest) < _QUICK_S
        timed = mosaic(photographs) if quick else photographs[0]
        standard = _Standard(backend=reference, photographs=photographs, pictures=pictures, timed=timed)
        if REFERENCE not in found:
            (seconds,) = _best_times([reference], timed, bundle.manifest)
            found[REFERENCE] = Measured(way=REFERENCE, seconds=seconds, decibels=math.inf)
        for way in ways:
            if way not in found:
                late = begun and time.monotonic() > until
                found[way] = _later(way) if late else _tried(bundle, way, standard, found[REFERENCE], threads=threads)
                begun = begun or found[way].passing is None
    return [found[way] for way in ways]


@contextlib.contextmanager
def _open(bundle: Bundle, way: Way, *, threads: int | None) -> Iterator[Backend]:
    """An active backend, closed at the end of the block."""
    backend = opened(bundle, way, threads=threads)
    try:
        yield backend
    finally:
        backend.deactivate()


def _tried(bundle: Bundle, way: Way, standard: _Standard, reference: Measured, *, threads: int | None) -> Measured:
    """A way's figures, or why it has none. Its time is stated beside the reference's first one: by their ratio now."""
    try:
        with memory_errors_typed(f"while {way} was measured"), _open(bundle, way, threads=threads) as backend:
            found = (_picture(backend, photo, bundle.manifest) for photo in standard.photographs)
            decibels = min(_psnr(ours, theirs) for ours, theirs in zip(found, standard.pictures, strict=True))
            if decibels < LEAST_DB:
                return Measured(way=way, decibels=decibels)
            own, beside = _best_times([backend, standard.backend], standard.timed, bundle.manifest)
    except CancelledError:
        raise
    except (OutOfMemoryError, PassingError) as error:
        return Measured(way=way, error=str(error), passing=type(error))
    except SRFlowError as error:
        return Measured(way=way, error=str(error))
    return Measured(way=way, seconds=own / beside * _seconds(reference), decibels=decibels)


def _best_times(backends: Sequence[Backend], image: _Array, manifest: Manifest) -> list[float]:
    """The shortest time of each, which other programs disturbed least. They take turns, so that a load hits all.

    The first has not run at this size before; its first run, which prepares for that, does not count.
    """
    _timed(backends[0], image, manifest)
    best = [math.inf] * len(backends)
    begun = time.monotonic()
    for number in range(_ROUNDS[1]):
        if number >= _ROUNDS[0] and time.monotonic() - begun > _TIMING_S:
            break
        best = [min(least, _timed(backend, image, manifest)) for least, backend in zip(best, backends, strict=True)]
    return best


def _timed(backend: Backend, image: _Array, manifest: Manifest) -> float:
    """CPU seconds of all threads. Beside other programs, wall-clock times of the same work vary threefold, and these by
    a tenth.
    """
    begun = time.process_time()
    _picture(backend, image, manifest)
    return time.process_time() - begun


def _picture(backend: Backend, lr: _Array, manifest: Manifest) -> _Array:
    """One picture at the default temperature, float32 1×3×H×W."""
    height, width = lr.shape[2:]
    drawn = window_noise(manifest.latent_levels, scale=manifest.scale, seed=0, sample=0, height=height, width=width)
    noise = {level: array[None] for level, array in drawn.items()}
    return backend.sample(backend.encode(lr), noise, manifest.default_tau)


def _psnr(found: _Array, expected: _Array) -> float:
    """PSNR in dB of two pictures within [0, 1]; -inf if either is not finite."""
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return -math.inf
    difference = np.clip(found, 0, 1).astype(np.float64) - np.clip(expected, 0, 1)
    error = float(np.mean(difference**2))
    return -10 * math.log10(error) if error else math.inf


def _seconds(one: Measured) -> float:
    return math.inf if one.seconds is None else one.seconds
