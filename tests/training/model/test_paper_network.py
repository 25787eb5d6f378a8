"""The variant `paper` computes what the publication's text says: compared with a plain network, written anew."""

import pytest
import torch

from srflow_training import SRFlow
from srflow_training.model import SRFlowConfig
from tests.networks import random_srflow
from tests.training.paper_network import PaperNetwork

SMALL = {"nf": 8, "growth": 4, "blocks": 7, "steps": 2, "hidden": 8}


@pytest.fixture(params=[4, 8, 16])
def network(request):
    return random_srflow(SRFlowConfig.of_variant("paper", scale=request.param, **SMALL)).double()


def pictures(scale):
    generator = torch.Generator().manual_seed(0)
    lr = torch.rand((2, 3, 4, 6), generator=generator, dtype=torch.float64)
    return torch.rand((2, 3, 4 * scale, 6 * scale), generator=generator, dtype=torch.float64), lr


def drawn(network, lr):
    torch.manual_seed(0)
    return {
        level: torch.randn(len(lr), *shape).double() for level, shape in network.latent_shapes(*lr.shape[2:]).items()
    }


@torch.no_grad()
def test_likelihoods_and_pictures_are_those_of_the_plain_network(network):
    hr, lr = pictures(network.config.scale)
    plain = PaperNetwork(network.state_dict(), scale=network.config.scale)
    torch.testing.assert_close(network(hr, lr), plain.log_likelihood(hr, lr), rtol=1e-10, atol=0)
    latents = drawn(network, lr)
    torch.testing.assert_close(network.decode(lr, latents), plain.decode(lr, latents), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    "change",
    [
        {"feature_resize": "nearest"},
        {"scale_map": "sigmoid"},
        {"affine_order": "shift_first"},
        {"stacked_blocks": (0, 1, 2, 4, 6)},
    ],
    ids=str,
)
@torch.no_grad()
def test_each_departure_from_the_text_is_noticed(change):
    config = SRFlowConfig.of_variant("paper", **SMALL)
    text = random_srflow(config)
    other = SRFlow(SRFlowConfig.from_dict({**config.to_dict(), **change}))
    other.load_state_dict(text.state_dict())
    hr, lr = pictures(4)
    expected = PaperNetwork(text.double().state_dict(), scale=4).log_likelihood(hr, lr)
    assert ((other.double()(hr, lr) - expected) / expected).abs().min() > 1e-6  # the text's own is within 1e-10


def test_the_published_sizes_have_five_equally_spaced_blocks():
    for blocks, expected in ((23, (2, 7, 12, 17, 22)), (8, (3, 4, 5, 6, 7))):
        assert SRFlowConfig.of_variant("paper", blocks=blocks).stacked_blocks == expected
