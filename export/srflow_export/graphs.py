"""The reverse pass as two graphs: everything that depends on the LR image alone, and the rest.

EncoderGraph: lr → conditioning. SamplerGraph: conditioning, standard normal noise, tau → sr. Because a convolution is
linear, the u-half of every coupling's first convolution belongs to the encoder; what is left for each sample are
small convolutions on h_A. Names of a level's conditioning, all at HR/2^level:
  level{ℓ}_coupling         B×K·hidden   pre-activations of the couplings' first convolutions (u-half and bias)
  level{ℓ}_injector_scale   B×K·C        decoding is h·scale + shift
  level{ℓ}_injector_shift   B×K·C
Step k's part are channels k·hidden … (k+1)·hidden, and k·C … (k+1)·C.

Precision is a matter of these modules, so that the graphs come out typed: what they are given as `dtype` is the type of
the encoder, of the conditional nets' and priors' convolutions, and of the conditioning. The rule is that a convolution
computes in the type of its weights, whatever it is given. All else, the flow's state with its scales, divisions and
1×1s, latents and tau, is float32: a rounding of it would pass through tens of inverse steps, each of which may enlarge
it, and half precision would overflow.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srflow_export.folding import FoldedConv, fold_mixing, fold_net, fold_split
from srflow_sdk.manifest import Precision
from srflow_training.model import SRFlow, SRFlowConfig
from srflow_training.model.config import LevelShape
from srflow_training.model.layers import ConditionalNet, Split, Step, bounded
from srflow_training.model.srflow import Level
from srflow_training.model.transforms import Squeeze

CONDITIONING = ("coupling", "injector_scale", "injector_shift")

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "int8": torch.float32,  # quantised afterwards, see srflow_export.quantisation
}
"""The type of what is not flow, by precision."""


def conditioning_names(config: SRFlowConfig) -> list[str]:
    """Names of the encoder's outputs, in order; the sampler takes the same, in the same order."""
    return [f"level{shape.level}_{part}" for shape in config.level_shapes for part in CONDITIONING]


def noise_names(config: SRFlowConfig) -> list[str]:
    """Names of the sampler's noise inputs, in order of levels."""
    return [f"noise_level{shape.level}" for shape in config.level_shapes if shape.latent_channels]


def decoded_names(config: SRFlowConfig) -> list[str]:
    """Names, inside a sampler, of what levels L … 2 decode to; level 1 decodes to sr."""
    return [f"level{shape.level}_decoded" for shape in reversed(config.level_shapes[1:])]


def level_of(name: str) -> int:
    """The level that the name of one of these tensors says."""
    match = re.search(r"level(\d+)", name)
    if match is None:
        raise ValueError(f"{name} is no tensor of a level")
    return int(match[1])


def conditioning_bytes_per_pixel(config: SRFlowConfig, dtype: torch.dtype = torch.float32) -> int:
    """Bytes of conditioning for each LR pixel."""
    values = sum(
        config.steps * (config.hidden + 2 * shape.channels) * 4.0**shape.lr_exponent for shape in config.level_shapes
    )
    return round(dtype.itemsize * values)


class Conv(nn.Module):
    """A convolution with constant weights, same size, in the type of its weights."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, *, dtype: torch.dtype, groups: int = 1) -> None:
        super().__init__()
        self.register_buffer("weight", weight.to(dtype).contiguous())
        self.register_buffer("bias", None if bias is None else bias.to(dtype).contiguous())
        self.groups = groups

    @classmethod
    def of(cls, convs: Sequence[FoldedConv], *, dtype: torch.dtype, groups: int = 1) -> Conv:
        """Several convolutions side by side: on the same input, or on their own part of it (groups)."""
        weight, bias = torch.cat([conv.weight for conv in convs]), torch.cat([conv.bias for conv in convs])
        return cls(weight, bias, dtype=dtype, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """N×in×H×W of any type → N×out×H×W of the weights'."""
        x = x.to(self.weight.dtype)
        return F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2, groups=self.groups)


