"""Every transform, in float64: decode inverts encode, the log-determinant is autograd's."""

from functools import partial

import numpy as np
import pytest
import torch

from srflow_training.model import SRFlowConfig
from srflow_training.model.features import LevelFeatures
from srflow_training.model.layers import ConditionalNet, Split
from srflow_training.model.srflow import Level
from srflow_training.model.transforms import (
    ActnormTransform,
    CouplingTransform,
    ElementwiseAffine,
    MixChannels,
    Squeeze,
    mix_channels,
    standard_normal_log_density,
)
from tests.networks import tiny_config

SHAPE = (2, 8, 4, 6)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def conditional_net(config: SRFlowConfig, state_channels: int, out_channels: int) -> ConditionalNet:
    torch.manual_seed(1)
    net = ConditionalNet(state_channels, out_channels, config, level=1).double()
    for parameter in net.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return net


TRANSFORMS = {
    "squeeze": lambda: Squeeze(),
    "actnorm": lambda: ActnormTransform(normal(1, 8, 1, 1), 0.3 * normal(1, 8, 1, 1, seed=1)),
    "mix": lambda: MixChannels(normal(8, 8), normal(8, seed=1)),
    "affine, scale first": lambda: ElementwiseAffine(
        0.3 * normal(*SHAPE), normal(*SHAPE, seed=1), "scale_first"
    ),
    "affine, shift first": lambda: ElementwiseAffine(
        0.3 * normal(*SHAPE), normal(*SHAPE, seed=1), "shift_first"
    ),
    **{
        f"coupling, {variant}": lambda variant=variant: CouplingTransform(
            partial(conditional_net(tiny_config(variant), 4, 4), 0.1 * normal(1, 8, 4, 6, seed=3))
        )
        for variant in ("paper", "published", "bounded")
    },
}


def jacobian_log_det(function, h):
    """log|det ∂function/∂h| of each image in the batch, from autograd."""
    log_dets = []
    for image in h:
        jacobian = torch.autograd.functional.jacobian(
            lambda x: function(x[None])[0].flatten(), image
        )
        log_dets.append(
            torch.linalg.slogdet(jacobian.reshape(image.numel(), image.numel())).logabsdet
        )
    return torch.stack(log_dets)


