"""A small LR encoder: plain residual blocks, whose 3×3 kernels are composed in training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srflow_training.model.config import ImageBase
from srflow_training.model.encoder import Encoder, EncoderFeatures, enlarge, lrelu

_WIDER = 2  # channels inside a composition, in channels outside
_RESIDUAL_START = 0.2
_HEAD_START = 0.1


class ComposedConv(nn.Module):
    """A 3×3 convolution whose kernel is composed of several.

    They are 1×1 to twice the channels, 3×3, 1×1 back, and a 1×1 skip. All of it is linear, so the
    kernels are composed, and one convolution runs: training costs what inference costs. There is no
    bias before the 3×3, because padding would then see zeros where the three convolutions see the
    bias. Such compositions train better than their sum (Ding et al., "Diverse Branch Block", CVPR
    2021).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        wide_in = _WIDER * in_channels
        wide_out = _WIDER * out_channels
        self.expand = nn.Parameter(torch.zeros(wide_in, in_channels))
        self.middle = nn.Parameter(torch.zeros(wide_out, wide_in, 3, 3))
        self.reduce = nn.Parameter(torch.zeros(out_channels, wide_out))
        self.skip = nn.Parameter(torch.zeros(out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def kernel(self) -> Tensor:
        """The composed kernel, out×in×3×3, in the parameters' type."""
        device = self.middle.device.type
        with torch.autocast("cpu" if device == "meta" else device, enabled=False):
            taps = self.middle.permute(0, 2, 3, 1)  # in memory as it is, if channels are last there
            reduced = self.reduce @ taps.flatten(1)
            flat = reduced.view(-1, taps.shape[3]) @ self.expand
            kernel = flat.view(len(reduced), 3, 3, -1).permute(0, 3, 1, 2)
            return kernel + F.pad(self.skip[:, :, None, None], (1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """N×in×h×w → N×out×h×w."""
        return F.conv2d(x, self.kernel(), self.bias, padding=1)

    @torch.no_grad()
    def initialize(self, gain: float = 1.0) -> None:
        """He initialisation, half of the variance from the composition and half from the skip.

        Args:
            gain: of the output.
        """
        for weight, fan_in in (
            (self.expand, 1),
            (self.middle, 9),
            (self.reduce, 1),
            (self.skip, 1),
        ):
            weight.normal_(0, 1 / math.sqrt(fan_in * weight.shape[1]))
        self.reduce.mul_(gain)
        self.skip.mul_(gain)
        self.bias.zero_()

    @classmethod
    @torch.no_grad()
    def of(cls, conv: nn.Conv2d) -> ComposedConv:
        """Compose what `conv` computes.

        Its kernel is what a fresh composition lacks, in the first channels inside. All parameters
        can be trained: the other channels inside are random ones, which no output reads yet.
        """
        assert conv.bias is not None  # for the type checker: collapsed convolutions have one
        out_channels, in_channels = conv.weight.shape[:2]
        composed = cls(in_channels, out_channels)
        composed.initialize()
        composed.expand[:in_channels] = torch.eye(in_channels)
        composed.middle[:out_channels] = 0
        composed.middle[:out_channels, :in_channels] = conv.weight
        composed.reduce.zero_()
        composed.reduce[:, :out_channels] = torch.eye(out_channels)
        composed.skip.zero_()
        composed.bias.copy_(conv.bias)
        return composed.train(conv.training)

    @torch.no_grad()
    def collapse(self) -> nn.Conv2d:
        """One ordinary convolution that computes the same."""
        kernel = self.kernel()
        conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1, device="meta")
        conv.weight = nn.Parameter(kernel.contiguous())
        conv.bias = nn.Parameter(self.bias.detach().clone())
        return conv.train(self.training)


class PlainBlock(nn.Module):
    """x + conv2(lrelu(conv1(x)))."""

    def __init__(self, nf: int) -> None:
        super().__init__()
        self.conv1 = ComposedConv(nf, nf)
        self.conv2 = ComposedConv(nf, nf)

    def forward(self, x: Tensor) -> Tensor:
        """N×nf×h×w → same."""
        residual: Tensor = self.conv2(lrelu(self.conv1(x)))
        return x + residual


class PlainEncoder(Encoder):
    """Residual blocks at the LR size, with a skip around all of them.

    The image head is one convolution.

    Few channels and no dense connections: in the same hours it sees far more pixels than an RRDB of
    the same quality.

    A fresh one has composed kernels (`ComposedConv`), for training. :meth:`collapse` makes them
    ordinary ones, which exported networks have; :meth:`composed` tells which.

    Args:
        scale: 2, 4, 8 or 16.
        image_base: "bicubic" or "nearest" adds the image head's output to that enlargement.
    """

    kind = "plain"

    def __init__(
        self,
        *,
        scale: int,
        nf: int,
        blocks: int,
        image_base: ImageBase = "none",
    ) -> None:
        super().__init__()
        self.scale = scale
        self.nf = nf
        self.image_base = image_base
        self.conv_first = ComposedConv(3, nf)
        self.blocks = nn.ModuleList(PlainBlock(nf) for _ in range(blocks))
        self.conv_trunk = ComposedConv(nf, nf)
        self.conv_image = ComposedConv(nf, 3 * scale**2)

    def features(
        self,
        lr: Tensor,
        *,
        block_indices: tuple[int, ...] = (),
        max_exponent: int = 0,
    ) -> EncoderFeatures:
        """Compute features of lr, N×3×h×w in [0, 1], at the LR size.

        There are no others (max_exponent is 0).
        """
        first = self.conv_first(lr)
        x, outputs = self._through_blocks(first, block_indices)
        return EncoderFeatures(first + self.conv_trunk(x), outputs, {})

    def forward(self, lr: Tensor) -> Tensor:
        """The encoder's own image, N×3×sh×sw, not clipped.

        Args:
            lr: N×3×h×w in [0, 1].
        """
        return self.image_of(self.features(lr).last, lr)

    def image_of(self, features: Tensor, lr: Tensor) -> Tensor:
        """The same, given the trunk's output, N×nf×h×w."""
        image = F.pixel_shuffle(self.conv_image(features), self.scale)
        return self._on_base(image, lr)

    def errors(self, lr: Tensor, references: Sequence[Tensor]) -> list[Tensor]:
        """The differences, N×3s²×h×w each, before the pixel shuffle.

        So no gradient passes through the HR size.
        """
        n, _, height, width = lr.shape
        image = self.conv_image(self.features(lr).last)
        differences = []
        for reference in references:
            target = reference.contiguous()
            if self.image_base != "none":
                target = target - enlarge(lr, self.scale, self.image_base)
            cells = target.view(n, 3, height, self.scale, width, self.scale)
            rows = cells.permute(0, 2, 4, 1, 3, 5).reshape(n, height, width, -1)
            # channels last, unlike F.pixel_unshuffle's
            differences.append(image - rows.permute(0, 3, 1, 2))
        return differences

    @property
    def image_layer(self) -> nn.Module:
        """The head's only convolution."""
        return self.conv_image

    def composed(self) -> bool:
        """True if the kernels are composed ones, for training."""
        return isinstance(self.conv_first, ComposedConv)

    def collapse(self) -> None:
        """Replace every composed kernel by an ordinary one that computes the same.

        Does nothing the second time.
        """
        for module in list(self.modules()):
            for name, child in module.named_children():
                if isinstance(child, ComposedConv):
                    setattr(module, name, child.collapse())

    def compose(self) -> None:
        """Undo :meth:`collapse`, to train on: kernels composed anew that compute the same."""
        for module in list(self.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.Conv2d):
                    setattr(module, name, ComposedConv.of(child))

    def initialize(self) -> None:
        """Initialise for training from scratch.

        Blocks start near the identity, and the image head near zero.
        """
        for name, module in self.named_modules():
            if isinstance(module, ComposedConv):
                gains = {
                    "conv2": _RESIDUAL_START,
                    "conv_trunk": _RESIDUAL_START,
                    "conv_image": _HEAD_START,
                }
                module.initialize(gains.get(name.rsplit(".", 1)[-1], 1.0))
