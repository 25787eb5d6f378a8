"""The reverse pass as two graphs: everything that depends on the LR image alone, and the rest.

EncoderGraph: lr → conditioning. SamplerGraph: conditioning, standard normal noise, tau → sr.
Because a convolution is linear, the u-half of every coupling's first convolution belongs to the
encoder; what is left for each sample is small convolutions on h_A. Names of a level's conditioning,
all at HR/2^level:
  level{ℓ}_step{k}_coupling         B×hidden  pre-activations of a coupling's first convolution
  level{ℓ}_step{k}_injector_scale   B×C       decoding is h·scale + shift
  level{ℓ}_step{k}_injector_shift   B×C
Each step has tensors of its own, because a slice of one tensor would be copied for every sample.

These modules decide the precision, so exported graphs are typed: `dtype` is the type of the
encoder, of the convolutions in conditional nets and priors, and of the conditioning. A convolution
computes in the type of its weights, whatever the type of its input. Everything else (the flow's
state with its scales, divisions and 1×1s, latents, tau) is float32: rounding errors in it would
pass through tens of inverse steps, each of which may enlarge them, and half precision would
overflow.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from itertools import islice
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srflow_export import flow_ops
from srflow_export.folding import (
    FoldedConv,
    FoldedMixing,
    FoldedNet,
    fold_mixing,
    fold_net,
    fold_zeros_conv,
    side_by_side,
)
from srflow_export.on_features import PhaseConv, enlargement, interleave, keep_blocked_layout
from srflow_sdk.latents.random_field import LatentLevel
from srflow_sdk.model.manifest import Precision
from srflow_training.model import PlainEncoder, SRFlow, SRFlowConfig
from srflow_training.model.config import AffineOrder, LevelShape, ScaleMap
from srflow_training.model.features import LevelFeatures
from srflow_training.model.layers import ConditionalNet, Split, Step, bounded
from srflow_training.model.srflow import Level
from srflow_training.model.transforms import Squeeze

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "int8": torch.float32,  # quantised afterwards, see srflow_export.quantisation
}
"""The type of everything outside the flow, by precision."""


def level_conditioning(config: SRFlowConfig, shape: LevelShape) -> dict[str, int]:
    """Return the channels of a level's conditioning by name, in the encoder's order."""
    hidden = config.hidden_at(shape.level)
    channels = {
        "coupling": hidden,
        "injector_scale": shape.channels,
        "injector_shift": shape.channels,
    }
    return {
        f"level{shape.level}_step{step}_{part}": count
        for part, count in channels.items()
        for step in range(config.steps_at(shape.level))
    }


def noise_names(config: SRFlowConfig) -> list[str]:
    """Names of the sampler's noise inputs, in order of levels."""
    return [f"noise_level{entry.level}" for entry in latent_levels(config)]


def latent_levels(config: SRFlowConfig) -> tuple[LatentLevel, ...]:
    """The levels that take noise, 1 … L, as a manifest names them."""
    return tuple(
        LatentLevel(level=shape.level, channels=shape.latent_channels)
        for shape in config.level_shapes
        if shape.latent_channels
    )


def decoded_names(config: SRFlowConfig) -> list[str]:
    """Names, inside a sampler, of what levels L … 2 decode to; level 1 decodes to sr."""
    return [f"level{shape.level}_decoded" for shape in reversed(config.level_shapes[1:])]


def parse_level(name: str) -> int:
    """The level in the name of one of these tensors."""
    return int(re.findall(r"level(\d+)", name)[0])


def conditioning_bytes_per_pixel(config: SRFlowConfig, dtype: torch.dtype = torch.float32) -> int:
    """Bytes of conditioning for each LR pixel."""
    values = sum(
        sum(level_conditioning(config, shape).values()) * 4.0**shape.lr_exponent
        for shape in config.level_shapes
    )
    return round(dtype.itemsize * values)


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type of the flow's state for one of convolutions: float32, or float64 in tests."""
    return torch.promote_types(dtype, torch.float32)


