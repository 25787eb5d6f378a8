"""Metrics that libraries compute, against what their publications define.

The others are in test_figures.py.
"""

import numpy as np
import pytest
import torch

from srflow_sdk.errors import ArgumentError
from srflow_training import figures
from srflow_training.resampling import enlarge_bicubic, reduce_bicubic, round_to_8_bit
from tests.training.metrics.test_resampling import pillow_on_a_mirrored_border


@pytest.fixture(scope="module")
def pair():
    """A colourful picture, and the same with noise, both 1×3×176×192."""
    generator = torch.Generator().manual_seed(0)
    photo = round_to_8_bit(enlarge_bicubic(torch.rand(1, 3, 44, 48, generator=generator), 4))
    return photo + 0.25 * torch.randn(photo.shape, generator=generator), photo


@pytest.mark.parametrize(
    ("name", "value"),
    [("gmsd", 0.1012558), ("haarpsi", 0.605557), ("ms_ssim", 0.8924143), ("flip", 0.3627808)],
)
def test_a_figure_is_what_its_publications_definition_gave(pair, name, value):
    """Compared with second implementations of the definitions, of which these values are what is
    kept."""
    assert getattr(figures, name)(*pair) == pytest.approx(value, abs=2e-6)


def in_numpy(image):
    return (np.rint(image[0].double().numpy().clip(0, 1) * 255) / 255).astype(np.float64)


@pytest.mark.parametrize("border", [0, 2])
def test_lr_psnr_is_that_of_pillows_reduction(pair, border):
    image, photo = pair
    lr = round_to_8_bit(reduce_bicubic(photo, 4))
    reduced = np.stack([pillow_on_a_mirrored_border(channel, 4) for channel in in_numpy(image)])
    error = np.rint(reduced.clip(0, 1) * 255) - np.rint(lr[0].numpy() * 255)
    inner = error[:, border : error.shape[1] - border, border : error.shape[2] - border]
    assert figures.lr_psnr(image, lr, border=border) == pytest.approx(
        10 * np.log10(255**2 / np.mean(inner**2)), abs=0.01
    )


def test_bits_per_dimension_are_those_of_a_code_of_the_8_bit_levels():
    """A smooth density's mass on each level is its value times 1/256, and a code spends −log2 of
    it."""
    rng = np.random.default_rng(0)
    deviation = 20 / 256
    image = rng.normal(0.5, deviation, (1, 3, 40, 40)).clip(0.01, 0.99)
    edges = np.floor(image * 256) / 256
    normal = np.vectorize(
        lambda x: 0.5 * (1 + torch.erf(torch.tensor((x - 0.5) / deviation / 2**0.5)).item())
    )
    code = -np.log2(normal(edges + 1 / 256) - normal(edges)).mean()
    nats = (-0.5 * ((image - 0.5) / deviation) ** 2 - np.log(deviation * np.sqrt(2 * np.pi))).sum()
    found = figures.bits_per_dimension(torch.tensor([nats]), torch.from_numpy(image))
    assert found == pytest.approx(code, abs=5e-3)
    # uniform on [0, 1]
    assert figures.bits_per_dimension(torch.zeros(1), torch.from_numpy(image)) == 8


def test_the_diversity_score_is_its_formula_value_by_value():
    maps = np.random.default_rng(1).random((4, 5, 7))
    means = [sum(float(value) for value in sample.ravel()) / sample.size for sample in maps]
    least = [
        min(float(sample[row, column]) for sample in maps)
        for row in range(5)
        for column in range(7)
    ]
    expected = 100 * (min(means) - sum(least) / len(least)) / min(means)
    assert figures.space_diversity(
        [torch.from_numpy(sample)[None, None] for sample in maps]
    ) == pytest.approx(expected, rel=1e-12)
    assert 10 < expected < 90
    assert figures.space_diversity([torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)]) == 0
    with pytest.raises(ArgumentError, match="at least 2"):
        figures.space_diversity([torch.from_numpy(maps[0])])
