"""The encoder graph, laid out for runtimes that compute convolutions on integers.

Its values are those of :class:`srflow_export.graphs.EncoderGraph` up to float32 rounding. Five
things differ, because integer convolutions are so fast that everything between them counts, and
round what they take:

- Convolutions on enlarged features are plain 3×3 ones. The phases of
  :mod:`srflow_export.on_features` have half the multiply-adds, but joining their float32 results
  took longer than all convolutions together.
- Each level's results are reshaped before they are split into tensors for the steps. The reshape
  makes a runtime turn its own layout, channels last, into the plain one at once; slices of a few
  channels are turned ten times as slowly.
- The share of 0.2 that passes each dense block is in the weights of its last convolution.
- Channels of u are balanced: its rounding has one step for all of them, and the features of early
  blocks are a hundred times smaller than those of late ones. A full-size network with little
  training gained 18 dB, at no cost in time.
- What grows in a dense block is made half as large as what it grows on, so that one step suits
  both: another 5 dB, and the block rounds each of its tensors once.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srflow_export.folding import FoldedConv
from srflow_export.graphs import Conv, EncoderGraph, compute_injectors, fold_nets
from srflow_training.model import SRFlow, SRFlowConfig
from srflow_training.model.encoder import DenseBlock, ResidualBlock
from srflow_training.model.features import LevelFeatures
from srflow_training.model.srflow import Level

Array = npt.NDArray[np.float32]

_ON_ACTIVATIONS = 0.75
"""How much of a channel's size moves from u into the weights: α of SmoothQuant, Xiao et al. 2023,
equation 4. With 0.5, two networks came out 0.5 and 2 dB worse than with 0.75; with 1, no more than
1 dB better."""

_GROWN = 0.5
"""How large what grows in a dense block becomes, of the largest value that it grows on. With a
quarter, pictures of an earlier x4-small came out 0.8 dB worse on other photographs."""


class IntegerEncoderGraph(EncoderGraph):
    """lr (float32 B×3×h×w in [0, 1]) → conditioning, ordered as by `level_conditioning`.

    Float32; :mod:`srflow_export.quantisation` turns its convolutions into integer ones.
    crops: float32 1×3×h×w in [0, 1], on which the sizes of features are measured.
    """

    def __init__(self, model: SRFlow, crops: Sequence[Array]) -> None:
        super().__init__(model)
        sizes = _measure(model, crops)
        self.levels = nn.ModuleList(
            _PlainLevel(level, model.config, largest)
            for level, largest in zip(model.flow_levels(), sizes.u, strict=True)
        )
        for index, block in enumerate(model.encoder.blocks):
            if isinstance(block, ResidualBlock):
                self.model.encoder.blocks[index] = _plain_block(block, sizes.in_blocks)


@dataclass(frozen=True)
class _Sizes:
    """Largest absolute values of channels, [C] float64.

    Attributes:
        u: level by level.
        in_blocks: by a dense block, of what it takes; by one of its convolutions, of its result
            behind the LeakyReLU.
    """

    u: list[Tensor]
    in_blocks: dict[nn.Module, Tensor]


@torch.no_grad()
def _measure(model: SRFlow, crops: Sequence[Array]) -> _Sizes:
    in_blocks: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, x: Tensor) -> None:
        largest = _measure_largest(x)
        in_blocks[module] = torch.maximum(largest, in_blocks.get(module, largest))

    hooks = []
    for block in model.encoder.modules():
        if isinstance(block, DenseBlock):
            hooks.append(
                block.register_forward_pre_hook(lambda module, taken: note(module, taken[0]))
            )
            for conv in block.convs[:-1]:
                hooks.append(
                    conv.register_forward_hook(
                        lambda module, _, x: note(module, F.leaky_relu(x, 0.2))
                    )
                )
    try:
        levels = [
            [_measure_largest(level.u()) for level in model.features(torch.from_numpy(lr)).levels]
            for lr in crops
        ]
    finally:
        for hook in hooks:
            hook.remove()
    return _Sizes(
        [torch.stack(level).amax(dim=0) for level in zip(*levels, strict=True)], in_blocks
    )


def _measure_largest(x: Tensor) -> Tensor:
    return x.double().abs().amax(dim=(0, 2, 3))


def _balance(largest: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return by what to divide each channel of u: [C], positive, geometric mean 1."""
    of_weights = torch.stack([weight.abs().amax(dim=(0, 2, 3)) for weight in weights]).amax(dim=0)
    activations, of_weights = (
        each.clamp(min=1e-4 * float(each.max()) + 1e-12) for each in (largest, of_weights)
    )
    by = activations**_ON_ACTIVATIONS / of_weights ** (1 - _ON_ACTIVATIONS)
    return by / by.log().mean().exp()


