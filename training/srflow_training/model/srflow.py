"""SRFlow: a normalizing flow over HR images, given the LR one (Lugmayr et al., ECCV 2020)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srflow_sdk.errors import ArgumentError
from srflow_training.model.config import ENCODER_FIELDS, EncoderKind, LevelShape, SRFlowConfig
from srflow_training.model.encoder import RRDB, Encoder, EncoderFeatures
from srflow_training.model.features import LevelFeatures, Projection
from srflow_training.model.layers import Actnorm, Average, ConditionalNet, Split, Step
from srflow_training.model.plain import PlainEncoder
from srflow_training.model.transforms import (
    MixChannels,
    Squeeze,
    mix_channels,
    standard_normal_log_density,
)

Parts = Sequence[Sequence[Tensor]]
"""For each step of a level, the parts on u of its nets' first convolutions, N×hidden×H×W each."""

LatentTensors = Mapping[int, Tensor]
"""Latents by level."""

# one convolution computes the parts on u of so many: more channels leave a processor's cache
_NETS_AT_ONCE = 4


class Level(nn.Module):
    """One level: squeeze, transition steps, K conditional steps and, if channels leave, a split."""

    def __init__(self, shape: LevelShape, config: SRFlowConfig) -> None:
        super().__init__()
        self.transitions = nn.ModuleList(
            Step(shape.channels, config, level=shape.level, conditional=False)
            for _ in range(config.transition_steps)
        )
        self.steps = nn.ModuleList(
            Step(shape.channels, config, level=shape.level, conditional=True)
            for _ in range(config.steps_at(shape.level))
        )
        kept = shape.channels - shape.latent_channels
        self.split: Split | None = None
        if 0 < kept < shape.channels:
            self.split = Split(kept, shape.latent_channels, config)

    def all_steps(self) -> list[Step]:
        """Transition and conditional steps in encoding order."""
        return cast("list[Step]", [*self.transitions, *self.steps])

    def encode(self, h: Tensor, parts: Parts) -> tuple[Tensor, Tensor | None, Tensor]:
        """Encode h of the level below, N×C/4×2H×2W, given :meth:`parts_on_u`.

        Return h, N×C×H×W without the latent's channels, this level's latent (None without a split)
        and the log-determinant, [N] or a scalar.
        """
        h, log_likelihood = Squeeze().encode(h)
        for step, mix, on_u in zip(self.all_steps(), self.mixes("encode"), parts, strict=True):
            h, log_det = step.encode(h, mix, on_u)
            log_likelihood = log_likelihood + log_det
        if self.split is None:
            return h, None, log_likelihood
        h, latent, log_det = self.split.encode(h)
        return h, latent, log_likelihood + log_det

    def decode(self, h: Tensor, latent: Tensor | None, parts: Parts) -> Tensor:
        """Exact inverse of :meth:`encode`."""
        if self.split is not None and latent is not None:
            h = self.split.decode(h, latent)
        steps = self.all_steps()
        mixes = self.mixes("decode")
        for step, mix, on_u in zip(reversed(steps), reversed(mixes), reversed(parts), strict=True):
            h = step.decode(h, mix, on_u)
        return Squeeze().decode(h)

    def mixes(self, direction: Literal["encode", "decode"]) -> list[MixChannels]:
        """The actnorms and 1×1 convolutions of all steps."""
        steps = self.all_steps()
        return mix_channels(
            [step.actnorm.transform() for step in steps],
            [step.mix.weight for step in steps],
            direction,
        )

    def parts_on_u(self, features: LevelFeatures) -> Parts:
        """Compute all that the steps' nets need of u."""
        nets = [net for step in self.all_steps() for net in step.nets()]
        parts = list[Tensor]()
        for first in range(0, len(nets), _NETS_AT_ONCE):
            parts += _parts(nets[first : first + _NETS_AT_ONCE], features)
        remaining = iter(parts)
        return [[next(remaining) for _ in step.nets()] for step in self.all_steps()]

    def parts_when_needed(self, features: LevelFeatures) -> Parts:
        """The same to the bit, each part computed whenever it is asked for, and not kept."""
        return [PartsWhenNeeded(step.nets(), features) for step in self.all_steps()]


