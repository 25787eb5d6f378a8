"""Pictures that suit the one and the other embedded model."""

import numpy as np


def smooth(side: int = 96) -> np.ndarray:
    y, x = np.mgrid[0:side, 0:side]
    waves = [np.sin(x / 17 + shift) * np.cos(y / 15 - shift) for shift in (0, 1, 2)]
    return np.rint(127.5 + 90 * np.stack(waves, -1)).astype(np.uint8)


def noisy(sigma: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, sigma, smooth().shape)
    return np.clip(np.rint(smooth() + noise), 0, 255).astype(np.uint8)
