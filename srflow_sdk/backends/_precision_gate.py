"""The rule by which a picture of reduced precision is near enough to the float32 one for `precision="fastest"`.

Decibels are image-space PSNR against the float32 picture with the same latents, at the bundle's default temperature:

- A bundle promises 43 dB if every row that its export recorded for the int8 encoder reaches 43, otherwise 38 dB, the
  bound of every export.
- bf16 must reach what the bundle promises, on two photographs, on this machine.
- int8 needs recorded rows that all reach 38 dB, and must come within 1 dB of what the bundle promises on this machine:
  the export proved the graph on more and larger photographs, and here it is the runtime that is checked.
- Another runtime in float32 must reach 90 dB on this machine, so that a seed stays a picture.
"""

from __future__ import annotations

import math

from srflow_sdk.backends._precision_ways import Way
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.psnr_bounds import FINE_DB, FLOAT32_DB, LEAST_DB

INT8_ROWS = "encoder.int8+sampler"
"""The graph that a manifest's rows about its int8 encoder name."""

_SMALLER_PHOTOGRAPHS_DB = 1.0


def recorded_db(manifest: Manifest) -> float | None:
    """The least PSNR that the export recorded for the int8 encoder; None if it recorded none."""
    rows = [row.get("psnr_db") for row in manifest.parity if row.get("graph") == INT8_ROWS]
    if not rows:
        return None
    return min(float(value) if isinstance(value, (int, float)) else -math.inf for value in rows)


def promised_db(manifest: Manifest) -> float:
    """What the pictures of this bundle in reduced precision are held to."""
    recorded = recorded_db(manifest)
    return FINE_DB if recorded is not None and recorded >= FINE_DB else LEAST_DB


def int8_is_proved(manifest: Manifest) -> bool:
    """Whether the export recorded that the int8 encoder's pictures are near enough."""
    recorded = recorded_db(manifest)
    return recorded is not None and recorded >= LEAST_DB


def is_within_gate(way: Way, decibels: float, manifest: Manifest) -> bool:
    """Whether "fastest" may choose a way whose pictures on this machine have this PSNR against float32."""
    if way.precision == "bundle":
        return decibels >= FLOAT32_DB
    if way.precision == "bf16":
        return decibels >= promised_db(manifest)
    return int8_is_proved(manifest) and decibels >= max(promised_db(manifest) - _SMALLER_PHOTOGRAPHS_DB, LEAST_DB)
