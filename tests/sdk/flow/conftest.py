from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest


@dataclass(frozen=True)
class Pictures:
    """A target and a source, uint8 64×56×3, and a mask of two parts, one at the border."""

    target: np.ndarray
    source: np.ndarray
    mask: np.ndarray


def noisy_waves(height: int, width: int, *, noise: float) -> np.ndarray:
    """A uint8 picture with detail, height×width×3."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 5 + shift) * np.cos(y / 3 - shift) for shift in (0, 1, 2)], -1)
    values = 127.5 + 70 * waves + np.random.default_rng(0).normal(0, noise, waves.shape)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


@pytest.fixture
def pictures():
    y, x = np.mgrid[0:64, 0:56]
    rng = np.random.default_rng(0)
    waves = np.stack([np.sin(x / 9 + shift) * np.cos(y / 7 - shift) for shift in (0, 1, 2)], -1)
    target = np.clip(np.rint(150 + 50 * waves + rng.normal(0, 4, waves.shape)), 0, 255).astype(
        np.uint8
    )
    source = np.clip(
        np.rint(90 + 60 * waves[::-1, ::-1] + rng.normal(0, 4, waves.shape)), 0, 255
    ).astype(np.uint8)
    mask = np.hypot(y - 24, x - 24) < 11
    mask[54:, 42:] = True
    return Pictures(target, source, mask)
