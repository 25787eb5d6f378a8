"""Pictures that suit the one and the other embedded model, and what opens the models."""

import contextlib
from collections.abc import Iterator

import numpy as np

from srflow_apps.batch.jobs import Models
from srflow_sdk import Upscaler
from srflow_sdk.model.model_choice import bundles_of


@contextlib.contextmanager
def models() -> Iterator[Models]:
    with Upscaler("auto", device="cpu", threads=1) as upscaler:
        yield Models(bundles_of("auto"), max_pixels=10_000, upscaler=upscaler)


def smooth(side: int = 96) -> np.ndarray:
    y, x = np.mgrid[0:side, 0:side]
    waves = [np.sin(x / 17 + shift) * np.cos(y / 15 - shift) for shift in (0, 1, 2)]
    return np.rint(127.5 + 90 * np.stack(waves, -1)).astype(np.uint8)


def noisy(sigma: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, sigma, smooth().shape)
    return np.clip(np.rint(smooth() + noise), 0, 255).astype(np.uint8)
