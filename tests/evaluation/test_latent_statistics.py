"""Moments and quantiles of latents, against SciPy's."""

import numpy as np
import pytest
from scipy import stats

from srflow_evaluation.latent_statistics import NORMAL_QUANTILES, moments, quantiles


def test_moments_are_scipys():
    latents = (np.random.default_rng(0).gamma(3.0, 0.5, (6, 40, 50)) - 1).astype(np.float32)
    found = moments(latents)
    values = latents.astype(np.float64).ravel()
    assert found["mean"] == pytest.approx(values.mean())
    assert found["deviation"] == pytest.approx(values.std())
    assert found["skewness"] == pytest.approx(stats.skew(values))
    assert found["kurtosis"] == pytest.approx(stats.kurtosis(values))
    assert found["skewness"] > 0.5


def test_latents_that_are_all_equal_have_no_shape():
    assert moments(np.full((6, 4, 4), 2, np.float32)) == {"mean": 2, "deviation": 0, "skewness": 0, "kurtosis": 0}


def test_quantiles_of_normal_latents_are_the_diagonal():
    latents = 2 * np.random.default_rng(1).standard_normal((6, 300, 400), np.float32) + 1
    expected = [2 * value + 1 for value in NORMAL_QUANTILES]
    assert quantiles(latents)[2:-2] == pytest.approx(expected[2:-2], abs=0.05)
    assert quantiles(latents)[0] == pytest.approx(np.quantile(latents, stats.norm.cdf(-3.5)), abs=1e-5)
