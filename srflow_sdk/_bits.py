"""Log-densities as bits per dimension, the unit in which likelihoods of pictures are compared."""

from __future__ import annotations

import math


def bits_per_dimension(nats: float, *, height: int, width: int) -> float:
    """Negative log-likelihood in bits per value of an RGB picture, for 8-bit levels; lower is likelier.

    nats: log-density of the H×W×3 values in [0, 1]. An 8-bit level is 1/256 of that range, hence log2 256 = 8 is added:
    the figure is about the bits that a lossless code of the 8-bit picture needs, and 8 means "all levels are alike".
    """
    return 8.0 - nats / (3 * height * width * math.log(2))
