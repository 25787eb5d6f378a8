"""diagnose: statistics of latents and samples, and what it says."""

import math
import re

import numpy as np
import pytest
import torch
from scipy import stats

from srflow_evaluation.diagnose import (
    diagnose,
    moments,
)
from srflow_evaluation.options import Options
from srflow_sdk.drawing.inverting import dequantised
from srflow_training import figures, load_checkpoint, save_checkpoint
from srflow_training.resampling import enlarge_bicubic
from tests.evaluation.outputs import drawn_in, pictures_of, summary_of
from tests.networks import random_srflow, tiny_config


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
    assert moments(np.full((6, 4, 4), 2, np.float32)) == {
        "mean": 2,
        "deviation": 0,
        "skewness": 0,
        "kurtosis": 0,
    }


@pytest.fixture(scope="module")
def measured(photos, checkpoint, tmp_path_factory):
    """Folder of the three photographs' measurement with four samples; tests only read it."""
    out = tmp_path_factory.mktemp("diagnose") / "out"
    diagnose(Options(models=[str(checkpoint)], hr=photos, output=out))
    return out


def test_latents_and_bits_are_the_networks(measured, photos, checkpoint):
    summary = summary_of(measured)
    network = load_checkpoint(checkpoint)
    deviations = []
    errors = []
    bits = {}
    with torch.no_grad():
        for picture in pictures_of(photos):
            latents, _ = network.encode(picture.hr, picture.lr)
            deviations.append(float(latents[1].std(correction=0)))
            spread = torch.from_numpy(dequantised(picture.hr[0].numpy()))[None]
            bits[picture.name] = figures.bits_per_dimension(
                network.encode(spread, picture.lr)[1], picture.hr
            )
            errors.append(
                (spread - (255 * enlarge_bicubic(picture.lr, 4) + 0.5) / 256)
                .double()
                .abs()
                .flatten()
            )
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
    table = str(diagnose(options(models=[], most=2)))
    summary = summary_of(tmp_path / "out")
    assert summary["model"] == "the embedded model"
    assert "every 8-bit value comes back" in table


def test_a_network_whose_latents_are_not_finite_is_called_so(options, tmp_path):
    model = random_srflow(tiny_config())
    model.encoder.conv_first.bias.data[0] = float("nan")
    save_checkpoint(tmp_path / "broken.safetensors", model)
    table = str(diagnose(options(models=[str(tmp_path / "broken.safetensors")], most=1)))
    assert table.startswith("### Latents\n\n| latents of | mean | deviation |")
    assert re.findall("### [BCO].*", table) == ["### Bits per dimension"]
    assert "×4, 1 photograph." in table
    assert "The latents of a are not finite" in table
    summary = summary_of(tmp_path / "out")
    assert summary["photographs_not_finite"] == ["a"]
    assert summary["bits_per_dimension"]["a"]["flow"] is None
    assert "NaN" not in (tmp_path / "out" / "summary.json").read_text().replace(
        "(NaN or infinite)", ""
    )
