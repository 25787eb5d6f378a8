"""The modules that hold the flow's parameters.

Each builds a pure transform from them (and from the condition u).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srflow_training.model.config import SRFlowConfig
from srflow_training.model.transforms import (
    ActnormTransform,
    CouplingTransform,
    ElementwiseAffine,
    MixChannels,
    Transform,
    conv1x1,
    mix_channels,
)

Average = Callable[[Tensor], Tensor]


class Actnorm(nn.Module):
    """Activation normalisation (Glow, section 3.1): (h + bias)·exp(logs).

    It is folded into the convolution beside it. `initialized` is part of the saved state.
    """

    initialized: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.logs = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.register_buffer("initialized", torch.tensor(False))
        self.average: Average | None = None  # set while the actnorms are initialised

    def transform(self) -> ActnormTransform:
        """The transform with the current parameters."""
        return ActnormTransform(self.bias, self.logs)

    def fold(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of a convolution of this weight that is followed by this actnorm."""
        gain = self.logs.exp()
        return weight * gain.view(-1, 1, 1, 1), (self.bias * gain).flatten()

    @torch.no_grad()
    def initialize(self, h: Tensor) -> None:
        """Set bias and logs so that this batch leaves with zero mean and unit variance.

        Does nothing unless `average` is set: the mean of a statistic over all processes that hold a
        share of the batch.
        """
        if self.average is None:
            return
        mean = self.average(h.mean(dim=(0, 2, 3), keepdim=True))
        squares = (h - mean).square()
        std = self.average(squares.mean(dim=(0, 2, 3), keepdim=True)).sqrt()
        self.bias.copy_(-mean)
        self.logs.copy_(-torch.log(std + 1e-6))
        self.initialized.fill_(True)