@dataclass(frozen=True, eq=False)
class PartsWhenNeeded(Sequence[Tensor]):
    """The parts on u of a step's nets, one of which is in memory at a time."""

    nets: Sequence[ConditionalNet]
    features: LevelFeatures

    def __len__(self) -> int:
        return len(self.nets)

    def __getitem__(self, index: Any) -> Any:
        """Compute one net's part."""
        return _parts([self.nets[index]], self.features)[0]  # raises IndexError behind the end


def _parts(nets: Sequence[ConditionalNet], features: LevelFeatures) -> Sequence[Tensor]:
    """The nets' parts on u, computed by one convolution."""
    weights, biases = zip(*(net.on_u() for net in nets), strict=True)
    convolved = features.conv(torch.cat(weights), torch.cat(biases))
    return torch.split(convolved, [len(weight) for weight in weights], dim=1)


@dataclass(frozen=True)
class Features:
    """The LR encoder's part of the condition.

    Attributes:
        levels: u of levels 1 … L.
        trunk: what a `residual` network's own image is made of, N×nf×h×w; else None.
    """

    levels: list[LevelFeatures]
    trunk: Tensor | None = None


@dataclass(frozen=True)
class Condition:
    """All that depends on the LR image alone.

    Attributes:
        levels: the parts on u of levels 1 … L.
        image: what the flow models HR less, N×3×H×W; None: nothing.
    """

    levels: list[Parts]
    image: Tensor | None = None


def build_encoder(kind: EncoderKind, fields: Mapping[str, Any]) -> Encoder:
    """Build an LR encoder with the fields of :meth:`Encoder.settings`, and fresh weights."""
    encoders: dict[EncoderKind, type[Encoder]] = {"rrdb": RRDB, "plain": PlainEncoder}
    return encoders[kind](**fields)


