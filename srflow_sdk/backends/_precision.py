"""Opens a backend that computes in less than float32: what was asked for by name, or the fastest within the gate.

The rule by which `precision="fastest"` may choose a way:

- Decibels are image-space PSNR against the float32 picture with the same latents, at the bundle's default temperature.
- A bundle promises 43 dB if every row that its export recorded for the int8 encoder reaches 43, otherwise 38 dB, the
  bound of every export.
- bf16 must reach what the bundle promises, on two photographs, on this machine.
- int8 needs recorded rows that all reach 38 dB, and must come within 1 dB of what the bundle promises on this machine:
  the export proved the graph on more and larger photographs, and here it is the runtime that is checked.
- Another runtime in float32 must reach 90 dB on this machine, so that a seed stays a picture.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Literal

from srflow_sdk.backends._base import Backend
from srflow_sdk.backends._fastest import (
    REFERENCE,
    Measured,
    Way,
    cache_key,
    described,
    later,
    measured,
    opened,
    read_measured,
)
from srflow_sdk.backends._openvino_graphs import has_bf16
from srflow_sdk.errors import ArgumentError, BundleError, DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import FINE_DB, FLOAT32_DB, INT8_ENCODER, LEAST_DB, Manifest
from srflow_sdk.system.device_names import DeviceName
from srflow_sdk.system.raising import is_installed

WORTH = 1.1
"""How many times faster a less exact way must be to be chosen: less is within what a measurement varies by."""

_LONGEST_S = 8.0
"""After so long "fastest" leaves further candidates to the next start: a full-size one takes up to 4 s."""

_OPENVINO = Way(device="openvino", precision="bundle")
_BF16 = Way(device="openvino", precision="bf16")
_INT8 = {"cpu": Way(device="cpu", precision="int8"), "openvino": Way(device="openvino", precision="int8")}
_SAME_DB = 3.0
"""How far two runtimes may be apart that compute the same int8 graph, each against float32: they round otherwise. What
is finer than FINE_DB may be further apart: there, the last bit of a sum shows in decibels and not in pictures."""

INT8_ROWS = "encoder.int8+sampler"
"""The graph that a manifest's rows about its int8 encoder name."""

_SMALLER_PHOTOGRAPHS_DB = 1.0
_log = logging.getLogger(__name__)


def open_less_precise(
    bundle: Bundle, device: DeviceName, *, threads: int | None, precision: Literal["bf16", "int8"]
) -> Backend:
    """An active backend whose encoder computes in bfloat16 or int8, on the processor.

    Where runtimes can be chosen, or one has to be checked, they are measured, once for each machine and model.

    Raises: ArgumentError, BundleError, DeviceError: one line, with what to do instead.
    """
    manifest = bundle.manifest
    if device not in ("auto", "cpu", "openvino"):
        raise ArgumentError(f'precision="{precision}" is for processors: use device="cpu", "openvino" or "auto"')
    if manifest.precision != "fp32":
        raise ArgumentError(
            f'precision="{precision}" is for float32 bundles; this one computes in {manifest.precision} already, so '
            'leave it out or use precision="bundle"'
        )
    if precision == "bf16":
        return _bf16(bundle, device, threads=threads)
    if INT8_ENCODER not in manifest.files:
        raise BundleError(
            f"{bundle.path} has no {INT8_ENCODER}, which int8 needs; to add it: srflow-export --bundle {bundle.path} "
            "--also int8 -o with-int8.srflow"
        )
    return opened(bundle, _int8_way(bundle, device, threads=threads), threads=threads)


def open_fastest(bundle: Bundle, device: Literal["auto", "cpu", "openvino"], *, threads: int | None) -> Backend:
    """An active backend for the fastest way within the gate on this processor, measured once and then remembered.

    Raises: DeviceError, BundleError.
    """
    if device == "openvino" and not is_installed("openvino"):
        return opened(bundle, _OPENVINO, threads=threads)  # which says so
    found = measured(bundle, candidates(bundle, device), threads=threads, longest_s=_LONGEST_S)
    chosen = choose(found, bundle.manifest, device=device)
    if chosen is None:
        raise DeviceError(
            f"OpenVINO gives no picture near enough to float32 here ({'; '.join(map(described, found[1:]))}); use "
            'device="cpu"'
        )
    try:
        return opened(bundle, chosen, threads=threads)
    except (DeviceError, BundleError) as error:
        if chosen == REFERENCE or device == "openvino":
            raise
        _log.warning("continuing in float32 on the CPU: %s", error)
        return opened(bundle, REFERENCE, threads=threads)


def candidates(bundle: Bundle, device: str) -> list[Way]:
    """The ways that "fastest" measures on a device ("auto", "cpu" or "openvino"), the reference first."""
    ways = [REFERENCE]
    has_int8 = INT8_ENCODER in bundle.manifest.files and int8_is_proved(bundle.manifest)
    if device != "cpu" and is_installed("openvino"):
        # In the order of their promise: time may run out.
        ways += [_INT8["openvino"], _BF16, _OPENVINO] if has_int8 else [_BF16, _OPENVINO]
    if has_int8 and device != "openvino":
        ways.insert(min(2, len(ways)), _INT8["cpu"])
    return ways


