"""Pictures that a backend draws of an image made here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from srflow_sdk.backends import Backend, open_backend
from srflow_sdk.backends.openvino import OpenVinoBackend
from srflow_sdk.latents.random_field import window_noise
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.device_names import Device


@contextlib.contextmanager
def opened(bundle: Bundle, device: Device) -> Iterator[Backend]:
    backend = open_backend(bundle, device=device, threads=1)
    try:
        yield backend
    finally:
        backend.deactivate()


def image(height: int, width: int, batch: int = 1) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [0.5 + 0.4 * np.sin(x / 4 + shift) * np.cos(y / 3 - shift) for shift in range(3 * batch)]
    return np.stack(waves).reshape(batch, 3, height, width)


def noise(bundle: Bundle, height: int, width: int, batch: int = 1) -> dict[int, np.ndarray]:
    levels, scale = bundle.manifest.latent_levels, bundle.manifest.scale
    drawn = [
        window_noise(levels, scale=scale, seed=7, sample=sample, height=height, width=width) for sample in range(batch)
    ]
    return {level: np.stack([one[level] for one in drawn]) for level in drawn[0]}


def picture(backend: Any, bundle: Bundle, height: int = 16, width: int = 20, tau: float = 0.8) -> np.ndarray:
    drawn: np.ndarray = backend.sample(backend.encode(image(height, width)), noise(bundle, height, width), tau)
    return drawn


def decibels(found: np.ndarray, expected: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((found - expected).astype(np.float64) ** 2) + 1e-30))


def wrong(patch: pytest.MonkeyPatch) -> None:
    sampling_gives(patch, times=1.1)


def sampling_gives(patch: pytest.MonkeyPatch, *, times: float) -> None:
    """Multiply all pictures of the device by a number."""
    right = OpenVinoBackend.sample_impl
    patch.setattr(OpenVinoBackend, "sample_impl", lambda *given: right(*given) * np.float32(times))