class SRFlow(nn.Module):
    """The SRFlow network. Images are float RGB in [0, 1], N×3×H×W; LR is N×3×h×w with H = scale·h.

    h and w must be multiples of `config.size_multiple`. Latents are a dict {level:
    N×C×H/2^level×W/2^level}.
    """

    def __init__(self, config: SRFlowConfig) -> None:
        super().__init__()
        self.config = config
        fields = {name: getattr(config, name) for name in ENCODER_FIELDS[config.encoder]}
        self.encoder = build_encoder(config.encoder, fields)
        self.projections = nn.ModuleList(
            Projection(config.feature_channels, channels, exponent=shape.lr_exponent)
            for channels, shape in zip(config.condition, config.level_shapes, strict=False)
        )
        self.levels = nn.ModuleList(Level(shape, config) for shape in config.level_shapes)

    def condition(self, lr: Tensor) -> Condition:
        """Compute all that depends on the LR image alone.

        Any number of images are encoded and decoded with it.

        Args:
            lr: N×3×h×w in [0, 1].

        Raises:
            ArgumentError: if lr has the wrong shape.
        """
        return self._condition(lr, Level.parts_on_u)

    def condition_when_needed(self, lr: Tensor) -> Condition:
        """Like :meth:`condition`, as exact, for pictures whose conditioning exceeds the memory.

        It holds the LR encoder's features, a twentieth of that or so; the flow's part is computed
        in every pass again.
        """
        return self._condition(lr, Level.parts_when_needed)

    def _condition(
        self,
        lr: Tensor,
        parts_of: Callable[[Level, LevelFeatures], Parts],
    ) -> Condition:
        features = self.features(lr)
        encoder = self.encoder
        levels = []
        for level, u in zip(self.flow_levels(), features.levels, strict=True):
            levels.append(parts_of(level, u))
        if features.trunk is None or not isinstance(encoder, PlainEncoder):
            return Condition(levels)
        return Condition(levels, encoder.image_of(features.trunk, lr))

    def conditioning_bytes(self, lr: Tensor) -> int:
        """The bytes that :meth:`condition` would hold for this LR image, in float32."""
        config = self.config
        values = 0.0
        for shape in config.level_shapes:
            hidden = config.hidden_at(shape.level) + config.injector_hidden_at(shape.level)
            values += 4.0**shape.lr_exponent * config.steps_at(shape.level) * hidden
        return round(lr.shape[0] * lr.shape[2] * lr.shape[3] * values * 4)

    def features(self, lr: Tensor) -> Features:
        """The first half of :meth:`condition`.

        u of each level has its channels×H/2^level×W/2^level.
        """
        multiple = self.config.size_multiple
        if lr.ndim != 4 or lr.shape[1] != 3 or lr.shape[2] % multiple or lr.shape[3] % multiple:
            raise ArgumentError(
                f"lr has shape {list(lr.shape)}; it must be N×3×h×w with h and w multiples of "
                f"{multiple}: pad it"
            )
        if self.config.condition:
            features = self.encoder.features(lr, block_indices=self.config.stacked_blocks)
            parts = [*features.blocks]
            if self.config.level_feature:
                parts.insert(0, features.last)
            trunk = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
            levels = [projection(trunk) for projection in self.projections]
            return Features(levels, features.last if self.config.residual else None)
        exponents = [shape.lr_exponent for shape in self.config.level_shapes]
        features = self.encoder.features(
            lr,
            block_indices=self.config.stacked_blocks,
            max_exponent=max(0, *exponents) if self.config.level_feature else 0,
        )
        return Features([self._level_features(features, exponent) for exponent in exponents])

    def _level_features(self, features: EncoderFeatures, exponent: int) -> LevelFeatures:
        own = []
        if self.config.level_feature and exponent > 0:
            own.append(features.upsampled[exponent])
        elif self.config.level_feature:
            own.append(_resize(features.last, exponent, "bilinear"))
        if exponent > 0 and self.config.feature_resize == "nearest" and features.blocks:
            small = torch.cat(features.blocks, dim=1)
            return LevelFeatures(own=own[0] if own else None, small=small, factor=2**exponent)
        own += [_resize(block, exponent, self.config.feature_resize) for block in features.blocks]
        return LevelFeatures(own=torch.cat(own, dim=1))

    def encode(self, hr: Tensor, lr: Tensor) -> tuple[LatentTensors, Tensor]:
        """Encode to latents by level and the log-likelihood log p(hr | lr) in nats, [N].

        No dequantisation noise is added.

        Raises:
            ArgumentError: if the shapes do not fit.
        """
        scale = self.config.scale
        size = (scale * lr.shape[-2], scale * lr.shape[-1])
        if hr.ndim != 4 or hr.shape[2:] != size or len(hr) != len(lr):
            raise ArgumentError(
                f"hr has shape {list(hr.shape)} and lr {list(lr.shape)}; hr must be {scale} times "
                "as high and wide"
            )
        return self.encode_conditioned(hr, self.condition(lr))

    def encode_conditioned(self, hr: Tensor, condition: Condition) -> tuple[LatentTensors, Tensor]:
        """Like :meth:`encode`, given the result of :meth:`condition`.

        A frozen encoder need not run twice.
        """
        latents: dict[int, Tensor] = {}
        h = hr if condition.image is None else hr - condition.image
        log_likelihood = hr.new_zeros(len(hr))
        levels = zip(self.flow_levels(), condition.levels, strict=True)
        for number, (level, parts) in enumerate(levels, start=1):
            h, latent, log_det = level.encode(h, parts)
            log_likelihood = log_likelihood + log_det
            if latent is not None:
                latents[number] = latent
        latents[self.config.levels] = h
        for latent in latents.values():
            log_likelihood = log_likelihood + standard_normal_log_density(latent)
        return latents, log_likelihood

    def forward(self, hr: Tensor, lr: Tensor) -> Tensor:
        """Log-likelihood in nats, [N]: what training maximises."""
        return self.encode(hr, lr)[1]

    def decode(self, lr: Tensor, latents: LatentTensors) -> Tensor:
        """Decode latents, already scaled by τ, to an image N×3×H×W, not clipped.

        Args:
            lr: N×3×h×w, or batch 1 for any latent batch.

        Raises:
            ArgumentError: if the shapes do not fit.
        """
        expected = self.latent_shapes(lr.shape[2], lr.shape[3])
        given = {level: tuple(latent.shape[1:]) for level, latent in latents.items()}
        batches = {len(latent) for latent in latents.values()}
        if given != expected or len(batches) != 1 or len(lr) not in (1, *batches):
            raise ArgumentError(
                f"latents have shapes {given}; this lr needs {expected}, with one batch size"
            )
        return self.decode_conditioned(self.condition(lr), latents)

    def decode_conditioned(self, condition: Condition, latents: LatentTensors) -> Tensor:
        """Like :meth:`decode`, given the result of :meth:`condition`."""
        return self.decoded_levels(condition, latents)[1]

    def decoded_levels(self, condition: Condition, latents: LatentTensors) -> dict[int, Tensor]:
        """Like :meth:`decode_conditioned`, but return the output of every level, L first.

        Level 1's is the image.
        """
        decoded: dict[int, Tensor] = {}
        h = latents[self.config.levels]
        levels = list(zip(self.flow_levels(), condition.levels, strict=True))
        for number, (level, parts) in reversed(list(enumerate(levels, start=1))):
            latent = None if level.split is None else latents.get(number)
            h = level.decode(h, latent, parts)
            decoded[number] = h
        if condition.image is not None:
            decoded[1] = h + condition.image
        return decoded

    def latent_shapes(self, height: int, width: int) -> dict[int, tuple[int, int, int]]:
        """{level: (C, H, W)} for an LR image of height×width pixels."""
        shapes = {}
        rows = self.config.scale * height
        columns = self.config.scale * width
        for shape in self.config.level_shapes:
            if shape.latent_channels:
                factor = 2**shape.level
                size = (shape.latent_channels, rows // factor, columns // factor)
                shapes[shape.level] = size
        return shapes

    @torch.no_grad()
    def sample(
        self,
        lr: Tensor,
        tau: float = 0.8,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Sample one image for each LR image, with latents from N(0, τ²): N×3×H×W, not clipped.

        Deterministic for a seeded generator on the same device; the SDK's runtime has its own
        latents, which do not depend on the device or on tiles (srflow_sdk.latents.random_field).
        """
        latents = {}
        for level, shape in self.latent_shapes(lr.shape[2], lr.shape[3]).items():
            noise = torch.randn(
                (len(lr), *shape),
                generator=generator,
                device=lr.device,
                dtype=lr.dtype,
            )
            latents[level] = tau * noise
        return self.decode(lr, latents)

    def flow_levels(self) -> list[Level]:
        """Levels 1 … L."""
        return cast("list[Level]", [*self.levels])

    def actnorms(self) -> list[Actnorm]:
        """Every actnorm of the flow, including those inside conditional nets."""
        return [module for module in self.modules() if isinstance(module, Actnorm)]

    @torch.no_grad()
    def initialize_actnorms(
        self,
        hr: Tensor,
        lr: Tensor,
        average: Average = lambda statistic: statistic,
    ) -> None:
        """Initialise every actnorm from this batch, in encoding order.

        Call it once, before training.

        Args:
            average: mean of a statistic over all processes that hold a share of the batch.

        Raises:
            ArgumentError: if they are already initialised.
        """
        if any(bool(actnorm.initialized) for actnorm in self.actnorms()):
            raise ArgumentError(
                "the actnorms are initialised already: a trained model must not be initialised "
                "again"
            )
        for actnorm in self.actnorms():
            actnorm.average = average
        try:
            self.encode(hr, lr)
        finally:
            for actnorm in self.actnorms():
                actnorm.average = None


def _resize(x: Tensor, exponent: int, mode: str) -> Tensor:
    """N×C×h×w → N×C×2^exponent·h×2^exponent·w, "nearest" or "bilinear" (corners not aligned).

    Reductions are written out: nearest takes the first pixel of each cell, bilinear the mean of its
    middle 2×2.
    """
    if exponent == 0:
        return x
    if exponent > 0:
        return F.interpolate(x, scale_factor=2.0**exponent, mode=mode)
    factor = 2**-exponent
    if mode == "nearest":
        return x[..., ::factor, ::factor]
    start = factor // 2 - 1
    return F.avg_pool2d(x[..., start:, start:], kernel_size=2, stride=factor)
