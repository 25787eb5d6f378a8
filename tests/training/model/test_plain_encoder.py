"""The plain LR encoder: kernels that are composed in training and collapsed afterwards."""

import copy

import pytest
import torch
from torch.nn import functional as F

from srflow_training.checkpoints import load_checkpoint, load_encoder, save_checkpoint
from srflow_training.model import PlainEncoder, SRFlow
from srflow_training.model.plain import ComposedConv
from srflow_training.trainer import copy_weights
from tests.networks import PLAIN, random_srflow, tiny_config
from tests.training.model.test_transforms import normal

OWN = {name: PLAIN[name] for name in ("encoder", "growth", "stacked_blocks", "condition")}


def plain_config(**overrides):
    return tiny_config(**{**OWN, **overrides})


def encoder(**overrides):
    return random_srflow(plain_config(**overrides)).encoder.double()


def composed_conv(in_channels=3, out_channels=5):
    torch.manual_seed(1)
    conv = ComposedConv(in_channels, out_channels).double()
    conv.initialize()
    conv.bias.data.normal_()
    return conv


def convs_of(model):
    return [module for module in model.modules() if isinstance(module, ComposedConv)]


@torch.no_grad()
def test_a_composed_kernel_is_three_convolutions_and_a_skip():
    conv = composed_conv()
    x = normal(2, 3, 7, 6)
    wide = F.conv2d(F.conv2d(x, conv.expand[..., None, None]), conv.middle, padding=1)
    expected = F.conv2d(wide, conv.reduce[..., None, None]) + F.conv2d(
        x, conv.skip[..., None, None]
    )
    torch.testing.assert_close(conv(x), expected + conv.bias[:, None, None], rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [2, 4, 8, 16])
@torch.no_grad()
def test_the_image_is_the_base_and_a_shuffled_convolution_of_the_trunk(scale):
    model = encoder(scale=scale, image_base="bicubic", condition=(8,) * scale.bit_length())
    lr = normal(1, 3, 6, 4)
    first = x = model.conv_first(lr)
    for block in model.blocks:
        x = x + block.conv2(F.leaky_relu(block.conv1(x), 0.2))
    last = first + model.conv_trunk(x)
    head = F.pixel_shuffle(model.conv_image(last), scale)
    base = F.interpolate(lr, scale_factor=scale, mode="bicubic", antialias=True)
    assert head.shape == (1, 3, 6 * scale, 4 * scale)
    torch.testing.assert_close(model(lr), head + base, rtol=0, atol=1e-12)
    features = model.features(lr, block_indices=(1,))
    torch.testing.assert_close(features.last, last, rtol=0, atol=1e-12)
    torch.testing.assert_close(features.blocks, (x,), rtol=0, atol=1e-12)


@pytest.mark.parametrize("image_base", ["none", "bicubic"])
@pytest.mark.parametrize("scale", [2, 4])
def test_the_training_error_is_that_of_the_image_and_so_is_its_gradient(scale, image_base):
    model = encoder(scale=scale, image_base=image_base, condition=(8,) * scale.bit_length())
    lr, hr = normal(2, 3, 6, 4), normal(2, 3, 6 * scale, 4 * scale)
    gradients = []
    for difference in (model.errors(lr, [hr])[0], model(lr) - hr):
        loss = (difference**3).sum()
        model.zero_grad()
        loss.backward()
        gradients.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-9)


@torch.no_grad()
def test_collapsing_and_composing_again_change_nothing_that_is_computed():
    model = encoder()
    lr = normal(1, 3, 8, 6)
    image = model(lr)
    composed = len(convs_of(model))
    assert model.composed()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    for _ in range(2):
        model.collapse()
        assert not model.composed()
        assert not convs_of(model)
        torch.testing.assert_close(model(lr), image, rtol=0, atol=1e-12)
    assert sum(parameter.numel() for parameter in model.parameters()) < parameters / 3
    model.compose()
    assert len(convs_of(model)) == composed == 2 + 2 * 2 + 1
    # composed anew in float32
    torch.testing.assert_close(model.double()(lr), image, rtol=0, atol=1e-5)


def test_every_parameter_learns_also_after_a_collapse():
    model = encoder(blocks=1)
    model.collapse()
    model.compose()
    model.double()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    lr = normal(1, 3, 6, 6)
    target = normal(1, 3, 24, 24)
    before = copy.deepcopy(model.state_dict())
    losses = []
    for _ in range(3):
        optimiser.zero_grad()
        loss = (model(lr) - target).abs().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]
    assert [
        name for name, values in model.state_dict().items() if torch.equal(values, before[name])
    ] == []


def test_kernels_are_composed_in_float32_where_convolutions_round():
    conv = composed_conv().float()
    x = torch.randn(1, 3, 6, 6)
    exact = conv.kernel()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(conv.kernel(), exact)
        assert conv(x).dtype == torch.bfloat16


@pytest.mark.parametrize("collapsed", [False, True])
@torch.no_grad()
def test_files_hold_composed_or_collapsed_kernels(tmp_path, collapsed):
    flow = random_srflow(plain_config())
    lr = torch.rand(1, 3, 8, 6)
    if collapsed:
        flow.encoder.collapse()
    image = flow.encoder(lr)
    for name, model in (("flow", flow), ("encoder", flow.encoder)):
        save_checkpoint(tmp_path / f"{name}.safetensors", model)
        loaded = load_checkpoint(tmp_path / f"{name}.safetensors")
        assert isinstance(loaded, type(model))
        found = load_encoder(tmp_path / f"{name}.safetensors")
        assert isinstance(found, PlainEncoder)
        assert found.composed() is not collapsed
        assert found.settings() == flow.encoder.settings()
        assert torch.equal(found(lr), image)
    assert load_checkpoint(tmp_path / "flow.safetensors").config == flow.config


def test_a_run_that_starts_from_a_collapsed_file_composes_it_again(tmp_path):
    source = random_srflow(plain_config())
    source.encoder.collapse()
    fresh = SRFlow(plain_config())
    lr = torch.rand(1, 3, 8, 6)
    image = source.encoder(lr).detach()
    copy_weights(source, fresh, "collapsed.safetensors")
    assert fresh.encoder.composed()
    torch.testing.assert_close(fresh.encoder(lr).detach(), image, rtol=0, atol=1e-5)
