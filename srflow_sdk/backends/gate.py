"""The gate: how far a device's picture may be from the CPU's float32 picture of the same latents.

Decibels are image-space PSNR at the bundle's default temperature, on two small photographs.

- A device that may err must reach 38 dB, the bound of every export; OpenVINO with float32 graphs 90
  dB, so that a seed stays a picture.
- A bundle promises 43 dB if every row that its export recorded for the int8 encoder reaches 43,
  otherwise 38 dB.
- bf16 must reach what the bundle promises. int8 needs recorded rows that all reach 38 dB, and must
  come within 1 dB of what the bundle promises: the export proved the graph on more and larger
  photographs, here the runtime is checked.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from srflow_sdk.backends.base import Backend, Drawing
from srflow_sdk.errors import DeviceError
from srflow_sdk.geometry.tiles import MIN_TILE, Window, padded_size
from srflow_sdk.model.manifest import FINE_DB, FLOAT32_DB, LEAST_DB, Manifest
from srflow_sdk.pixels.in_memory import Floats
from srflow_sdk.system.hardware import ComputePrecision

INT8_ROWS = "encoder.int8+sampler"  # the graph that a manifest's rows about its int8 encoder name
_MARGIN_DB = 10.0  # by which two roundings of one network may differ, as in srflow_export.parity
_SMALLER_PHOTOGRAPHS_DB = 1.0


def photographs(multiple: int) -> list[Floats]:
    """Open two photographs as LR images, float32 1×3×h×w in [0, 1].

    They have 32×32 pixels, or the next multiple of the size multiple.
    """
    # A synthetic image would promise too much: 41.8 dB of an int8 encoder that kept 39.8 on one of
    # these.
    photos = []
    for path in sorted((Path(__file__).parent / "patches").glob("*.png")):
        pixels = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
        missing = [(0, padded_size(side, multiple) - side) for side in pixels.shape[:2]]
        padded = np.pad(pixels, (*missing, (0, 0)), mode="edge")
        photos.append(np.ascontiguousarray(padded.transpose(2, 0, 1)[None]))
    return photos


def picture(backend: Backend, lr: Floats, manifest: Manifest) -> Floats:
    """Draw one picture on an active backend at the default temperature.

    lr: 1×3×h×w. Returns float32 1×3×sh×sw.
    """
    whole = Window(top=0, left=0, height=lr.shape[2], width=lr.shape[3])
    drawing = Drawing(
        levels=manifest.latent_levels,
        scale=manifest.scale,
        seed=0,
        sample=0,
        window=whole,
        tau=manifest.default_tau,
        core=whole.scaled(manifest.scale),
    )
    drawn: Floats = backend.begin(backend.encode(lr), drawing)().transpose(2, 0, 1)
    return drawn[None]


def psnr(picture: Floats, expected: Floats) -> float:
    """PSNR in dB of two pictures within [0, 1].

    Infinite if they are equal, -inf if either is not finite.
    """
    if not (np.isfinite(picture).all() and np.isfinite(expected).all()):
        return -math.inf
    difference = np.clip(picture, 0, 1).astype(np.float64) - np.clip(expected, 0, 1)
    error = float(np.mean(difference**2))
    return -10 * math.log10(error) if error else math.inf


def check_agreement(
    backend: Backend, reference: Backend, manifest: Manifest, *, least_db: float = LEAST_DB
) -> None:
    """Raises: DeviceError if a backend's picture is not near a reference's, and the network's own
    is finite.
    """
    side = padded_size(MIN_TILE, manifest.size_multiple)
    lr = np.ascontiguousarray(photographs(manifest.size_multiple)[0][..., :side, :side])
    if backend.window_limits is not None and not backend.window_limits.holds(side, side):
        return
    expected = picture(reference, lr, manifest)
    for row in manifest.parity:
        own_db = row.get("own_db") or 0  # of a network that multiplies rounding
        if own_db > 0 and row["tau"] <= manifest.default_tau:
            least_db = min(least_db, own_db - _MARGIN_DB)
    if not np.isfinite(expected).all():
        return
    decibels = psnr(picture(backend, lr, manifest), expected)
    if decibels < least_db:
        raise DeviceError(
            f"{backend.device} computes a different picture from {reference.device} "
            f"({decibels:.0f} dB, where rounding leaves at least {least_db:.0f}), so it is not "
            f"used; {backend.fix}"
        )


def is_within_gate(precision: ComputePrecision, decibels: float, manifest: Manifest) -> bool:
    """True if "fastest" may choose what gives pictures with this PSNR against float32 here."""
    if precision == "bundle":
        return decibels >= FLOAT32_DB
    rows = [row.get("psnr_db") for row in manifest.parity if row.get("graph") == INT8_ROWS]
    recorded = min(
        (float(db) if isinstance(db, (int, float)) else -math.inf for db in rows), default=-math.inf
    )
    promised = FINE_DB if recorded >= FINE_DB else LEAST_DB
    if precision == "bf16":
        return decibels >= promised
    return recorded >= LEAST_DB and decibels >= max(promised - _SMALLER_PHOTOGRAPHS_DB, LEAST_DB)
