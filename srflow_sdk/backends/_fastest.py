"""Measures, once for each machine and model, which way of computing a picture is the fastest within the gate.

Every candidate draws two small photographs, which are compared with float32 on ONNX Runtime; those that are near enough
to it are timed in turns. The results are kept in the cache folder.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from srflow_sdk._psnr_bounds import LEAST_DB
from srflow_sdk.backends._base import Backend
from srflow_sdk.backends._fastest_cache import Measured, cache_key, one_at_a_time, read_measured, write_measured
from srflow_sdk.backends._fastest_patches import mosaic, patches
from srflow_sdk.backends._openvino_graphs import installed as openvino_is_installed
from srflow_sdk.backends._precision_gate import int8_is_proved, is_within_gate
from srflow_sdk.backends._precision_ways import REFERENCE, Way, opened
from srflow_sdk.bundle import Bundle
from srflow_sdk.errors import CancelledError, OutOfMemoryError, SRFlowError
from srflow_sdk.latents import window_noise
from srflow_sdk.manifest import INT8_ENCODER, Manifest

WORTH = 1.1
"""How many times faster a less exact way must be to be chosen: less is within what a measurement varies by."""

LONGEST_S = 8.0
"""After so long "fastest" begins no further candidate, and no further round: a full-size one takes up to 4 s."""

_SKIPPED = "not measured: the others took too long"

_ROUNDS = 5
_TIMING_S = 1.0
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

    After longest_s no further way is begun; then nothing is kept, because another moment may be quicker.

    Taken from the cache if nothing has changed since. Raises: DeviceError, BundleError if even the reference does not
    run; CancelledError.
    """
    key = cache_key(bundle, ways, threads=threads)
    if (known := read_measured(key)) is not None:
        return known
    with one_at_a_time():
        if (known := read_measured(key)) is not None:  # another process measured it while this one waited
            return known
        begun = time.monotonic()
        _log.info("measuring what is fastest on this processor, once for this model …")
        found = _measure(bundle, ways, threads=threads, longest_s=longest_s)
        _log.info("measured in %.1f s: %s", time.monotonic() - begun, "; ".join(map(described, found)))
        if not any(one.error == _SKIPPED for one in found):
            write_measured(key, found)
        return found


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
    ways = candidates(bundle, "auto")
    known = read_measured(cache_key(bundle, ways, threads=threads))
    if known is None:
        return None
    chosen = choose(known, bundle.manifest, device="auto") or REFERENCE
    return f"{chosen} ({'; '.join(map(described, known))})"


def _measure(bundle: Bundle, ways: Sequence[Way], *, threads: int | None, longest_s: float) -> list[Measured]:
    manifest, begun = bundle.manifest, time.monotonic()
    photographs = patches(manifest.size_multiple)
    results: dict[Way, Measured] = {}
    running: dict[Way, Backend] = {}
    with ExitStack() as stack:
        reference = opened(bundle, REFERENCE, threads=threads)
        stack.callback(reference.deactivate)
        expected = [_picture(reference, photo, manifest) for photo in photographs]
        took = _timed(reference, photographs[0], manifest)
        running[REFERENCE] = reference
        results[REFERENCE] = Measured(way=REFERENCE, decibels=math.inf)
        for way in ways[1:]:
            if time.monotonic() - begun > longest_s:
                results[way] = Measured(way=way, error=_SKIPPED)
                continue
            try:
                backend = opened(bundle, way, threads=threads)
                stack.callback(backend.deactivate)
                pictures = (_picture(backend, photo, manifest) for photo in photographs)
                decibels = min(_psnr(found, wanted) for found, wanted in zip(pictures, expected, strict=True))
            except (CancelledError, OutOfMemoryError):  # of this moment, not of this machine
                raise
            except SRFlowError as error:
                results[way] = Measured(way=way, error=str(error))
                continue
            results[way] = Measured(way=way, decibels=decibels)
            if decibels >= LEAST_DB:
                running[way] = backend
        timed = mosaic(photographs) if took < _QUICK_S else photographs[0]
        best = _best_times(running, timed, manifest, until=begun + LONGEST_S)
    return [
        Measured(way=way, seconds=best.get(way), decibels=results[way].decibels, error=results[way].error)
        for way in ways
    ]


def _best_times(running: dict[Way, Backend], image: _Array, manifest: Manifest, *, until: float) -> dict[Way, float]:
    """The shortest time of each, which other programs disturbed least. They take turns, so that a load hits all."""
    for backend in running.values():
        _timed(backend, image, manifest)  # the first run of a size prepares for it
    best = dict.fromkeys(running, math.inf)
    begun = time.monotonic()
    for number in range(_ROUNDS):
        if number and (time.monotonic() > until or time.monotonic() - begun > _TIMING_S):
            break
        for way, backend in running.items():
            best[way] = min(best[way], _timed(backend, image, manifest))
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
