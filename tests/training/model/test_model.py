"""The whole network: inverse, log-likelihood, gradients, initialisation, and what inference must
not do."""

import importlib
import math
from functools import partial
from pathlib import Path

import pytest
import torch

from srflow_sdk.errors import ArgumentError
from srflow_training import SRFlow
from srflow_training.model.transforms import ActnormTransform
from tests.networks import random_srflow, tiny_config

VARIANTS = ("paper", "published", "bounded")


def images(config, *, batch=2, lr_size=None, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    height, width = lr_size or (config.size_multiple, 2 * config.size_multiple)
    lr = torch.rand((batch, 3, height, width), generator=generator, dtype=dtype)
    hr = torch.rand(
        (batch, 3, config.scale * height, config.scale * width), generator=generator, dtype=dtype
    )
    return hr, lr


@pytest.mark.parametrize("scale", [4, 8, 16])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_decode_inverts_encode_and_encode_inverts_decode(variant, scale):
    config = tiny_config(variant, scale=scale)
    model = random_srflow(config).double()
    hr, lr = images(config)
    latents, _ = model.encode(hr, lr)
    assert {level: tuple(z.shape[1:]) for level, z in latents.items()} == model.latent_shapes(
        *lr.shape[2:]
    )
    torch.testing.assert_close(model.decode(lr, latents), hr, rtol=0, atol=1e-9)
    drawn = {level: 0.5 * torch.randn_like(z) for level, z in latents.items()}
    again, _ = model.encode(model.decode(lr, drawn), lr)
    for level in drawn:
        torch.testing.assert_close(again[level], drawn[level], rtol=0, atol=1e-7)


@torch.no_grad()
def test_what_lies_far_from_the_border_is_the_same_in_a_part_of_the_picture():
    """The network is fully convolutional, so that it takes pictures of any size, and parts of
    them."""
    model = random_srflow(tiny_config("paper", blocks=1, steps=1, stacked_blocks=(0,))).double()
    _, lr = images(model.config, batch=1, lr_size=(40, 52))
    latents = {
        level: torch.randn(1, *shape).double()
        for level, shape in model.latent_shapes(40, 52).items()
    }
    whole = model.decode(lr, latents)[..., 16 * 4 : -16 * 4, 22 * 4 : -16 * 4]
    parts = {level: z[..., 6 * z.shape[3] // 52 :] for level, z in latents.items()}
    part = model.decode(lr[..., 6:], parts)[..., 16 * 4 : -16 * 4, 16 * 4 : -16 * 4]
    assert part.shape[2:] == (32, 56)
    torch.testing.assert_close(part, whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_log_likelihood_is_the_change_of_variables_with_autograds_jacobian(variant):
    config = tiny_config(variant, steps=1)
    model = random_srflow(config).double().requires_grad_(False)
    hr, lr = images(config, batch=1, lr_size=(2, 2))

    def latents_of(image):
        latents, _ = model.encode(image[None], lr)
        return torch.cat([z.flatten() for z in latents.values()])

    jacobian = torch.autograd.functional.jacobian(latents_of, hr[0]).reshape(hr.numel(), hr.numel())
    z = latents_of(hr[0])
    prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum()
    expected = torch.linalg.slogdet(jacobian).logabsdet + prior
    torch.testing.assert_close(model.encode(hr, lr)[1][0], expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_every_parameter_but_the_encoders_image_head(variant):
    config = tiny_config(variant)
    model = random_srflow(config)
    hr, lr = images(config, dtype=torch.float32)
    (-model(hr, lr).mean() + model.encoder(lr).square().mean()).backward()
    silent = [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert silent == []


@torch.no_grad()
def test_one_lr_image_serves_a_batch_of_latents():
    config = tiny_config()
    model = random_srflow(config).double()
    _, lr = images(config, batch=1)
    latents = {
        level: torch.randn(3, *shape).double()
        for level, shape in model.latent_shapes(*lr.shape[2:]).items()
    }
    together = model.decode(lr, latents)
    alone = torch.cat(
        [model.decode(lr, {level: z[i : i + 1] for level, z in latents.items()}) for i in range(3)]
    )
    torch.testing.assert_close(together, alone)


@torch.no_grad()
def test_a_seeded_generator_repeats_its_sample_and_tau_widens_it():
    config = tiny_config()
    model = random_srflow(config)
    _, lr = images(config, batch=1, dtype=torch.float32)

    def sample(tau, seed):
        return model.sample(lr, tau=tau, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(sample(0.8, 0), sample(0.8, 0))
    assert not torch.equal(sample(0.8, 0), sample(0.8, 1))
    assert torch.equal(sample(0.0, 0), sample(0.0, 1))
    centre = sample(0.0, 0)
    assert (sample(1.0, 0) - centre).abs().mean() > (sample(0.3, 0) - centre).abs().mean()


@pytest.fixture
def published_network(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    return importlib.import_module("published_network")


@pytest.mark.parametrize("scale", [4, 8])
@pytest.mark.parametrize("variant", ["published", "bounded"])
def test_the_likelihood_and_its_gradients_are_those_of_a_plain_computation(
    variant, scale, published_network
):
    model = random_srflow(tiny_config(variant, scale=scale)).double()
    hr, lr = images(model.config)

    def gradients(log_likelihood):
        model.zero_grad()
        log_likelihood(hr, lr).mean().backward()
        return {
            name: parameter.grad.clone()
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }

    plain = partial(published_network.log_likelihood, model)
    torch.testing.assert_close(model(hr, lr), plain(hr, lr), rtol=1e-12, atol=0)
    ours, theirs = gradients(model), gradients(plain)
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-8, atol=1e-9, msg=name)


@pytest.mark.parametrize("variant", ["published", "bounded"])
def test_actnorms_are_set_once_from_data_to_zero_mean_and_unit_variance(
    variant, published_network, monkeypatch
):
    torch.manual_seed(0)
    config = tiny_config(variant)
    model = SRFlow(config).double()
    hr, lr = images(config, batch=4, lr_size=(8, 8))
    assert not any(actnorm.initialized for actnorm in model.actnorms())
    model.initialize_actnorms(hr, lr)
    assert all(actnorm.initialized for actnorm in model.actnorms())
    seen = []
    encode = ActnormTransform.encode

    def watched(actnorm, h):
        seen.append(encode(actnorm, h)[0])
        return encode(actnorm, h)

    monkeypatch.setattr(ActnormTransform, "encode", watched)
    published_network.log_likelihood(model, hr, lr)  # which computes each actnorm on its own
    assert len(seen) == len(model.actnorms())
    for h in seen:
        torch.testing.assert_close(
            h.mean(dim=(0, 2, 3)),
            torch.zeros(h.shape[1]).double(),
            rtol=0,
            atol=1e-6,
        )
        torch.testing.assert_close(
            h.var(dim=(0, 2, 3), correction=0),
            torch.ones(h.shape[1]).double(),
            rtol=0,
            atol=1e-3,
        )
    with pytest.raises(ArgumentError, match="initialised already"):
        model.initialize_actnorms(hr, lr)


def test_wrong_shapes_are_typed_errors_that_say_what_is_needed():
    model = random_srflow(tiny_config())
    hr, lr = images(model.config, dtype=torch.float32)
    with pytest.raises(ArgumentError, match="multiples of 2"):
        model.sample(torch.rand(1, 3, 5, 4))
    with pytest.raises(ArgumentError, match="4 times"):
        model.encode(hr[..., :-2], lr)
    with pytest.raises(ArgumentError, match="one batch size"):
        model.decode(lr, {1: torch.zeros(2, 6, 4, 4)})
