"""The encoder laid out for integer convolutions computes what the other one does."""

import numpy as np
import pytest
import torch

from srflow_export._int8_layout import IntegerEncoderGraph
from srflow_export.graphs import EncoderGraph
from tests.networks import PLAIN, random_srflow, tiny_config

CROPS = [np.random.default_rng(seed).random((1, 3, 16, 16), dtype=np.float32) for seed in range(2)]


@pytest.mark.parametrize(
    "settings",
    [{}, {"variant": "published"}, {"variant": "paper"}, {"scale": 8, "levels": 4}, {"unshuffle": 2}, PLAIN],
    ids=["bounded", "published", "paper", "enlarged by 4", "unshuffled", "plain"],
)
@torch.no_grad()
def test_both_layouts_give_the_same_conditioning(settings):
    model = random_srflow(tiny_config(**settings))
    lr = torch.rand(2, 3, 16, 24)
    expected = EncoderGraph(model).eval()(lr)
    found = IntegerEncoderGraph(model, CROPS).eval()(lr)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_network_itself_stays_as_it_is():
    model = random_srflow(tiny_config())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    IntegerEncoderGraph(model, CROPS)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@torch.no_grad()
def test_channels_of_u_are_balanced_for_the_rounding_that_they_share():
    model = random_srflow(tiny_config())
    graph = IntegerEncoderGraph(model, CROPS)
    for index, level in enumerate(graph.levels):
        u = [model.features(torch.from_numpy(lr)).levels[index].u() for lr in CROPS]
        before, after = (_spread(each) for each in (u, [value * level.shares for value in u]))
        assert after < 0.5 * before


def _spread(values):
    """By how many factors of e the sizes of channels differ, at the median."""
    sizes = torch.stack([value.abs().amax(dim=(0, 2, 3)) for value in values]).amax(dim=0).log()
    return float((sizes - sizes.median()).abs().median())


@torch.no_grad()
def test_what_grows_in_a_dense_block_becomes_half_as_large_as_what_it_grows_on():
    model = random_srflow(tiny_config())
    block = IntegerEncoderGraph(model, CROPS).model.encoder.blocks[0].dense[0]
    taken = [model.encoder.conv_first(torch.from_numpy(lr)) for lr in CROPS]
    largest = max(float(x.abs().max()) for x in taken)
    grown = torch.stack([torch.nn.functional.leaky_relu(block.convs[0](x), 0.2).abs().amax((0, 2, 3)) for x in taken])
    torch.testing.assert_close(grown.amax(dim=0), torch.full_like(grown[0], largest / 2), rtol=1e-3, atol=0)


@torch.no_grad()
def test_a_channel_that_is_always_zero_does_no_harm():
    model = random_srflow(tiny_config())
    for conv in (model.encoder.upconvs[0], model.encoder.blocks[0].dense[0].convs[0]):
        conv.weight[0].zero_()
        conv.bias[0].zero_()
    assert all(torch.isfinite(value).all() for value in IntegerEncoderGraph(model, CROPS).state_dict().values())