class _PlainLevel(nn.Module):
    """A level's features → its conditioning, all K steps at once.

    largest: the largest absolute value of each channel of u, [C].
    """

    def __init__(self, level: Level, config: SRFlowConfig, largest: Tensor) -> None:
        super().__init__()
        injectors, couplings, self.affine = fold_nets(level)
        self.steps = len(injectors)
        on_u, conv1 = ([net.on_u for net in nets] for nets in (couplings, injectors))
        by = _balance(largest, [conv.weight for conv in (*conv1, *on_u)])
        self.injector, self.coupling = (
            Conv.of(
                [FoldedConv(conv.weight * by[:, None, None], conv.bias) for conv in convs],
                dtype=torch.float32,
            )
            for convs in (conv1, on_u)
        )
        self.shares: Tensor
        self.register_buffer("shares", (1 / by).float()[:, None, None])
        self.conv2 = Conv.of(
            [net.conv2 for net in injectors],
            dtype=torch.float32,
            groups=self.steps,
        )
        self.head = Conv.of([net.head for net in injectors], dtype=torch.float32, groups=self.steps)

    def forward(self, features: LevelFeatures) -> tuple[Tensor, ...]:
        """Coupling pre-activations, injector scales and injector shifts, each of all steps."""
        u = features.u() * self.shares
        pre_activation = self.coupling(u)
        head = self.head(F.relu(self.conv2(F.relu(self.injector(u)))))
        scale, shift = compute_injectors(head, self.steps, self.affine)
        return tuple(
            each for tensor in (pre_activation, scale, shift) for each in self._by_step(tensor)
        )

    def _by_step(self, tensor: Tensor) -> list[Tensor]:
        batch, _, height, width = tensor.shape
        parts = tensor.reshape(batch, self.steps, -1, width).chunk(self.steps, dim=1)
        return [part.reshape(batch, -1, height, width) for part in parts]


class _PlainDense(nn.Module):
    """A dense block whose features are of similar size, with its share of 0.2 in a convolution.

    What a LeakyReLU gives is enlarged by the weights before it, and reduced again by those that
    take it.
    """

    def __init__(self, block: DenseBlock, sizes: dict[nn.Module, Tensor]) -> None:
        super().__init__()
        convs = [conv for conv in block.convs if isinstance(conv, nn.Conv2d)]
        largest = sizes[block].max()
        by = torch.ones(convs[0].in_channels, dtype=torch.float64)  # of the features so far
        folded = []
        for conv in convs:
            assert conv.bias is not None  # for the type checker
            weight = conv.weight.detach().double() / by[:, None, None]
            bias = conv.bias.detach().double()
            if conv is convs[-1]:
                larger = torch.full_like(bias, 0.2)
            else:
                larger = (_GROWN * largest / sizes[conv].clamp(min=1e-12)).clamp(1e-3, 1e3)
                by = torch.cat([by, larger])
            folded.append(
                Conv(weight * larger[:, None, None, None], bias * larger, dtype=torch.float32)
            )
        self.convs = nn.ModuleList(folded[:-1])
        self.last = folded[-1]

    def forward(self, x: Tensor) -> Tensor:
        features = x
        for conv in self.convs:
            features = torch.cat([features, F.leaky_relu(conv(features), 0.2)], dim=1)
        residual: Tensor = self.last(features)
        return x + residual


def _plain_block(block: ResidualBlock, sizes: dict[nn.Module, Tensor]) -> ResidualBlock:
    """An RRDB of such blocks."""
    plain = copy.deepcopy(block)
    plain.dense = nn.ModuleList(
        _PlainDense(dense, sizes) for dense in block.dense if isinstance(dense, DenseBlock)
    )
    return plain
