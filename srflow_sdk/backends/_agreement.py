"""How far a backend's pictures of small photographs are from another's, for devices that may err and for precisions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk.backends._base import Backend, Drawing
from srflow_sdk.drawing.tiles import MIN_TILE, Window, padded_size
from srflow_sdk.errors import DeviceError
from srflow_sdk.model.manifest import LEAST_DB, Manifest

_Array = NDArray[np.float32]
_FOLDER = Path(__file__).parent / "patches"
_MARGIN_DB = 10.0  # by which two roundings of one network may differ, as in srflow_export.parity


def photographs(multiple: int) -> list[_Array]:
    """Two photographs as LR images: float32 1×3×h×w in [0, 1], 32×32 or the next multiple of the size multiple.

    A synthetic image would promise too much: an earlier embedded model in int8 kept 41.8 dB on waves, 39.8 to 42.2
    on seven photographs that it never saw, and 39.8 and 40.8 on these two.
    """
    found = []
    for name in ("face.png", "sky.png"):
        with Image.open(_FOLDER / name) as image:
            pixels = np.asarray(image.convert("RGB"), np.float32) / 255
        missing = [(0, padded_size(side, multiple) - side) for side in pixels.shape[:2]]
        padded = np.pad(pixels, (*missing, (0, 0)), mode="edge")
        found.append(np.ascontiguousarray(padded.transpose(2, 0, 1)[None]))
    return found


def picture(backend: Backend, lr: _Array, manifest: Manifest) -> _Array:
    """Draw one picture on an active backend at the default temperature. lr: 1×3×h×w. Returns float32 1×3×sh×sw."""
    height, width = lr.shape[2:]
    whole = Window(top=0, left=0, height=height, width=width)
    drawing = Drawing(
        levels=manifest.latent_levels,
        scale=manifest.scale,
        seed=0,
        sample=0,
        window=whole,
        tau=manifest.default_tau,
        core=whole.scaled(manifest.scale),
    )
    return backend.draw(backend.encode(lr), drawing)[None]


def psnr(found: _Array, expected: _Array) -> float:
    """PSNR in dB of two pictures within [0, 1]; infinite if they are equal, -inf if either is not finite."""
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return -math.inf
    difference = np.clip(found, 0, 1).astype(np.float64) - np.clip(expected, 0, 1)
    error = float(np.mean(difference**2))
    return -10 * math.log10(error) if error else math.inf


def takes_test_image(backend: Backend, manifest: Manifest) -> bool:
    """Check that an active backend takes an image of the size that :func:`agreement` draws."""
    side = padded_size(MIN_TILE, manifest.size_multiple)
    return backend.window_limits is None or backend.window_limits.holds(side, side)


def agreement(backend: Backend, reference: Backend, manifest: Manifest) -> float:
    """PSNR in dB between the pictures of two active backends, of a part of a photograph with the same latents.

    Infinite if they are equal, or if the reference gives non-finite values; -inf if only the first backend does.
    """
    side = padded_size(MIN_TILE, manifest.size_multiple)
    lr = np.ascontiguousarray(photographs(manifest.size_multiple)[0][..., :side, :side])
    expected = picture(reference, lr, manifest)
    return psnr(picture(backend, lr, manifest), expected) if np.isfinite(expected).all() else math.inf


def check_agreement(
    backend: Backend, reference: Backend, manifest: Manifest, *, fix: str, least_db: float = LEAST_DB
) -> None:
    """Raises: DeviceError, ending in the fix, if an active backend's picture differs from an active reference's.

    least_db: what a healthy network's keep. One that multiplies rounding is further from itself, as far as its export
    found: the manifest's `own_db` at temperatures up to the default, less a margin, is then the bound.
    """
    least_db = min([least_db, *(db - _MARGIN_DB for db in _own_decibels(manifest))])
    found = agreement(backend, reference, manifest)
    if found < least_db:
        raise DeviceError(
            f"{backend.device} computes a different picture from {reference.device} ({found:.0f} dB, where rounding "
            f"leaves at least {least_db:.0f}), so it is not used; {fix}"
        )


def _own_decibels(manifest: Manifest) -> Iterator[float]:
    """Yield the PSNR that the network's own pictures kept at export, up to the default tau, where finite."""
    for row in manifest.parity:
        tau, db = row.get("tau"), row.get("own_db")
        if isinstance(tau, (int, float)) and isinstance(db, (int, float)) and tau <= manifest.default_tau and db > 0:
            yield float(db)
