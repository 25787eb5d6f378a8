"""Whether a backend computes the same picture as the CPU: checked once, for providers that are known to err."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.backends._base import Backend
from srflow_sdk.drawing.tiles import MIN_TILE, padded_size
from srflow_sdk.errors import DeviceError
from srflow_sdk.latents.random_field import window_noise
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.model.psnr_bounds import LEAST_DB


def takes_test_image(backend: Backend, manifest: Manifest) -> bool:
    """Whether the image that :func:`agreement` draws is of a size that an active backend takes."""
    side = padded_size(MIN_TILE, manifest.size_multiple)
    return backend.window_limits is None or backend.window_limits.holds(side, side)


def agreement(backend: Backend, reference: Backend, manifest: Manifest) -> float:
    """PSNR in dB between the pictures of two active backends: the same small image, latents and temperature.

    Infinite if they are equal, or if the reference gives non-finite values; -inf if only the first backend does.
    """
    side = padded_size(MIN_TILE, manifest.size_multiple)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    lr = np.stack([0.5 + 0.4 * np.sin(x / 3 + shift) * np.cos(y / 2 - shift) for shift in range(3)])
    drawn = window_noise(manifest.latent_levels, scale=manifest.scale, seed=0, sample=0, height=side, width=side)
    noise = {level: array[None] for level, array in drawn.items()}

    def picture(of: Backend) -> NDArray[np.float64]:
        return of.sample(of.encode(lr[None].astype(np.float32)), noise, manifest.default_tau).astype(np.float64)

    expected, found = picture(reference), picture(backend)
    if not np.isfinite(expected).all():
        return math.inf
    if not np.isfinite(found).all():
        return -math.inf
    error = float(np.mean((np.clip(found, 0, 1) - np.clip(expected, 0, 1)) ** 2))
    return -10 * math.log10(error) if error else math.inf


def check_agreement(
    backend: Backend, reference: Backend, manifest: Manifest, *, fix: str, least_db: float = LEAST_DB
) -> None:
    """Raises: DeviceError, ending in the fix, if an active backend's picture differs from an active reference's.

    A network that multiplies rounding cannot be told from a device that errs, so it runs on the reference's device.
    """
    found = agreement(backend, reference, manifest)
    if found < least_db:
        raise DeviceError(
            f"{backend.device} computes a different picture from {reference.device} ({found:.0f} dB, where rounding "
            f"leaves at least {least_db:.0f}), so it is not used; {fix}"
        )
