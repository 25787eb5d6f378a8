"""Convolutions on u, without enlarging what nearest interpolation repeats, equal those on the
enlarged u."""

import pytest
import torch
from torch.nn import functional as F

from srflow_training.model.features import LevelFeatures
from tests.training.model.test_transforms import normal


def features(factor, *, own=3, small=4, height=3, width=5):
    return LevelFeatures(
        own=normal(2, own, factor * height, factor * width) if own else None,
        small=normal(2, small, height, width, seed=1) if small else None,
        factor=factor,
    )


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("own", [0, 3])
def test_the_small_kernels_compute_the_convolution_of_the_enlarged_features(factor, own):
    u = features(factor, own=own)
    weight = normal(6, own + 4, 3, 3, seed=2)
    bias = normal(6, seed=3)
    expected = F.conv2d(u.u(), weight, bias, padding=1)
    torch.testing.assert_close(u.conv(weight, bias), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        u.conv(weight),
        F.conv2d(u.u(), weight, padding=1),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("factor", [2, 4])
def test_gradients_are_those_of_the_plain_convolution(factor, layout):
    u = features(factor)
    upstream = normal(2, 6, 3 * factor, 5 * factor, seed=5)
    inputs = [u.own, u.small, normal(6, 7, 3, 3, seed=2), normal(6, seed=3)]
    inputs = [x.contiguous(memory_format=layout) if x.ndim == 4 else x for x in inputs]

    def gradients(convolve):
        own, small, weight, bias = leaves = [x.clone().requires_grad_() for x in inputs]
        convolve(LevelFeatures(own=own, small=small, factor=factor), weight, bias).backward(
            upstream
        )
        return [leaf.grad for leaf in leaves]

    ours = gradients(lambda given, weight, bias: given.conv(weight, bias))
    plain = gradients(lambda given, weight, bias: F.conv2d(given.u(), weight, bias, padding=1))
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-11)


def test_frozen_features_cost_no_gradient():
    u = features(2)
    weight = normal(6, 7, 3, 3, seed=2).requires_grad_()
    u.conv(weight).sum().backward()
    assert weight.grad is not None
    assert u.small.grad is None


def test_mixed_precision_rounds_as_for_the_plain_convolution():
    u = LevelFeatures(own=features(2).own.float(), small=features(2).small.float(), factor=2)
    weight = normal(6, 7, 3, 3, seed=2).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = u.conv(weight)
    assert rounded.dtype is torch.bfloat16
    torch.testing.assert_close(rounded.float(), u.conv(weight), rtol=0.02, atol=0.2)
