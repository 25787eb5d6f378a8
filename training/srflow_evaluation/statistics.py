"""How normal latents are, and whether samples spread as much as they err.

Ranks and errors are of 8-bit values, pixel by pixel and channel by channel. If the photograph were one more sample, its
rank among n samples would be 0 … n with the same probability, and its squared distance from their mean would be
(1 + 1/n) times their variance. That holds exactly for any distribution, whatever n, so nothing here is approximate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from srflow_training.figures import as_shown

NORMAL_QUANTILES = (-3.5, 3.5)
"""Standard normal values: what of normal latents is beyond them is two in ten thousand."""

_PROBABILITIES = [0.5 * (1 + math.erf(value / math.sqrt(2))) for value in NORMAL_QUANTILES]

LEAST_SAMPLES = 4
"""Fewer have hardly a deviation."""


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


def rank_shares(samples: Sequence[Tensor], hr: Tensor) -> list[float]:
    """The share of values whose rank among the n samples is 0, 1 … n: n + 1 numbers whose sum is 1.

    A value that equals t samples has t + 1 possible ranks, and counts for each with weight 1/(t + 1).
    samples, hr: 1×3×H×W in [0, 1].
    """
    shown, truth = _levels(samples), _levels([hr])[0]
    below = (shown < truth).sum(axis=0)
    ties = (shown == truth).sum(axis=0)
    weight = 1.0 / (ties + 1)
    return [
        float(np.where((below <= rank) & (rank <= below + ties), weight, 0.0).mean())
        for rank in range(len(samples) + 1)
    ]


def coverage(shares: Sequence[float]) -> list[tuple[float, float]]:
    """For each central interval between samples, the probability that it promises and the share that it holds.

    The interval between the k-th smallest and the k-th largest of n samples holds a further one with probability
    (n + 1 − 2k)/(n + 1). Widest first.
    """
    n = len(shares) - 1
    return [((n + 1 - 2 * k) / (n + 1), sum(shares[k : n + 1 - k])) for k in range(1, n // 2 + 1)]


def error_and_variance(samples: Sequence[Tensor], hr: Tensor) -> tuple[float, float]:
    """The mean squared distance of the photograph from the samples' mean, and their mean variance, /255².

    Of the second half of the samples. The squared distance is divided by 1 + 1/n, so that it equals the variance if the
    photograph is one more sample. samples: at least 4, and hr: 1×3×H×W in [0, 1].
    """
    shown, truth = _levels(samples[len(samples) // 2 :]), _levels([hr])[0]
    square = (truth - shown.mean(axis=0)) ** 2 / (1 + 1 / len(shown))
    return float(square.mean()), float(shown.var(axis=0, ddof=1).mean())


def _levels(images: Sequence[Tensor]) -> npt.NDArray[np.float64]:
    """N×3×H×W whole numbers, 0 … 255."""
    levels: npt.NDArray[np.float64] = (torch.cat([as_shown(image) for image in images]).double() * 255).round().numpy()
    return levels
