"""The variant `paper` computes what the publication's text says: compared with a plain network,
written anew."""

import pytest
import torch

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
        level: torch.randn(len(lr), *shape).double()
        for level, shape in network.latent_shapes(*lr.shape[2:]).items()
    }


@torch.no_grad()
def test_likelihoods_and_pictures_are_those_of_the_plain_network(network):
    hr, lr = pictures(network.config.scale)
    plain = PaperNetwork(network.state_dict(), scale=network.config.scale)
    torch.testing.assert_close(network(hr, lr), plain.log_likelihood(hr, lr), rtol=1e-10, atol=0)
    latents = drawn(network, lr)
    torch.testing.assert_close(
        network.decode(lr, latents),
        plain.decode(lr, latents),
        rtol=1e-7,
        atol=1e-9,
    )
