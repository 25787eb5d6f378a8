"""Conditions of their own width by level, and nets of their own size, against computations of
another form."""

import pytest
import torch
from torch.nn import functional as F

from srflow_training.model import SRFlow, SRFlowConfig
from srflow_training.model.config import UNUSED
from srflow_training.model.layers import ZerosConv
from tests.networks import random_srflow, tiny_config
from tests.training.model.test_plain_encoder import plain_config
from tests.training.model.test_transforms import normal

BY_LEVEL = {
    "steps": (1, 2, 3),
    "hidden": (8, 12, 16),
    "injector_hidden": (4, 8, 12),
    "condition_kernel": 1,
}
CONFIGS = {
    "plain": plain_config(**BY_LEVEL),
    "plain, 3×3": plain_config(**{**BY_LEVEL, "condition_kernel": 3}),
    "plain, with a block": plain_config(stacked_blocks=(0,)),
    "rrdb": tiny_config(condition=(8, 12, 16), **BY_LEVEL),
    "rrdb, without its level feature": tiny_config(condition=(8, 12, 16), level_feature=False),
    "paper": tiny_config("paper", condition=(8, 12, 16), **BY_LEVEL),
    "residual": plain_config(residual=True, image_base="nearest"),
    "×2": plain_config(scale=2, condition=(8, 12)),
    "×8": plain_config(scale=8, condition=(8, 8, 12, 16)),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@torch.no_grad()
def test_u_is_a_shuffled_1x1_convolution_of_the_trunk_and_decoding_inverts_encoding(config):
    model = random_srflow(config).double()
    lr = normal(2, 3, 8, 4)
    hr = normal(2, 3, 8 * config.scale, 4 * config.scale)
    torch.testing.assert_close(model.decode(lr, model.encode(hr, lr)[0]), hr, rtol=0, atol=1e-9)
    found = model.encoder.features(lr, block_indices=config.stacked_blocks)
    trunk = torch.cat([*([found.last] if config.level_feature else []), *found.blocks], dim=1)
    for shape, features, projection in zip(
        config.level_shapes,
        model.features(lr).levels,
        model.projections,
        strict=True,
    ):
        x = trunk
        cell = 2 ** abs(shape.lr_exponent)
        if shape.lr_exponent < 0:
            x = F.pixel_unshuffle(x, cell)
        weight = projection.conv.weight[..., 0, 0]
        bias = projection.conv.bias
        x = F.leaky_relu(torch.einsum("oc,nchw->nohw", weight, x) + bias[:, None, None], 0.2)
        if shape.lr_exponent > 0:
            x = F.pixel_shuffle(x, cell)
        height = int(8 * 2.0**shape.lr_exponent)
        assert x.shape == (2, config.condition[shape.level - 1], height, height // 2)
        torch.testing.assert_close(features.u(), x, rtol=0, atol=1e-12)


def test_nets_and_steps_have_their_level_s_size():
    model = SRFlow(CONFIGS["plain"])
    for level, flow_level in enumerate(model.flow_levels()):
        assert len(flow_level.steps) == BY_LEVEL["steps"][level]
        for step in flow_level.steps:
            assert step.coupling.conv1.weight.shape[0] == BY_LEVEL["hidden"][level]
            assert step.coupling.conv1_on_u.weight.shape[2:] == (1, 1)
            assert step.injector.conv1 is None
            assert step.injector.conv1_on_u.weight.shape[0] == BY_LEVEL["injector_hidden"][level]


def test_gradients_reach_the_projections_even_if_the_encoder_is_frozen():
    model = random_srflow(CONFIGS["plain"])
    model.encoder.requires_grad_(False)
    model(torch.rand(1, 3, 32, 16), torch.rand(1, 3, 8, 4)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.projections.parameters())
    assert all(parameter.grad is None for parameter in model.encoder.parameters())


@torch.no_grad()
def test_conditioning_of_unequal_nets_can_be_computed_when_needed_and_is_counted():
    model = random_srflow(CONFIGS["plain"])
    lr = torch.rand(1, 3, 8, 4)
    whole = model.condition(lr)
    later = model.condition_when_needed(lr)
    held = 0
    for one, other in zip(whole.levels, later.levels, strict=True):
        for part, again in zip(one, other, strict=True):
            # processors round it differently
            torch.testing.assert_close(part, again, rtol=1e-5, atol=1e-6)
            held += sum(4 * tensor.numel() for tensor in part)
    assert model.conditioning_bytes(lr) == held


def test_files_of_networks_without_these_options_name_none_of_them():
    assert not set(UNUSED) & set(SRFlowConfig.of_variant("published").to_dict())
    assert not set(UNUSED) & set(tiny_config().to_dict())
    written = CONFIGS["plain"].to_dict()
    assert (written["encoder"], written["condition"], written["hidden"]) == (
        "plain",
        [8, 12, 16],
        [8, 12, 16],
    )
    assert SRFlowConfig.from_dict(written) == CONFIGS["plain"]


def test_a_last_kernel_of_1_makes_the_nets_last_convolutions_1x1_and_leaves_priors_as_they_are():
    model = random_srflow(tiny_config(last_kernel=1))
    sizes = {
        name: module.weight.shape[2:]
        for name, module in model.named_modules()
        if isinstance(module, ZerosConv)
    }
    assert {size for name, size in sizes.items() if name.endswith("conv3")} == {(1, 1)}
    assert {size for name, size in sizes.items() if name.endswith("split.conv")} == {(3, 3)}


@torch.no_grad()
def test_a_residual_flow_models_hr_less_the_encoders_own_image():
    model = random_srflow(CONFIGS["residual"]).double()
    lr = normal(2, 3, 8, 4)
    hr = normal(2, 3, 32, 16)
    latents, log_likelihood = model.encode(hr, lr)
    torch.testing.assert_close(model.decode(lr, latents), hr, rtol=0, atol=1e-9)
    other = SRFlow(plain_config(image_base="nearest")).double()
    other.load_state_dict(model.state_dict())
    expected = other.encode(hr - model.encoder(lr), lr)
    torch.testing.assert_close((latents, log_likelihood), expected, rtol=0, atol=1e-9)
