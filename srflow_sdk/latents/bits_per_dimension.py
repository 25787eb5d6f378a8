"""Log-densities as bits per dimension, the unit in which likelihoods of pictures are compared."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_DEQUANTISATION_KEY = 0x6465_7175_616E_7469  # "dequanti": no seed of latents, which have a sample beside them
_STEPS = 255.0


def bits_per_dimension(nats: float, *, height: int, width: int) -> float:
    """Negative log-likelihood in bits per value of an RGB picture, for 8-bit levels; lower is likelier.

    nats: log-density of the H×W×3 values in [0, 1]. An 8-bit level is 1/256 of that range, hence log2 256 = 8 is added:
    the figure is about the bits that a lossless code of the 8-bit picture needs, and 8 means "all levels are alike".
    """
    return 8.0 - nats / (3 * height * width * math.log(2))


def dequantised(values: NDArray[np.float32], *, top: int = 0) -> NDArray[np.float32]:
    """8-bit levels, 3×h×W in [0, 1], rows from `top` on, spread in [level, level + 1)/256, always alike."""
    spread = np.empty_like(values)
    for number in range(values.shape[1]):
        generator = np.random.Generator(np.random.Philox(counter=[0, 0, 0, top + number], key=_DEQUANTISATION_KEY))
        spread[:, number] = generator.random((3, values.shape[2]), np.float32)
    spread += np.rint(values * _STEPS)
    spread /= _STEPS + 1
    return spread
