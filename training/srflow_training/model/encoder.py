"""LR encoders, whose inner features condition the flow.

The published one, an RRDB network (ESRGAN's generator).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srflow_training.model.config import ENCODER_FIELDS, EncoderKind, ImageBase, TrunkSkip


def lrelu(x: Tensor) -> Tensor:
    """LeakyReLU with slope 0.2, the only non-linearity of the encoders."""
    return F.leaky_relu(x, 0.2)


def enlarge(lr: Tensor, scale: int, base: ImageBase) -> Tensor:
    """Enlarge what an image head's output is added to, N×3×sh×sw.

    The bicubic one has a matrix product for each axis: a fifth of its time on a CPU.
    """
    if base == "nearest":
        return F.interpolate(lr, scale_factor=float(scale), mode="nearest")
    n, channels, height, width = lr.shape
    with torch.autocast(lr.device.type, enabled=False):
        rows = _enlarging_matrix(height, scale, lr)
        columns = _enlarging_matrix(width, scale, lr)
        wide = lr.reshape(-1, width) @ columns
        large = rows.t() @ wide.view(-1, height, scale * width)
        return large.view(n, channels, scale * height, scale * width)


def _enlarging_matrix(size: int, scale: int, like: Tensor) -> Tensor:
    """The matrix size×(scale·size) that enlarges a row of `size` pixels."""
    pixels = torch.eye(size, dtype=like.dtype, device=like.device)[None, None]
    return F.interpolate(pixels, (size, scale * size), mode="bicubic", antialias=True)[0, 0]


def _conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """3×3 convolution with bias that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class DenseBlock(nn.Module):
    """Five densely connected convolutions.

    The last one's output is added to the input with weight 0.2.
    """

    def __init__(self, nf: int, growth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            _conv3x3(nf + i * growth, growth if i < 4 else nf) for i in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:
        """N×nf×h×w → same."""
        features = x
        for conv in self.convs[:-1]:
            features = torch.cat([features, lrelu(conv(features))], dim=1)
        residual: Tensor = self.convs[-1](features)
        return x + 0.2 * residual


class ResidualBlock(nn.Module):
    """RRDB: three dense blocks, added to the input with weight 0.2."""

    def __init__(self, nf: int, growth: int) -> None:
        super().__init__()
        self.dense = nn.ModuleList(DenseBlock(nf, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """N×nf×h×w → same."""
        y = x
        for dense in self.dense:
            y = dense(y)
        return x + 0.2 * y


@dataclass(frozen=True)
class EncoderFeatures:
    """Features that can condition the flow.

    Attributes:
        last: N×nf×h×w, the trunk's output.
        blocks: the output of each requested RRDB block, N×nf×h×w.
        upsampled: {exponent k: N×nf×2^k h×2^k w}, after the LeakyReLU, k ≥ 1.
    """

    last: Tensor
    blocks: tuple[Tensor, ...]
    upsampled: dict[int, Tensor]


class Encoder(nn.Module, ABC):
    """An LR encoder: features for the flow, and an image head of its own.

    By its image it is pretrained with L1.

    Attributes:
        kind: its name in `SRFlowConfig.encoder` and in files.
        scale: HR size / LR size.
        nf: channels of its features.
        image_base: what the image head's output is added to.
        conv_first, blocks, conv_trunk: the trunk, in this order.
    """

    kind: ClassVar[EncoderKind]
    scale: int
    nf: int
    image_base: ImageBase
    conv_first: nn.Module
    blocks: nn.ModuleList
    conv_trunk: nn.Module

    @abstractmethod
    def features(
        self,
        lr: Tensor,
        *,
        block_indices: tuple[int, ...] = (),
        max_exponent: int = 0,
    ) -> EncoderFeatures:
        """Compute features of lr, N×3×h×w in [0, 1].

        Upsampled ones only up to 2^max_exponent LR sides.
        """

    def _through_blocks(
        self,
        x: Tensor,
        block_indices: tuple[int, ...],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The last block's output, and those of the named blocks; the others' are not kept."""
        outputs = {}
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in block_indices:
                outputs[index] = x
        return x, tuple(outputs[index] for index in block_indices)

    @abstractmethod
    def forward(self, lr: Tensor) -> Tensor:
        """The encoder's own image, N×3×sh×sw, not clipped.

        Args:
            lr: N×3×h×w in [0, 1].
        """

    def errors(self, lr: Tensor, references: Sequence[Tensor]) -> list[Tensor]:
        """The differences of the own image to each reference, N×3×sh×sw, for a loss.

        Values may be in any order.
        """
        image = self(lr)
        return [image - reference for reference in references]

    @abstractmethod
    def initialize(self) -> None:
        """Initialise for training from scratch."""

    @property
    @abstractmethod
    def image_layer(self) -> nn.Module:
        """The image head's last layer. With zeros for parameters, the image is its base alone."""

    def settings(self) -> dict[str, Any]:
        """JSON-ready keyword arguments that build this network again."""
        names = [name for name in ENCODER_FIELDS[self.kind] if name != "blocks"]
        return {name: getattr(self, name) for name in names} | {"blocks": len(self.blocks)}

    def _on_base(self, image: Tensor, lr: Tensor) -> Tensor:
        """Add the image head's output to the enlarged LR image, if it has one for a base."""
        if self.image_base == "none":
            return image
        return image + enlarge(lr, self.scale, self.image_base)


class RRDB(Encoder):
    """RRDB super-resolution network (Wang et al., ESRGAN, ECCV-W 2018).

    On its own, SRFlow's L1-trained baseline.

    Args:
        scale: 2, 4, 8 or 16.
        image_base: "bicubic" or "nearest" adds the image head's output to that enlargement.
        trunk_skip: what is added to the trunk convolution's output: the last block's output (as
            SRFlow's published networks compute it) or the first convolution's (as ESRGAN does).
    """

    kind = "rrdb"

    def __init__(
        self,
        *,
        scale: int,
        nf: int = 64,
        growth: int = 32,
        blocks: int = 23,
        trunk_skip: TrunkSkip = "last_block",
        image_base: ImageBase = "none",
    ) -> None:
        super().__init__()
        self.scale = scale
        self.nf = nf
        self.growth = growth
        self.trunk_skip = trunk_skip
        self.image_base = image_base
        self.conv_first = _conv3x3(3, nf)
        self.blocks = nn.ModuleList(ResidualBlock(nf, growth) for _ in range(blocks))
        self.conv_trunk = _conv3x3(nf, nf)
        self.upconvs = nn.ModuleList(_conv3x3(nf, nf) for _ in range(scale.bit_length() - 1))
        self.conv_hr = _conv3x3(nf, nf)
        self.conv_last = _conv3x3(nf, 3)

    def features(
        self,
        lr: Tensor,
        *,
        block_indices: tuple[int, ...] = (),
        max_exponent: int = 0,
    ) -> EncoderFeatures:
        """Compute features of lr, N×3×h×w in [0, 1].

        Upsampled ones only up to 2^max_exponent LR sides.
        """
        first = self.conv_first(lr)
        x, outputs = self._through_blocks(first, block_indices)
        last = (x if self.trunk_skip == "last_block" else first) + self.conv_trunk(x)
        upsampled = {}
        up = last
        for exponent in range(1, max_exponent + 1):
            larger = F.interpolate(up, scale_factor=2.0, mode="nearest")
            up = lrelu(self.upconvs[exponent - 1](larger))
            upsampled[exponent] = up
        return EncoderFeatures(last, outputs, upsampled)

    def forward(self, lr: Tensor) -> Tensor:
        """The encoder's own image, N×3×sh×sw, not clipped.

        Args:
            lr: N×3×h×w in [0, 1].
        """
        exponent = len(self.upconvs)
        features = self.features(lr, max_exponent=exponent)
        sharp = lrelu(self.conv_hr(features.upsampled[exponent]))
        return self._on_base(self.conv_last(sharp), lr)

    @property
    def image_layer(self) -> nn.Module:
        """The last of the head's convolutions."""
        return self.conv_last

    @torch.no_grad()
    def initialize(self) -> None:
        """Initialise for training from scratch.

        He initialisation scaled by 0.1, as usual for residual networks.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.2)
                module.weight.mul_(0.1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