class Conv(nn.Module):
    """A convolution with constant weights, same size, in the type of its weights."""

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        dtype: torch.dtype,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight.to(dtype).contiguous())
        self.register_buffer("bias", None if bias is None else bias.to(dtype).contiguous())
        self.groups = groups

    @classmethod
    def of(cls, convs: Sequence[FoldedConv], *, dtype: torch.dtype, groups: int = 1) -> Conv:
        """Put convolutions side by side: all on one input, or each on its own part (groups)."""
        conv = side_by_side(convs)
        return cls(conv.weight, conv.bias, dtype=dtype, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """N×in×H×W of any type → N×out×H×W of the weights'."""
        x = x.to(self.weight.dtype)
        return F.conv2d(
            x,
            self.weight,
            self.bias,
            padding=self.weight.shape[-1] // 2,
            groups=self.groups,
        )


class AffineSettings(TypedDict):
    """How a net's raw outputs become an affine map, see :func:`flow_ops.affine_inverse`."""

    scale_map: ScaleMap
    order: AffineOrder
    clamp: float


def affine_settings(net: ConditionalNet) -> AffineSettings:
    """A net's."""
    return AffineSettings(scale_map=net.scale_map, order=net.order, clamp=net.clamp)


def fold_nets(level: Level) -> tuple[list[FoldedNet], list[FoldedNet], AffineSettings]:
    """Fold a level's injectors and couplings; return the injectors' affine settings too."""
    steps = [step for step in level.steps if isinstance(step, Step)]
    injectors = [step.injector for step in steps if step.injector is not None]
    couplings = [fold_net(step.coupling) for step in steps if step.coupling is not None]
    return [fold_net(net) for net in injectors], couplings, affine_settings(injectors[0])


def compute_injectors(head: Tensor, steps: int, affine: AffineSettings) -> tuple[Tensor, Tensor]:
    """Scales and shifts of a level's injectors, each of all steps. head: by step, [shift; s]."""
    batch, _, height, width = head.shape
    wide = torch.float32 if head.dtype.itemsize == 2 else head.dtype
    # of the rows that a step's channels have together
    halves = head.reshape(batch, steps, -1, width).chunk(2, dim=2)
    shift, s = (half.reshape(batch, -1, height, width).to(wide) for half in halves)
    return flow_ops.affine_inverse(shift, s, **affine)


class _LevelEncoder(nn.Module):
    """A level's features → its conditioning, all K steps at once.

    Convolutions on u come first, then grouped ones.

    Where u is enlarged, the injectors' first two convolutions work on phases, see
    :mod:`srflow_export.on_features`.
    """

    def __init__(
        self,
        level: Level,
        shape: LevelShape,
        config: SRFlowConfig,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        injectors, couplings, self.affine = fold_nets(level)
        on_u = {
            "injector": [net.on_u for net in injectors],
            "coupling": [net.on_u for net in couplings],
        }
        factor = enlargement(config, shape)
        own = config.nf if config.level_feature else 0
        self.on_u = nn.ModuleDict(
            {
                part: Conv.of(convs, dtype=dtype)
                if factor == 1
                else PhaseConv(side_by_side(convs), own_channels=own, factor=factor, dtype=dtype)
                for part, convs in on_u.items()
            }
        )
        self.steps = len(injectors)
        self.conv2 = Conv.of([net.conv2 for net in injectors], dtype=dtype, groups=self.steps)
        self.head = Conv.of([net.head for net in injectors], dtype=dtype, groups=self.steps)

    def forward(self, features: LevelFeatures) -> tuple[Tensor, ...]:
        """Coupling pre-activations, injector scales and injector shifts, each of all steps."""
        injector = self.on_u["injector"]
        coupling = self.on_u["coupling"]
        if isinstance(injector, PhaseConv):
            small = features.small
            assert small is not None  # for the type checker: the level's features are enlarged
            phases = {
                place: self._compute_hidden(x) for place, x in injector(features.own, small).items()
            }
            hidden = interleave(phases)
            pre_activation = interleave(coupling(features.own, small))
        else:
            u = features.u()
            hidden = self._compute_hidden(injector(u))
            pre_activation = coupling(u)
        scale, shift = compute_injectors(self.head(hidden), self.steps, self.affine)
        tensors = (pre_activation, *(part.to(pre_activation.dtype) for part in (scale, shift)))
        return tuple(each for tensor in tensors for each in tensor.chunk(self.steps, dim=1))

    def _compute_hidden(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(x)))


class _EncoderImage(nn.Module):
    """The image of a `residual` network's encoder, added to the first injector's shift at level 1.

    The flow there decodes h to M·h + b, the squeezed picture, so M⁻¹ times the squeezed image has
    to be added to h. All of it is linear, and folded into the head's convolution and into one of
    the nearest enlargement.
    """

    factor: int
    on_features: Conv
    on_lr: Conv

    def __init__(self, model: SRFlow, dtype: torch.dtype) -> None:
        super().__init__()
        encoder = model.encoder
        config = model.config
        assert isinstance(encoder, PlainEncoder)  # for the type checker, as the next
        assert isinstance(encoder.conv_image, nn.Conv2d)
        self.factor = config.scale // 2
        (_, mixing), *_ = conditional_steps(model.flow_levels()[0], config)
        weight, bias = (
            self.to_level(part.detach(), mixing.encoding)
            for part in encoder.conv_image.parameters()
        )
        self.on_features = Conv(weight, bias.flatten(), dtype=dtype)
        of_lr = torch.eye(3, dtype=torch.float64).repeat_interleave(config.scale**2, dim=0)
        if config.image_base == "none":
            of_lr.zero_()
        self.on_lr = Conv(
            self.to_level(of_lr[:, :, None, None], mixing.encoding),
            None,
            dtype=dtype,
        )

    def to_level(self, part: Tensor, matrix: Tensor) -> Tensor:
        """Turn a weight with the rows of a pixel shuffle, [3·scale², …], into rows of level 1."""
        cells = (
            part.double()
            .reshape(3, self.factor, 2, self.factor, 2, -1)
            .permute(0, 2, 4, 1, 3, 5)
            .reshape(12, -1)
        )
        return (matrix @ cells).view(12 * self.factor**2, *part.shape[1:])

    def forward(self, features: Tensor, lr: Tensor) -> Tensor:
        """The trunk's output, N×nf×h×w, and lr → N×12×H/2×W/2."""
        return F.pixel_shuffle(self.on_features(features) + self.on_lr(lr), self.factor)


class EncoderGraph(nn.Module):
    """lr (float32 B×3×h×w in [0, 1]) → conditioning, ordered as by :func:`level_conditioning`.

    dtype: the type of the encoder, of all convolutions on u, and of the conditioning.
    """

    def __init__(self, model: SRFlow, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            _LevelEncoder(level, shape, model.config, dtype)
            for level, shape in zip(model.flow_levels(), model.config.level_shapes, strict=True)
        )
        model = copy.deepcopy(model)
        if isinstance(model.encoder, PlainEncoder):
            model.encoder.double().collapse()
        model.encoder.to(dtype)
        model.projections.to(dtype)
        if dtype is torch.float32:  # half graphs are for GPUs, which have no such layout
            keep_blocked_layout(model)
        self.model = model
        self.dtype = dtype
        self.own_image = _EncoderImage(model, dtype) if model.config.residual else None

    def forward(self, lr: Tensor) -> tuple[Tensor, ...]:
        """Encode `lr`; shapes and order as above."""
        outputs: list[Tensor] = []
        features = self.model.features(lr.to(self.dtype))
        for level, u in zip(self.levels, features.levels, strict=True):
            outputs += level(u)
        if self.own_image is not None and features.trunk is not None:
            first_shift = 2 * self.model.config.steps_at(1)
            outputs[first_shift] = outputs[first_shift] + self.own_image(features.trunk, lr)
        return tuple(outputs)


class CouplingNet(nn.Module):
    """What is left of a coupling's net once its first convolution's u-half is conditioning."""

    def __init__(self, step: Step, config: SRFlowConfig, dtype: torch.dtype) -> None:
        super().__init__()
        assert step.coupling is not None  # for the type checker: a conditional step has one
        net = fold_net(step.coupling)
        assert net.on_h_a is not None  # for the type checker: a coupling sees h_A
        self.on_h_a = Conv(net.on_h_a, None, dtype=dtype)
        self.conv2 = Conv.of([net.conv2], dtype=dtype)
        self.head = Conv.of([net.head], dtype=dtype)
        self.affine = affine_settings(step.coupling)

    def affine_of(self, h_a: Tensor, coupling: Tensor) -> Tensor:
        """[shift; s] for h_A, N×⌊C/2⌋×H×W. coupling: B×hidden×H×W."""
        head: Tensor = self.head(F.relu(self.conv2(F.relu(self.on_h_a(h_a) + coupling))))
        return head


class _StepSampler(CouplingNet):
    """Decode a conditional step: coupling, injector, and the 1×1 that follows them.

    flow_nodes: what follows the coupling's net is one node.
    """

    def __init__(
        self,
        step: Step,
        mixing: FoldedConv,
        config: SRFlowConfig,
        dtype: torch.dtype,
        *,
        flow_nodes: bool,
    ) -> None:
        super().__init__(step, config, dtype)
        self.mixing = Conv.of([mixing], dtype=state_dtype(dtype))
        self.flow_nodes = flow_nodes

    def forward(
        self,
        h: Tensor,
        h_a: Tensor,
        coupling: Tensor,
        scale: Tensor,
        shift: Tensor,
    ) -> Tensor:
        """Decode h, float32 N×C×H×W, whose first half is h_a.

        coupling: B×hidden×H×W. scale, shift: B×C×H×W; B is 1 or N.
        """
        assert self.mixing.bias is not None  # for the type checker: it has one
        weights = self.mixing.weight, self.mixing.bias
        tail = flow_ops.flow_step_tail if self.flow_nodes else flow_ops.decoded_tail
        return tail(h, self.affine_of(h_a, coupling), scale, shift, *weights, step=0, **self.affine)


def conditional_steps(level: Level, config: SRFlowConfig) -> list[tuple[Step, FoldedMixing]]:
    """Return a level's conditional steps in encoding order, each with the 1×1 that ends decoding.

    Everything linear after the first step's injector is one 1×1.
    """
    steps = level.all_steps()
    conditional = steps[config.transition_steps :]
    transitions = steps[: config.transition_steps]
    linear = [[conditional[0], *reversed(transitions)], *([step] for step in conditional[1:])]
    return [(step, fold_mixing(mixes)) for step, mixes in zip(conditional, linear, strict=True)]


def fold_prior(level: Level, dtype: torch.dtype) -> Conv | None:
    """The prior of a level's split: what it keeps → [mean; raw logs]."""
    return (
        Conv.of([fold_zeros_conv(level.split.conv)], dtype=dtype)
        if isinstance(level.split, Split)
        else None
    )


class _LevelSampler(nn.Module):
    """Decode one level: the inverse of its split, and its steps, up to the unsqueeze."""

    def __init__(
        self,
        level: Level,
        config: SRFlowConfig,
        dtype: torch.dtype,
        *,
        flow_nodes: bool,
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            _StepSampler(step, mixing, config, dtype, flow_nodes=flow_nodes)
            for step, mixing in conditional_steps(level, config)
        )
        self.split_clamp = config.split_clamp
        self.prior = fold_prior(level, dtype)

    def split(self, unsqueezed: Tensor, noise: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """The level's state with its latent, from the coarser level's state after its unsqueeze.

        Also the latter in the type of convolutions, which is h_A for the next step if half of the
        channels are drawn.
        """
        assert self.prior is not None  # for the type checker: only called on levels with a split
        kept = unsqueezed.to(self.prior.weight.dtype)
        # Widened once it is cut: engines then keep the prior's output in half precision.
        mean, logs = (part.to(unsqueezed.dtype) for part in self.prior(kept).chunk(2, dim=1))
        latent = tau.reshape(-1, 1, 1, 1) * noise
        drawn = mean + torch.exp(bounded(logs, self.split_clamp)) * latent
        return torch.cat([unsqueezed, drawn], dim=1), kept

    def forward(
        self,
        h: Tensor,
        conditioning: Sequence[Tensor],
        kept: Tensor | None = None,
    ) -> Tensor:
        """Run the level's steps on its state h. kept: its first channels, if they are at hand."""
        count = len(self.steps)
        parts = (conditioning[start : start + count] for start in (0, count, 2 * count))
        for step, *own in reversed(list(zip(self.steps, *parts, strict=True))):
            half = h.shape[1] // 2
            h = step(h, h[:, :half] if kept is None or kept.shape[1] != half else kept, *own)
            kept = None
        return h


class SamplerGraph(nn.Module):
    """Conditioning, noise and tau → what levels L … 1 decode to; the last is sr.

    sr is float32 N×3×sh×sw, not clipped.

    Inputs in the order of :func:`level_conditioning`, then :func:`noise_names` (standard normal,
    N×C×H×W), then tau ([1] or [N]). dtype: that of convolutions in conditional nets and priors, and
    of the conditioning. flow_nodes: in an exported graph, steps end in nodes of
    :mod:`srflow_export.flow_ops`.
    """

    def __init__(
        self,
        model: SRFlow,
        dtype: torch.dtype = torch.float32,
        *,
        flow_nodes: bool = False,
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            _LevelSampler(level, model.config, dtype, flow_nodes=flow_nodes)
            for level in model.flow_levels()
        )

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Decode; inputs and outputs in the order above."""
        levels = [level for level in self.levels if isinstance(level, _LevelSampler)]
        counts = [3 * len(level.steps) for level in levels]
        conditioning = iter(inputs)
        noise = list(inputs[sum(counts) : -1])
        tau = inputs[-1]
        by_level = [list(islice(conditioning, count)) for count in counts]
        h = tau.reshape(-1, 1, 1, 1) * noise.pop()
        kept = None
        squeeze = Squeeze()
        decoded = []
        for index, level in reversed(list(enumerate(levels))):
            h = level(h, by_level[index], kept)
            unsqueezed = squeeze.decode(h)
            decoded.append(unsqueezed)
            finer = levels[index - 1] if index else None
            if finer is not None and finer.prior is not None:
                h, kept = finer.split(unsqueezed, noise.pop(), tau)
            else:
                h = unsqueezed
                kept = None
        return tuple(decoded)
