"""The encoder laid out for integer convolutions computes what the other one does."""

import pytest
import torch

from srflow_export._int8_layout import IntegerEncoderGraph
from srflow_export.graphs import EncoderGraph
from tests.networks import random_srflow, tiny_config


@pytest.mark.parametrize(
    "settings",
    [{}, {"variant": "published"}, {"variant": "paper"}, {"scale": 8, "levels": 4}, {"unshuffle": 2}],
    ids=["bounded", "published", "paper", "enlarged by 4", "unshuffled"],
)
@torch.no_grad()
def test_both_layouts_give_the_same_conditioning(settings):
    model = random_srflow(tiny_config(**settings))
    lr = torch.rand(2, 3, 16, 24)
    expected = EncoderGraph(model).eval()(lr)
    found = IntegerEncoderGraph(model).eval()(lr)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_network_itself_stays_as_it_is():
    model = random_srflow(tiny_config())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    IntegerEncoderGraph(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
