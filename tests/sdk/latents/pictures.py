"""Latents of pictures that no model has seen, for tests that need numbers only."""

from __future__ import annotations

import numpy as np

from srflow_sdk import Latents
from srflow_sdk.latents.random_field import LatentLevel, standard_normal

MODEL = "0123456789abcdef" * 4
LEVELS = (
    LatentLevel(level=1, channels=6),
    LatentLevel(level=2, channels=12),
    LatentLevel(level=3, channels=48),
)


def normal_arrays(*, padded_height: int, padded_width: int, seed: int = 0) -> dict[int, np.ndarray]:
    return {
        entry.level: standard_normal(
            seed,
            0,
            entry.level,
            channels=entry.channels,
            top=0,
            left=0,
            height=padded_height >> entry.level,
            width=padded_width >> entry.level,
        )
        for entry in LEVELS
    }


def normal_latents(
    *, height: int = 90, width: int = 70, seed: int = 0, log_likelihood: float | None = None
) -> Latents:
    """Of a picture that needs padding to multiples of 8: true samples."""
    arrays = normal_arrays(
        padded_height=-(-height // 8) * 8, padded_width=-(-width // 8) * 8, seed=seed
    )
    return Latents(
        arrays, height=height, width=width, model_sha256=MODEL, log_likelihood=log_likelihood
    )


def changed_by(latents: Latents, change: object) -> Latents:
    """Latents whose arrays are what change(level, array) gives."""
    arrays = {
        level: np.asarray(change(level, array.copy()), np.float32)
        for level, array in latents.levels.items()
    }
    return Latents(
        arrays, height=latents.height, width=latents.width, model_sha256=latents.model_sha256
    )