class AffineInverse(nn.Module):
    """Raw head outputs → multiplier and addend of the decoding affine map."""

    def __init__(self, net: ConditionalNet) -> None:
        super().__init__()
        self.scale_map, self.order, self.clamp = net.scale_map, net.order, net.clamp

    def forward(self, shift: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """(h − shift)/scale or h/scale − shift, as h·multiplier + addend, in float32."""
        shift, s = shift.float(), s.float()
        if self.scale_map == "exp":
            multiplier = torch.exp(-s)
        elif self.scale_map == "sigmoid":
            multiplier = 1 / (torch.sigmoid(s + 2) + 1e-4)
        else:
            multiplier = torch.exp(-bounded(s, self.clamp))
        return multiplier, -shift * multiplier if self.order == "scale_first" else -shift


class LevelEncoder(nn.Module):
    """u → a level's conditioning, all K steps at once: one convolution on u, then grouped ones."""

    def __init__(self, level: Level, config: SRFlowConfig, dtype: torch.dtype) -> None:
        super().__init__()
        steps = [step for step in level.steps if isinstance(step, Step)]
        nets = [step.injector for step in steps if step.injector is not None]
        injectors = [fold_net(net) for net in nets]
        couplings = [fold_net(step.coupling) for step in steps if step.coupling is not None]
        condition = config.condition_channels
        from_u = [FoldedConv(net.conv1.weight[:, -condition:], net.conv1.bias) for net in couplings]
        self.on_u = Conv.of([net.conv1 for net in injectors] + from_u, dtype=dtype)
        self.conv2 = Conv.of([net.conv2 for net in injectors], dtype=dtype, groups=len(steps))
        self.shift = Conv.of([net.shift for net in injectors], dtype=dtype, groups=len(steps))
        self.scale = Conv.of([net.scale for net in injectors], dtype=dtype, groups=len(steps))
        self.affine = AffineInverse(nets[0])

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """N×condition×H×W → coupling pre-activations, injector scale and shift."""
        hidden, coupling = self.on_u(u).chunk(2, dim=1)
        hidden = F.relu(self.conv2(F.relu(hidden)))
        scale, shift = self.affine(self.shift(hidden), self.scale(hidden))
        return coupling, scale.to(coupling.dtype), shift.to(coupling.dtype)


class EncoderGraph(nn.Module):
    """lr (float32 B×3×h×w in [0, 1]) → the conditioning of all levels, in the order of :func:`conditioning_names`.

    dtype: of the encoder, of all convolutions on u, and of the conditioning.
    """

    def __init__(self, model: SRFlow, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.levels = nn.ModuleList(LevelEncoder(level, model.config, dtype) for level in model.flow_levels())
        if dtype is not torch.float32:
            model = copy.deepcopy(model)
            model.encoder.to(dtype)
        self.model, self.dtype = model, dtype

    def forward(self, lr: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        outputs: list[Tensor] = []
        for level, u in zip(self.levels, self.model.condition(lr.to(self.dtype)), strict=True):
            outputs += level(u)
        return tuple(outputs)


class StepSampler(nn.Module):
    """One conditional step, decoding: coupling, injector, and the 1×1 that everything linear after it folds into."""

    def __init__(self, step: Step, mixing: FoldedConv, config: SRFlowConfig, dtype: torch.dtype) -> None:
        super().__init__()
        assert step.coupling is not None  # for the type checker: a conditional step has one
        net = fold_net(step.coupling)
        self.on_h_a = Conv(net.conv1.weight[:, : -config.condition_channels], None, dtype=dtype)
        self.conv2 = Conv.of([net.conv2], dtype=dtype)
        self.head = Conv.of([net.shift, net.scale], dtype=dtype)
        self.affine = AffineInverse(step.coupling)
        self.mixing = Conv.of([mixing], dtype=torch.float32)

    def forward(self, h: Tensor, coupling: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """h: float32 N×C×H×W; coupling: B×hidden×H×W; injector's scale and shift: B×C×H×W; B is 1 or N."""
        kept = h.shape[1] // 2
        h_a, h_b = h[:, :kept], h[:, kept:]
        hidden = F.relu(self.conv2(F.relu(self.on_h_a(h_a) + coupling)))
        multiplier, addend = self.affine(*self.head(hidden).chunk(2, dim=1))
        h = torch.cat([h_a, h_b * multiplier + addend], dim=1)
        mixed: Tensor = self.mixing(h * scale.float() + shift.float())
        return mixed


class LevelSampler(nn.Module):
    """One level, decoding, up to the unsqueeze."""

    def __init__(self, level: Level, shape: LevelShape, config: SRFlowConfig, dtype: torch.dtype) -> None:
        super().__init__()
        steps = level.all_steps()
        conditional, transitions = steps[config.transition_steps :], steps[: config.transition_steps]
        last = [conditional[0], *reversed(transitions)]  # all linear after the first step's injector: one 1×1
        self.steps = nn.ModuleList(
            StepSampler(step, fold_mixing([step] if index else last), config, dtype)
            for index, step in enumerate(conditional)
        )
        self.channels, self.hidden, self.split_clamp = shape.channels, config.hidden, config.split_clamp
        self.prior = Conv.of(fold_split(level.split), dtype=dtype) if isinstance(level.split, Split) else None

    def forward(self, h: Tensor, latent: Tensor | None, conditioning: Sequence[Tensor]) -> Tensor:
        """h from the level below (or the last latent), this level's latent where it has a split, its conditioning."""
        if self.prior is not None and latent is not None:
            mean, logs = self.prior(h).float().chunk(2, dim=1)
            h = torch.cat([h, mean + torch.exp(bounded(logs, self.split_clamp)) * latent], dim=1)
        coupling, scale, shift = conditioning
        parts = (
            torch.split(coupling, self.hidden, dim=1),
            torch.split(scale, self.channels, dim=1),
            torch.split(shift, self.channels, dim=1),
        )
        for step, *inputs in reversed(list(zip(self.steps, *parts, strict=True))):
            h = step(h, *inputs)
        return h


class SamplerGraph(nn.Module):
    """Conditioning, noise and tau → what levels L … 1 decode to; the last is sr (float32 N×3×sh×sw, not clipped).

    Inputs in the order of :func:`conditioning_names`, then :func:`noise_names` (standard normal, N×C×H×W), then tau
    ([1] or [N]). dtype: of the convolutions in conditional nets and priors, and of the conditioning.
    """

    def __init__(self, model: SRFlow, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        pairs = zip(model.flow_levels(), model.config.level_shapes, strict=True)
        self.levels = nn.ModuleList(LevelSampler(level, shape, model.config, dtype) for level, shape in pairs)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        count = len(CONDITIONING) * len(self.levels)
        conditioning, noise, tau = inputs[:count], list(inputs[count:-1]), inputs[-1][:, None, None, None]
        h, squeeze = tau * noise.pop(), Squeeze()
        decoded = []
        for index, level in reversed(list(enumerate(self.levels))):
            latent = tau * noise.pop() if level.prior is not None else None
            h = level(h, latent, conditioning[len(CONDITIONING) * index :][: len(CONDITIONING)])
            h = squeeze.decode(h)
            decoded.append(h)
        return tuple(decoded)
