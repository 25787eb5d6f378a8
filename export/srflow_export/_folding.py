"""Exact algebra on a trained network's weights, in float64: actnorms into convolutions, 1×1 chains into one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from srflow_training.model.layers import ConditionalNet, Split, Step, ZerosConv


@dataclass(frozen=True)
class FoldedConv:
    """A plain convolution, float64: weight out×in×k×k, bias [out]."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class FoldedNet:
    """A conditional net f as three plain convolutions; the last gives the shift and the raw scale s, apart."""

    conv1: FoldedConv
    conv2: FoldedConv
    shift: FoldedConv
    scale: FoldedConv


def fold_zeros_conv(conv: ZerosConv) -> FoldedConv:
    """Output ×exp(3·logs) into weight and bias."""
    gain = torch.exp(3 * conv.logs.detach().double()).flatten()
    return FoldedConv(conv.weight.detach().double() * gain[:, None, None, None], conv.bias.detach().double() * gain)


def halves(conv: FoldedConv) -> tuple[FoldedConv, FoldedConv]:
    """A head that gives [first; second] as two convolutions."""
    middle = len(conv.weight) // 2
    return (
        FoldedConv(conv.weight[:middle], conv.bias[:middle]),
        FoldedConv(conv.weight[middle:], conv.bias[middle:]),
    )


def fold_net(net: ConditionalNet) -> FoldedNet:
    """(W x + bias)·exp(logs) into one convolution each; [shift; s] apart."""
    folded = []
    for conv, actnorm in ((net.conv1, net.actnorm1), (net.conv2, net.actnorm2)):
        weight = conv.weight.detach().double()
        if actnorm is None:
            assert conv.bias is not None  # for the type checker: without actnorm the convolution has a bias
            folded.append(FoldedConv(weight, conv.bias.detach().double()))
        else:
            gain = actnorm.logs.detach().double().exp().flatten()
            folded.append(
                FoldedConv(weight * gain[:, None, None, None], actnorm.bias.detach().double().flatten() * gain)
            )
    shift, scale = halves(fold_zeros_conv(net.conv3))
    return FoldedNet(folded[0], folded[1], shift, scale)


def fold_mixing(steps: list[Step]) -> FoldedConv:
    """The decoding 1×1s and actnorms of steps that follow each other in decoding order, as one 1×1 with bias."""
    channels = steps[0].mix.weight.shape[0]
    weight = torch.eye(channels, dtype=torch.float64)
    bias = torch.zeros(channels, dtype=torch.float64)
    for step in steps:
        gain = (-step.actnorm.logs.detach().double()).exp().flatten()
        matrix = gain[:, None] * torch.linalg.inv(step.mix.weight.detach().double())
        weight = matrix @ weight
        bias = matrix @ bias - step.actnorm.bias.detach().double().flatten()
    return FoldedConv(weight[:, :, None, None], bias)


def fold_split(split: Split) -> tuple[FoldedConv, FoldedConv]:
    """The split's prior: mean and raw logs."""
    return halves(fold_zeros_conv(split.conv))
