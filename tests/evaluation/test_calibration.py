"""Ranks, coverage and error by deviation, on samples whose spread is known."""

import numpy as np
import pytest
import torch

from srflow_evaluation import calibration


def normal_values(count, deviation, seed):
    generator = torch.Generator().manual_seed(seed)
    return [0.5 + deviation / 255 * torch.randn(1, 3, 60, 80, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("deviation", [0.6, 12])  # of 8-bit levels: with many ties, and with few
def test_a_photograph_that_is_one_more_sample_has_every_rank_as_often(deviation):
    *samples, hr = normal_values(8, deviation, seed=0)
    shares = calibration.rank_shares(samples, hr)
    assert len(shares) == 8
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx([1 / 8] * 8, abs=0.01)
    for promised, held in calibration.coverage(shares):
        assert held == pytest.approx(promised, abs=0.02)


def test_ranks_are_counted_value_by_value():
    rng = np.random.default_rng(0)
    levels = rng.integers(100, 104, (4, 3, 5, 6))
    truth = rng.integers(100, 104, (3, 5, 6))
    expected = np.zeros(5)
    for index in np.ndindex(truth.shape):
        values = levels[(slice(None), *index)]
        lowest = int((values < truth[index]).sum())
        ties = int((values == truth[index]).sum())
        expected[lowest : lowest + ties + 1] += 1 / (ties + 1)
    samples = [torch.from_numpy(sample / 255)[None] for sample in levels]
    found = calibration.rank_shares(samples, torch.from_numpy(truth / 255)[None])
    assert found == pytest.approx(expected / truth.size)


@pytest.mark.parametrize(("n", "promised"), [(4, [3 / 5, 1 / 5]), (5, [4 / 6, 2 / 6]), (10, [9, 7, 5, 3, 1])])
def test_central_intervals_lie_between_the_kth_smallest_and_the_kth_largest(n, promised):
    promised = [value / 11 if value >= 1 else value for value in promised]
    shares = np.random.default_rng(1).dirichlet(np.ones(n + 1))
    found = calibration.coverage(shares)
    assert [probability for probability, _ in found] == pytest.approx(promised)
    assert [held for _, held in found] == pytest.approx([shares[k : n + 1 - k].sum() for k in range(1, n // 2 + 1)])


def test_samples_that_are_too_sure_hold_the_photograph_too_rarely():
    shares = calibration.rank_shares(normal_values(9, 4, seed=0), normal_values(1, 12, seed=1)[0])
    assert shares[0] > 0.25
    assert all(held < promised - 0.05 for promised, held in calibration.coverage(shares))


@pytest.mark.parametrize("count", [4, 10])
def test_error_equals_deviation_in_every_bin_if_the_photograph_is_one_more_sample(count):
    """Also with few samples, though a value's deviation is then much a matter of chance."""
    generator = torch.Generator().manual_seed(2)
    deviation = 2 ** (4 * torch.rand(1, 3, 200, 250, generator=generator)) / 255  # 1 … 16 levels
    *samples, hr = (0.5 + deviation * torch.randn(deviation.shape, generator=generator) for _ in range(count + 1))
    bins = calibration.error_by_deviation(samples, hr)
    assert sum(found["count"] for found in bins) == deviation.numel()
    large = [found for found in bins if found["count"] > 3000]
    assert len(large) >= 6
    for found in large:
        assert found["squared_error"] == pytest.approx(found["variance"], rel=0.12)


def test_error_is_in_squares_of_255ths():
    hr = torch.full((1, 3, 8, 8), 110 / 255)
    samples = [torch.full((1, 3, 8, 8), (100 + 3 * (number % 2)) / 255) for number in range(8)]
    (found,) = calibration.error_by_deviation(samples, hr)
    assert found["bin"] == 1.5  # 3/2·√(4/3) = 1.73
    assert found["variance"] == pytest.approx(1.5**2 * 4 / 3)
    assert found["squared_error"] == pytest.approx(8.5**2 / 1.25)
