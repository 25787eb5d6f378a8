"""Convolutions of enlarged features as phases: equal in float64 to the convolutions that they
replace."""

import pytest
import torch
from torch.nn import functional as F

from srflow_export.folding import FoldedConv
from srflow_export.on_features import (
    PhaseConv,
    interleave,
    keep_blocked_layout,
    kernel_shapes,
    recover_kernel,
    sum_kernels,
)
from srflow_training.model.features import LevelFeatures
from tests.networks import random_srflow, tiny_config


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("own_channels", [0, 3])
def test_interleaved_phases_are_the_convolution_of_the_enlarged_features(factor, own_channels):
    own = (
        torch.randn(2, own_channels, 3 * factor, 4 * factor, dtype=torch.float64)
        if own_channels
        else None
    )
    small = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    conv = FoldedConv(
        torch.randn(6, own_channels + 5, 3, 3, dtype=torch.float64),
        torch.randn(6, dtype=torch.float64),
    )
    phases = PhaseConv(conv, own_channels=own_channels, factor=factor, dtype=torch.float64)(
        own, small
    )
    u = LevelFeatures(own=own, small=small, factor=factor).u()
    torch.testing.assert_close(
        interleave(phases),
        F.conv2d(u, conv.weight, conv.bias, padding=1),
        atol=1e-12,
        rtol=1e-12,
    )


@pytest.mark.parametrize(("factor", "taps"), [(2, 4 * 4), (4, 25), (8, 25)])
def test_kernels_of_phases_have_few_taps_and_give_the_kernel_back(factor, taps):
    weight = torch.randn(6, 5, 3, 3, dtype=torch.float64)
    kernels = sum_kernels(weight, factor)
    assert {name: tuple(kernel.shape[2:]) for name, kernel in kernels.items()} == kernel_shapes(
        factor
    )
    assert sum(height * width for height, width in kernel_shapes(factor).values()) == taps
    torch.testing.assert_close(recover_kernel(kernels), weight, atol=1e-12, rtol=0)


@torch.no_grad()
def test_the_blocked_encoder_has_the_networks_features_and_parameters():
    model, changed = (random_srflow(tiny_config()).double() for _ in range(2))
    keep_blocked_layout(changed)
    assert list(changed.state_dict()) == list(model.state_dict())
    lr = torch.rand(2, 3, 4, 6, dtype=torch.float64)
    for actual, expected in zip(
        changed.features(lr).levels, model.features(lr).levels, strict=True
    ):
        torch.testing.assert_close(actual.u(), expected.u(), atol=1e-12, rtol=1e-12)
