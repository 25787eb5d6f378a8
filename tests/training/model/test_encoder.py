"""The RRDB encoder, against computations of another form."""

import weakref

import pytest
import torch
from torch.nn import functional as F

from srflow_training.model import RRDB
from tests.networks import random_srflow, tiny_config
from tests.training.model.test_transforms import normal


def trunk(model, lr):
    """The blocks' outputs and the trunk's."""
    x = model.conv_first(lr)
    blocks = []
    for block in model.blocks:
        x = block(x)
        blocks.append(x)
    return blocks, x + model.conv_trunk(x)


@pytest.mark.parametrize("scale", [4, 8])
@torch.no_grad()
def test_the_image_head_goes_up_from_the_trunk(scale):
    model = random_srflow(tiny_config(scale=scale, image_base="bicubic")).encoder.double()
    lr = normal(1, 3, 8, 4)
    _, x = trunk(model, lr)
    for conv in model.upconvs:
        x = F.leaky_relu(conv(x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)), 0.2)
    head = model.conv_last(F.leaky_relu(model.conv_hr(x), 0.2))
    assert head.shape == (1, 3, 8 * scale, 4 * scale)
    base = F.interpolate(lr, scale_factor=scale, mode="bicubic", antialias=True)
    torch.testing.assert_close(model(lr), head + base, rtol=0, atol=1e-12)


@torch.no_grad()
def test_every_level_is_conditioned_at_its_own_resolution():
    model = random_srflow(tiny_config(scale=8)).double()
    lr = normal(1, 3, 8, 4)
    blocks, last = trunk(model.encoder, lr)
    for shape, features in zip(model.config.level_shapes, model.features(lr).levels, strict=True):
        u = features.u()
        height = int(8 * 2.0**shape.lr_exponent)
        assert u.shape == (1, model.config.feature_channels, height, height // 2)
        own = u[:, :8]
        stacked = u[:, 8:]
        if height <= 8:
            expected = (
                F.interpolate(last, scale_factor=0.5, mode="bilinear") if height < 8 else last
            )
            torch.testing.assert_close(own, expected, rtol=0, atol=1e-12)
        small = torch.cat(blocks, dim=1)
        torch.testing.assert_close(
            stacked,
            F.interpolate(small, size=u.shape[2:], mode="nearest"),
            rtol=0,
            atol=1e-12,
        )


@torch.no_grad()
def test_outputs_of_blocks_that_are_not_asked_for_are_not_kept():
    model = RRDB(scale=4, nf=8, growth=4, blocks=6)
    outputs = []
    kept = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, __, output: outputs.append(weakref.ref(output)))
    model.blocks[-1].register_forward_pre_hook(
        lambda _, __: kept.extend(output() is not None for output in outputs)
    )
    model.features(torch.rand(1, 3, 8, 8), block_indices=(3, 1))
    assert kept == [False, True, False, True, True]  # the fifth is the last block's input