def choose(found: Sequence[Measured], manifest: Manifest, *, device: str) -> Way | None:
    """The fastest way within the gate; None if a device was asked for that has none.

    A less exact way must be worth it: at least 1.1 times as fast as a more exact one.
    """
    usable = [
        one
        for one in found
        if one.seconds < math.inf
        and (device != "openvino" or one.way.device == "openvino")
        and (one.way == REFERENCE or is_within_gate(one.way, one.decibels, manifest))
    ]
    best: Measured | None = None
    for ways in (
        [one for one in usable if one.way == REFERENCE],
        [one for one in usable if one.way != REFERENCE and one.way.precision == "bundle"],
        [one for one in usable if one.way.precision != "bundle"],
    ):
        quickest = min(ways, key=lambda one: one.seconds, default=None)
        if quickest is not None and (best is None or quickest.seconds * WORTH < best.seconds):
            best = quickest
    return None if best is None else best.way


def cached_choice(bundle: Bundle, *, threads: int | None = None) -> str | None:
    """Say what `precision="fastest"` takes here if it was measured before, for the doctor. Measures nothing."""
    if bundle.manifest.precision != "fp32":
        return None
    known = read_measured(cache_key(bundle, threads=threads))
    if REFERENCE not in known:
        return None
    found = [known.get(way, later(way)) for way in candidates(bundle, "auto")]
    chosen = choose(found, bundle.manifest, device="auto") or REFERENCE
    return f"{chosen} ({'; '.join(map(described, found))})"


def _bf16(bundle: Bundle, device: DeviceName, *, threads: int | None) -> Backend:
    if device == "cpu":
        raise ArgumentError('precision="bf16" is computed by OpenVINO: use device="openvino" or "auto"')
    if not has_bf16():  # which says so if OpenVINO is not installed
        raise DeviceError(
            'this processor has no bfloat16 arithmetic, so bf16 would be slower than float32; use precision="bundle", '
            'or "fastest", which takes the fastest that this processor has'
        )
    exact, reduced = measured(bundle, [REFERENCE, _BF16], threads=threads)
    if reduced.error is not None:
        kind = reduced.passing or DeviceError
        raise kind(f'bf16 does not work here: {reduced.error}; use precision="bundle"')
    if reduced.decibels < LEAST_DB:
        raise DeviceError(
            f"in bf16 this model's pictures differ too much from float32 on this processor ({reduced.decibels:.1f} dB, "
            f'where {LEAST_DB:.0f} are needed); use precision="bundle"'
        )
    if exact.seconds < reduced.seconds < math.inf:
        _log.warning(
            "bf16 takes longer than float32 on this processor for this model (%.3f and %.3f s of CPU time for a small "
            'picture); precision="bundle" is faster and exact',
            reduced.seconds,
            exact.seconds,
        )
    return opened(bundle, _BF16, threads=threads)


def _int8_way(bundle: Bundle, device: DeviceName, *, threads: int | None) -> Way:
    """The runtime for int8: the one that was asked for, or the faster of those that compute it rightly."""
    if device == "cpu" or not is_installed("openvino"):
        return _INT8["openvino" if device == "openvino" else "cpu"]  # opening the former says so
    _, theirs, ours = measured(bundle, [REFERENCE, _INT8["openvino"], _INT8["cpu"]], threads=threads)
    problem = _problem(theirs, ours)
    if device == "openvino":
        if problem is not None:
            kind = theirs.passing or DeviceError
            raise kind(f'OpenVINO cannot be used for int8 here: {problem}; use device="cpu" or "auto"')
        return theirs.way
    if problem is not None:
        _log.info("int8 runs on ONNX Runtime: OpenVINO cannot be used for it here: %s", problem)
        return ours.way
    return theirs.way if theirs.seconds * WORTH < ours.seconds else ours.way


def _problem(theirs: Measured, ours: Measured) -> str | None:
    """Why OpenVINO's int8 is not used beside ONNX Runtime's; None if it is as near to float32, or near enough."""
    if theirs.error is not None:
        return theirs.error
    if theirs.decibels < min(ours.decibels - _SAME_DB, FINE_DB):
        return (
            f"its picture is {theirs.decibels:.1f} dB from float32, where ONNX Runtime's with the same graph is "
            f"{ours.decibels:.1f}"
        )
    return None


def recorded_db(manifest: Manifest) -> float:
    """The least PSNR in dB that the export recorded for the int8 encoder; -inf if it recorded none."""
    rows = [row.get("psnr_db") for row in manifest.parity if row.get("graph") == INT8_ROWS]
    found = (float(value) if isinstance(value, (int, float)) else -math.inf for value in rows)
    return min(found, default=-math.inf)


def promised_db(manifest: Manifest) -> float:
    """The PSNR in dB that the pictures of this bundle in reduced precision are held to."""
    return FINE_DB if recorded_db(manifest) >= FINE_DB else LEAST_DB


def int8_is_proved(manifest: Manifest) -> bool:
    """True if the export recorded that the int8 encoder's pictures are near enough."""
    return recorded_db(manifest) >= LEAST_DB


def is_within_gate(way: Way, decibels: float, manifest: Manifest) -> bool:
    """True if "fastest" may choose a way whose pictures on this machine have this PSNR against float32."""
    if way.precision == "bundle":
        return decibels >= FLOAT32_DB
    if way.precision == "bf16":
        return decibels >= promised_db(manifest)
    return int8_is_proved(manifest) and decibels >= max(promised_db(manifest) - _SMALLER_PHOTOGRAPHS_DB, LEAST_DB)