class InvertibleConv(nn.Module):
    """Invertible 1×1 convolution (Glow, section 3.2); starts as a random rotation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation, _ = torch.linalg.qr(torch.randn(channels, channels))
        self.weight = nn.Parameter(rotation.contiguous())


class ZerosConv(nn.Module):
    """Convolution whose output is multiplied by exp(3·logs) per channel.

    Weight, bias and logs start at zero.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.logs = nn.Parameter(torch.zeros(out_channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """N×in×H×W → N×out×H×W, in the parameters' type."""
        gain = torch.exp(3 * self.logs)
        weight = self.weight * gain[..., None]
        bias = self.bias * gain.flatten()
        y = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        # mixed precision rounds the convolution, not what the flow's state meets
        return y.to(self.logs.dtype)


class ConditionalNet(nn.Module):
    """f: 3×3 convolution, ReLU, 1×1 or 3×3 convolution, ReLU, zeros convolution; output [shift, s].

    The first convolution sees [h_A, u]. Convolution is linear, so its part on u can be computed
    separately, for several nets at once (`Level.parts_on_u`); with a `condition_kernel` of 1 that
    part is a 1×1. With actnorm (`published`, `bounded`) the first two convolutions have no bias and
    an actnorm of their own.
    """

    def __init__(
        self,
        state_channels: int,
        out_channels: int,
        config: SRFlowConfig,
        *,
        level: int,
    ) -> None:
        super().__init__()
        hidden = config.hidden_at(level) if state_channels else config.injector_hidden_at(level)
        kernel = config.net_middle_kernel
        bias = not config.net_actnorm
        self.state_channels = state_channels  # of h_A; 0 if f sees only u
        condition = config.condition_channels_at(level)
        self.conv1: nn.Conv2d | None = None
        self.conv1_on_u: nn.Conv2d | None = None
        if config.condition_kernel == 3:
            self.conv1 = nn.Conv2d(
                state_channels + condition,
                hidden,
                3,
                padding=1,
                bias=bias,
            )
        else:
            self.conv1_on_u = nn.Conv2d(condition, hidden, 1, bias=bias)
            if state_channels:
                self.conv1 = nn.Conv2d(state_channels, hidden, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, bias=bias)
        self.actnorm1 = Actnorm(hidden) if config.net_actnorm else None
        self.actnorm2 = Actnorm(hidden) if config.net_actnorm else None
        self.conv3 = ZerosConv(hidden, 2 * out_channels, kernel=config.last_kernel)
        self.scale_map = config.scale_map
        self.order = config.affine_order
        self.clamp = config.clamp_at(level)

    def first_on_u(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the first convolution's part on u, before its actnorm."""
        if self.conv1_on_u is not None:
            return self.conv1_on_u.weight, self.conv1_on_u.bias
        assert self.conv1 is not None  # for the type checker: there is one of both
        return self.conv1.weight[:, self.state_channels :], self.conv1.bias

    def first_on_state(self) -> Tensor:
        """Weight, hidden×state×3×3, of the first convolution's part on h_A, before its actnorm."""
        assert self.conv1 is not None  # for the type checker: only called if f sees h_A
        return self.conv1.weight[:, : self.state_channels]

    def on_u(self) -> tuple[Tensor, Tensor]:
        """Weight, hidden×condition×k×k, and bias of the first convolution's part on u."""
        weight, bias = self.first_on_u()
        if self.actnorm1 is not None:
            return self.actnorm1.fold(weight)
        assert bias is not None  # for the type checker: without actnorm the convolution has a bias
        return weight, bias

    def forward(self, on_u: Tensor, h_a: Tensor | None = None) -> ElementwiseAffine:
        """The affine map, given the first convolution's part on u, N×hidden×H×W, and h_a."""
        x = on_u if h_a is None else on_u + self._on_state(h_a)
        x = F.relu(_normalise_first_time(x, self.actnorm1))
        weight = self.conv2.weight
        bias = self.conv2.bias
        if self.actnorm2 is not None:
            weight, bias = self.actnorm2.fold(weight)
        if weight.shape[2] == 1:
            x = conv1x1(x, weight[..., 0, 0], bias)
        else:
            x = F.conv2d(x, weight, bias, padding=1)
        x = F.relu(_normalise_first_time(x, self.actnorm2))
        shift, s = self.conv3(x).chunk(2, dim=1)
        return ElementwiseAffine(self.log_scale(s), shift, self.order)

    def _on_state(self, h_a: Tensor) -> Tensor:
        weight = self.first_on_state()
        if self.actnorm1 is not None:
            weight, _ = self.actnorm1.fold(weight)
        return F.conv2d(h_a, weight, padding=1)

    def log_scale(self, s: Tensor) -> Tensor:
        """Logarithm of the affine scale for the raw output s."""
        if self.scale_map == "exp":
            return s
        if self.scale_map == "sigmoid":
            return torch.log(torch.sigmoid(s + 2) + 1e-4)
        return bounded(s, self.clamp)


def _normalise_first_time(x: Tensor, actnorm: Actnorm | None) -> Tensor:
    """x as it is, because its actnorm is folded into the convolution.

    The first time, initialise the actnorm from x.
    """
    if actnorm is None or actnorm.average is None:
        return x
    actnorm.initialize(x)
    return actnorm.transform().encode(x)[0]


def bounded(x: Tensor, bound: float | None) -> Tensor:
    """Soft clamp bound·tanh(x / bound), the identity near 0; None leaves x unchanged."""
    return x if bound is None else bound * torch.tanh(x / bound)


class Step(nn.Module):
    """One flow step: actnorm, 1×1 convolution and, if conditional, injector and coupling."""

    def __init__(
        self,
        channels: int,
        config: SRFlowConfig,
        *,
        level: int,
        conditional: bool,
    ) -> None:
        super().__init__()
        self.actnorm = Actnorm(channels)
        self.mix = InvertibleConv(channels)
        self.injector: ConditionalNet | None = None
        self.coupling: ConditionalNet | None = None
        if conditional:
            kept = channels // 2
            self.injector = ConditionalNet(0, channels, config, level=level)
            self.coupling = ConditionalNet(kept, channels - kept, config, level=level)

    def nets(self) -> list[ConditionalNet]:
        """Injector and coupling, or none."""
        return [net for net in (self.injector, self.coupling) if net is not None]

    def encode(
        self,
        h: Tensor,
        mix: MixChannels,
        on_u: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Encode h, N×C×H×W; return it with the step's log-determinant, [N] or a scalar.

        Args:
            mix: actnorm and 1×1 convolution.
            on_u: the first convolutions' parts on u, one for each of :meth:`nets`.
        """
        if self.actnorm.average is not None:
            self.actnorm.initialize(h)
            (mix,) = mix_channels([self.actnorm.transform()], [self.mix.weight], "encode")
        h, log_det = mix.encode(h)
        for transform in self._conditional_transforms(on_u):
            h, step_log_det = transform.encode(h)
            log_det = log_det + step_log_det
        return h, log_det

    def decode(self, h: Tensor, mix: MixChannels, on_u: Sequence[Tensor]) -> Tensor:
        """Exact inverse of :meth:`encode`."""
        for transform in reversed(self._conditional_transforms(on_u)):
            h = transform.decode(h)
        return mix.decode(h)

    def _conditional_transforms(self, on_u: Sequence[Tensor]) -> list[Transform]:
        if self.injector is None or self.coupling is None:
            return []
        injector = self.injector
        coupling = self.coupling
        # Each part on u is taken where it is needed: if it is computed only then, one of them is in
        # memory at a time.
        affine_of_h_a = CouplingTransform(lambda h_a: coupling(on_u[1], h_a))
        return [injector(on_u[0]), affine_of_h_a]


class Split(nn.Module):
    """Moves the second half of the channels to a latent, normalised as the rest predicts."""

    def __init__(self, kept: int, leaving: int, config: SRFlowConfig) -> None:
        super().__init__()
        self.kept = kept
        self.clamp = config.split_clamp
        self.conv = ZerosConv(kept, 2 * leaving)

    def prior(self, h: Tensor) -> ElementwiseAffine:
        """The map h₂ → latent = (h₂ − mean)·exp(−logs), where (mean, logs) = conv(h₁)."""
        mean, logs = self.conv(h).chunk(2, dim=1)
        return ElementwiseAffine(-bounded(logs, self.clamp), -mean, "shift_first")

    def encode(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """N×C×H×W → the channels kept, the latent, and the log-determinant −Σ logs, [N]."""
        h, leaving = h[:, : self.kept], h[:, self.kept :]
        latent, log_det = self.prior(h).encode(leaving)
        return h, latent, log_det

    def decode(self, h: Tensor, latent: Tensor) -> Tensor:
        """[h₁, mean + exp(logs)·latent]."""
        return torch.cat([h, self.prior(h).decode(latent)], dim=1)
