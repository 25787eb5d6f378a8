"""How normal latents are: their moments and quantiles beside those of a standard normal distribution."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

NORMAL_QUANTILES = tuple(step / 2 for step in range(-7, 8))
"""Standard normal values of the Q–Q plot: −3.5 … 3.5."""

_PROBABILITIES = [0.5 * (1 + math.erf(value / math.sqrt(2))) for value in NORMAL_QUANTILES]


def moments(latents: npt.NDArray[np.float32]) -> dict[str, float]:
    """Mean, standard deviation, skewness and excess kurtosis; 0, 1, 0 and 0 if the latents are standard normal.

    Skewness and kurtosis are the third and fourth standardised moments (less 3), 0 for latents that are all equal.
    """
    values = latents.astype(np.float64)
    mean, deviation = float(values.mean()), float(values.std())
    standard = (values - mean) / deviation if deviation > 0 else np.zeros_like(values)
    square = standard * standard
    skewness = float((square * standard).mean())
    kurtosis = float((square * square).mean()) - 3 if deviation > 0 else 0.0
    return {"mean": mean, "deviation": deviation, "skewness": skewness, "kurtosis": kurtosis}


def quantiles(latents: npt.NDArray[np.float32]) -> list[float]:
    """The latents' quantiles at the probabilities of :data:`NORMAL_QUANTILES`, interpolated linearly."""
    return [float(value) for value in np.quantile(latents.astype(np.float64), _PROBABILITIES)]
