"""diagnose: statistics of latents and samples, and what it says."""

import math
import re

import numpy as np
import pytest
import torch
from scipy import stats

from srflow_evaluation.diagnose import (
    NORMAL_QUANTILES,
    coverage,
    diagnose,
    error_and_variance,
    moments,
    quantiles,
    rank_shares,
)
from srflow_evaluation.options import Options
from srflow_sdk.flow.inverting import dequantised
from srflow_training import figures, load_checkpoint, save_checkpoint
from srflow_training.resampling import enlarge_bicubic
from tests.evaluation.outputs import drawn_in, pictures_of, summary_of
from tests.networks import random_srflow, tiny_config


def normal_values(count, deviation, seed):
    generator = torch.Generator().manual_seed(seed)
    return [0.5 + deviation / 255 * torch.randn(1, 3, 60, 80, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("deviation", [0.6, 12])  # of 8-bit levels: with many ties, and with few
def test_a_photograph_that_is_one_more_sample_has_every_rank_as_often(deviation):
    *samples, hr = normal_values(8, deviation, seed=0)
    shares = rank_shares(samples, hr)
    assert len(shares) == 8
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx([1 / 8] * 8, abs=0.01)
    for promised, held in coverage(shares):
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
    found = rank_shares(samples, torch.from_numpy(truth / 255)[None])
    assert found == pytest.approx(expected / truth.size)


@pytest.mark.parametrize(("n", "promised"), [(4, [3 / 5, 1 / 5]), (5, [4 / 6, 2 / 6]), (10, [9, 7, 5, 3, 1])])
def test_central_intervals_lie_between_the_kth_smallest_and_the_kth_largest(n, promised):
    promised = [value / 11 if value >= 1 else value for value in promised]
    shares = np.random.default_rng(1).dirichlet(np.ones(n + 1))
    found = coverage(shares)
    assert [probability for probability, _ in found] == pytest.approx(promised)
    assert [held for _, held in found] == pytest.approx([shares[k : n + 1 - k].sum() for k in range(1, n // 2 + 1)])


def test_error_equals_the_deviation_if_the_photograph_is_one_more_sample():
    *samples, hr = normal_values(10, 12, seed=2)
    error, variance = error_and_variance(samples, hr)
    assert error == pytest.approx(variance, rel=0.05)
    assert variance == pytest.approx(12**2, rel=0.05)  # in squares of 255ths
    far = [torch.full((1, 3, 8, 8), (100 + 3 * (number % 2)) / 255) for number in range(8)]
    error, variance = error_and_variance(far, torch.full((1, 3, 8, 8), 110 / 255))
    assert (error, variance) == pytest.approx((8.5**2 / 1.25, 1.5**2 * 4 / 3))


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


def test_quantiles_of_normal_latents_are_the_distributions():
    latents = 2 * np.random.default_rng(1).standard_normal((6, 300, 400), np.float32) + 1
    expected = [2 * value + 1 for value in NORMAL_QUANTILES]
    assert quantiles(latents) == pytest.approx(expected, abs=0.4)
    assert quantiles(latents)[0] == pytest.approx(np.quantile(latents, stats.norm.cdf(-3.5)), abs=1e-5)


@pytest.fixture(scope="module")
def measured(photos, checkpoint, tmp_path_factory):
    """Folder of the three photographs' measurement with four samples; tests only read it."""
    out = tmp_path_factory.mktemp("diagnose") / "out"
    diagnose(Options(models=[str(checkpoint)], hr=photos, output=out, samples=4))
    return out


def test_latents_and_bits_are_the_networks(measured, photos, checkpoint):
    summary, network = summary_of(measured), load_checkpoint(checkpoint)
    deviations, errors, bits = [], [], {}
    with torch.no_grad():
        for picture in pictures_of(photos):
            latents, _ = network.encode(picture.hr, picture.lr)
            deviations.append(float(latents[1].std(correction=0)))
            spread = torch.from_numpy(dequantised(picture.hr[0].numpy()))[None]
            bits[picture.name] = figures.bits_per_dimension(network.encode(spread, picture.lr)[1], picture.hr)
            errors.append((spread - (255 * enlarge_bicubic(picture.lr, 4) + 0.5) / 256).double().abs().flatten())
    assert [row["level"] for row in summary["rows"]] == [1, 2, 3]
    assert "uniform dequantisation" in summary["convention"]
    assert summary["rows"][0]["deviation"] == pytest.approx(np.mean(deviations), rel=1e-4)
    size = float(torch.cat(errors).mean())
    assert summary["bicubic"] == pytest.approx(255 * size, rel=1e-4)
    model = torch.distributions.Laplace(0.0, size)
    for name, error in zip("abc", errors, strict=True):
        assert summary["bits_per_dimension"][name]["flow"] == pytest.approx(bits[name], rel=1e-4)
        expected = 8 - float(model.log_prob(error.float()).double().mean()) / math.log(2)
        assert summary["bits_per_dimension"][name]["laplacian"] == pytest.approx(expected, abs=1e-3)
    assert max(trip["max"] for trip in summary["round_trip"].values()) < 0.1
    assert drawn_in(measured) == set()


@pytest.mark.slow
def test_a_bundle_is_measured_alike(options, tmp_path):
    table = str(diagnose(options(models=[], samples=4, most=2)))
    summary = summary_of(tmp_path / "out")
    assert summary["model"] == "the embedded model"
    assert [found["tau"] for found in summary["calibration"]] == ["0.8", "1"]
    narrow, wide = (found["deviation"] for found in summary["calibration"])
    assert narrow < wide
    assert "every 8-bit value comes back" in table


def test_a_network_whose_latents_are_not_finite_is_called_so(options, tmp_path):
    model = random_srflow(tiny_config())
    model.encoder.conv_first.bias.data[0] = float("nan")
    save_checkpoint(tmp_path / "broken.safetensors", model)
    table = str(diagnose(options(models=[str(tmp_path / "broken.safetensors")], samples=4, most=1)))
    assert table.startswith("### Latents\n\n| latents of | mean | deviation |")
    assert re.findall("### [BCO].*", table) == ["### Calibration", "### Bits per dimension"]
    assert "×4, 1 photograph." in table
    assert "The latents of a are not finite" in table
    summary = summary_of(tmp_path / "out")
    assert summary["photographs_not_finite"] == ["a"]
    assert summary["values_not_finite"] == 2 * 4 * 3 * 64 * 72
    assert summary["bits_per_dimension"]["a"]["flow"] is None
    assert "NaN" not in (tmp_path / "out" / "summary.json").read_text().replace("(NaN or infinite)", "")