@pytest.mark.parametrize("name", TRANSFORMS)
@torch.no_grad()
def test_decode_inverts_encode(name):
    transform = TRANSFORMS[name]()
    h = normal(*SHAPE, seed=2)
    encoded, _ = transform.encode(h)
    torch.testing.assert_close(transform.decode(encoded), h, rtol=0, atol=1e-10)
    torch.testing.assert_close(transform.encode(transform.decode(h))[0], h, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_log_det_is_autograds(name):
    transform = TRANSFORMS[name]()
    h = normal(*SHAPE, seed=2)[:1]
    if name.startswith("affine"):
        transform = ElementwiseAffine(transform.log_scale[:1], transform.shift[:1], transform.order)
    with torch.no_grad():
        log_det = transform.encode(h)[1]
    torch.testing.assert_close(
        log_det.expand(1), jacobian_log_det(lambda x: transform.encode(x)[0], h)
    )


def test_squeeze_puts_row_offset_before_column_offset():
    h = torch.arange(2 * 4 * 4, dtype=torch.float64).reshape(1, 2, 4, 4)
    squeezed, _ = Squeeze().encode(h)
    for channel in range(2):
        for row in range(2):
            for column in range(2):
                expected = h[:, channel, row::2, column::2]
                assert torch.equal(squeezed[:, 4 * channel + 2 * row + column], expected)


@pytest.mark.parametrize("variant", ["paper", "published", "bounded"])
def test_a_level_inverts_and_its_log_det_is_autograds(variant):
    config = tiny_config(variant)
    torch.manual_seed(0)
    level = Level(config.level_shapes[0], config).double()
    for parameter in level.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    h = normal(1, 3, 4, 8)
    u = normal(1, config.feature_channels, 2, 4, seed=1)
    parts = level.parts_on_u(LevelFeatures(own=u))

    def encode(x):
        kept, latent, log_det = level.encode(x, parts)
        return torch.cat([kept, latent], dim=1), log_det

    with torch.no_grad():
        kept, latent, log_det = level.encode(h, parts)
        torch.testing.assert_close(level.decode(kept, latent, parts), h, rtol=0, atol=1e-10)
    torch.testing.assert_close(log_det.expand(1), jacobian_log_det(lambda x: encode(x)[0], h))


@torch.no_grad()
def test_an_actnorm_and_the_mixing_after_it_are_one_map():
    h = normal(*SHAPE)
    weights = [normal(8, 8, seed=seed) for seed in (1, 2)]
    actnorms = [
        ActnormTransform(normal(1, 8, 1, 1, seed=3), normal(1, 8, 1, 1, seed=seed))
        for seed in (4, 5)
    ]
    forward, backward = (
        mix_channels(actnorms, weights, direction) for direction in ("encode", "decode")
    )
    for actnorm, weight, encoding, decoding in zip(
        actnorms,
        weights,
        forward,
        backward,
        strict=True,
    ):
        normalised, log_det = actnorm.encode(h)
        expected = torch.einsum("oi,nihw->nohw", weight, normalised)
        encoded, folded_log_det = encoding.encode(h)
        torch.testing.assert_close(encoded, expected)
        torch.testing.assert_close(
            folded_log_det, log_det + torch.linalg.slogdet(weight).logabsdet * 4 * 6
        )
        torch.testing.assert_close(decoding.decode(encoded), h)


@pytest.mark.parametrize("variant", ["published", "bounded"])
@torch.no_grad()
def test_a_split_inverts_and_normalises_what_leaves(variant):
    torch.manual_seed(0)
    split = Split(4, 4, tiny_config(variant)).double()
    for parameter in split.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    h = normal(*SHAPE)
    kept, latent, log_det = split.encode(h)
    mean, logs = split.conv(kept).chunk(2, dim=1)
    if variant == "bounded":
        logs = 2 * torch.tanh(logs / 2)
    torch.testing.assert_close(latent, (h[:, 4:] - mean) * torch.exp(-logs))
    torch.testing.assert_close(log_det, -logs.sum(dim=(1, 2, 3)))
    torch.testing.assert_close(split.decode(kept, latent), h, rtol=0, atol=1e-10)


@torch.no_grad()
def test_bounded_scales_stay_within_their_bound():
    net = conditional_net(tiny_config("bounded", clamp=0.5), 3, 3)
    log_scale = net(torch.zeros(1, 8, 8, 8).double(), 1e6 * normal(1, 3, 8, 8)).log_scale
    assert 0.4 < float(log_scale.abs().max()) <= 0.5


def test_density_is_the_standard_normals():
    latent = normal(*SHAPE)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(latent).sum(dim=(1, 2, 3))
    torch.testing.assert_close(standard_normal_log_density(latent), expected)


def test_large_matrices_are_exact_with_several_threads():
    torch.manual_seed(0)
    actnorms = [ActnormTransform(torch.zeros(1, 192, 1, 1), torch.zeros(1, 192, 1, 1))] * 4
    weights = list(torch.randn(4, 192, 192))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        forward, backward = (
            mix_channels(actnorms, weights, direction) for direction in ("encode", "decode")
        )
    finally:
        torch.set_num_threads(threads)
    for encoding, decoding, weight in zip(forward, backward, weights, strict=True):
        matrix = weight.double().numpy()
        assert encoding.log_abs_det.item() == pytest.approx(np.linalg.slogdet(matrix)[1])
        np.testing.assert_allclose(decoding.inverse.numpy() @ matrix, np.eye(192), atol=1e-9)
