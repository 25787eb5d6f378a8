"""Fold a trained network's weights exactly, in float64: actnorms into convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from srflow_training.model.layers import Actnorm, ConditionalNet, Step, ZerosConv


@dataclass(frozen=True)
class FoldedConv:
    """A plain convolution, float64: weight out×in×k×k, bias [out]."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class FoldedNet:
    """A conditional net f as plain convolutions.

    Attributes:
        on_u: the first convolution's part on u, with its bias.
        on_h_a: its part on h_A, hidden×state×3×3; None if f sees only u.
        conv2: the second convolution.
        head: gives [shift; s], s the raw scale.
    """

    on_u: FoldedConv
    on_h_a: Tensor | None
    conv2: FoldedConv
    head: FoldedConv


def fold_zeros_conv(conv: ZerosConv) -> FoldedConv:
    """Fold the output's factor exp(3·logs) into weight and bias."""
    gain = torch.exp(3 * conv.logs.detach().double()).flatten()
    return FoldedConv(
        conv.weight.detach().double() * gain[:, None, None, None],
        conv.bias.detach().double() * gain,
    )


def side_by_side(convs: Sequence[FoldedConv]) -> FoldedConv:
    """Several convolutions as one, which gives their results one after the other."""
    return FoldedConv(
        torch.cat([conv.weight for conv in convs]), torch.cat([conv.bias for conv in convs])
    )


def fold_net(net: ConditionalNet) -> FoldedNet:
    """Fold each (W x + bias)·exp(logs) into one convolution."""
    on_u = _fold_actnorm(*net.first_on_u(), net.actnorm1)
    on_h_a = (
        _fold_actnorm(net.first_on_state(), on_u.bias, net.actnorm1).weight
        if net.state_channels
        else None
    )
    conv2 = _fold_actnorm(net.conv2.weight, net.conv2.bias, net.actnorm2)
    return FoldedNet(on_u, on_h_a, conv2, fold_zeros_conv(net.conv3))


def _fold_actnorm(weight: Tensor, bias: Tensor | None, actnorm: Actnorm | None) -> FoldedConv:
    """A convolution and the actnorm behind it, which takes the place of its bias."""
    weight = weight.detach().double()
    if actnorm is None:
        assert bias is not None  # for the type checker: without actnorm the convolution has a bias
        return FoldedConv(weight, bias.detach().double())
    gain = actnorm.logs.detach().double().exp().flatten()
    return FoldedConv(
        weight * gain[:, None, None, None], actnorm.bias.detach().double().flatten() * gain
    )


@dataclass(frozen=True)
class FoldedMixing(FoldedConv):
    """A decoding 1×1. encoding: the inverse of its matrix, C×C float64."""

    encoding: Tensor


def fold_mixing(steps: list[Step]) -> FoldedMixing:
    """Fold the decoding 1×1s and actnorms of consecutive steps into one 1×1 with bias.

    The encoding matrix is a product too: inverting the product loses digits that its factors have,
    with three 1×1s of condition 1e4 all but four.
    """
    channels = steps[0].mix.weight.shape[0]
    weight = encoding = torch.eye(channels, dtype=torch.float64)
    bias = torch.zeros(channels, dtype=torch.float64)
    for step in steps:
        mix = step.mix.weight.detach().double()
        logs = step.actnorm.logs.detach().double().flatten()
        matrix = (-logs).exp()[:, None] * torch.linalg.inv(mix)
        weight = matrix @ weight
        encoding = encoding @ (mix * logs.exp())
        bias = matrix @ bias - step.actnorm.bias.detach().double().flatten()
    return FoldedMixing(weight[:, :, None, None], bias, encoding)
