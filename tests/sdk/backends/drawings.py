"""Drawings of the tiny bundle, for the image of the fixture `lr`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from srflow_sdk.backends.base import Drawing
from srflow_sdk.drawing.tiles import Window
from srflow_sdk.model.bundle import Bundle

from ..tiny_bundle import SCALE

WINDOW = Window(top=-2, left=6, height=24, width=30)
CORE = Window(top=8, left=4, height=80, width=100)


def drawing_of(bundle: Bundle, **changes: Any) -> Drawing:
    return replace(
        Drawing(
            levels=bundle.manifest.latent_levels,
            scale=SCALE,
            seed=(1 << 64) - 3,
            sample=1 << 40,
            window=WINDOW,
            tau=0.7,
            core=CORE,
        ),
        **changes,
    )


def maps_of(bundle: Bundle) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(1)
    sizes = {entry.level: (96 >> entry.level, 120 >> entry.level) for entry in bundle.manifest.latent_levels}
    return {level: rng.random(size, np.float32) * np.float32(2) for level, size in sizes.items()}
