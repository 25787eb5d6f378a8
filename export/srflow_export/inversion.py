"""The forward pass as a graph: which latents make an image, and how likely it is.

InverterGraph: hr, conditioning → latents, log density. It takes the conditioning of
:mod:`srflow_export.graphs`, in the same order, and undoes each of the sampler's steps exactly: 1×1,
injector, coupling. Precision is as there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srflow_export.flow_ops import exact_sigmoid
from srflow_export.folding import FoldedConv, FoldedMixing
from srflow_export.graphs import Conv, CouplingNet, conditional_steps, fold_prior, state_dtype
from srflow_training.model import SRFlow, SRFlowConfig
from srflow_training.model.config import LevelShape, ScaleMap
from srflow_training.model.layers import Step, bounded
from srflow_training.model.srflow import Level

HR = "hr"
LOG_DENSITY = "log_density"


def _log_scale(s: Tensor, *, scale_map: ScaleMap, clamp: float) -> Tensor:
    """The logarithm of the encoding affine map's factor, for a conditional net's raw output s."""
    if scale_map == "exp":
        return s
    if scale_map == "sigmoid":
        return torch.log(exact_sigmoid(s + 2) + 1e-4)
    return torch.tanh(s / clamp) * clamp


class _StepInverter(CouplingNet):
    """Encode a conditional step: the 1×1 before it, injector, coupling."""

    def __init__(
        self,
        step: Step,
        mixing: FoldedMixing,
        config: SRFlowConfig,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(step, config, dtype)
        encoding = mixing.encoding
        self.mixing = Conv.of(
            [FoldedConv(encoding[:, :, None, None], -(encoding @ mixing.bias))],
            dtype=state_dtype(dtype),
        )
        self.log_det_of_mixing = float(torch.linalg.slogdet(encoding).logabsdet)

    def forward(
        self,
        h: Tensor,
        coupling: Tensor,
        scale: Tensor,
        shift: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Encode h; return it with the log-determinant by position, N×1×H×W."""
        scale = scale.to(h.dtype)
        h = (self.mixing(h) - shift.to(h.dtype)) / scale
        log_det = -torch.log(scale).sum(dim=1, keepdim=True)
        kept = h.shape[1] // 2
        shift, s = self.affine_of(h[:, :kept], coupling).to(h.dtype).chunk(2, dim=1)
        log_scale = _log_scale(s, scale_map=self.affine["scale_map"], clamp=self.affine["clamp"])
        h_a = h[:, :kept]
        h_b = h[:, kept:]
        factor = torch.exp(log_scale)
        h_b = (
            h_b * factor + shift
            if self.affine["order"] == "scale_first"
            else (h_b + shift) * factor
        )
        return torch.cat([h_a, h_b], dim=1), log_det + log_scale.sum(dim=1, keepdim=True)


class _LevelInverter(nn.Module):
    """Encode one level: its steps, and its split."""

    def __init__(
        self,
        level: Level,
        shape: LevelShape,
        config: SRFlowConfig,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            _StepInverter(step, mixing, config, dtype)
            for step, mixing in conditional_steps(level, config)
        )
        self.exponent = shape.lr_exponent
        self.split_clamp = config.split_clamp
        self.kept = shape.channels - shape.latent_channels
        self.prior = fold_prior(level, dtype)

    def forward(
        self, h: Tensor, conditioning: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Encode h, N×C×H×W, squeezed.

        Returns h without the latent, the latent if there is a split, and nats by position.
        """
        steps = [step for step in self.steps if isinstance(step, _StepInverter)]
        parts = (
            conditioning[start : start + len(steps)] for start in (0, len(steps), 2 * len(steps))
        )
        nats = None
        constant = 0.0
        for step, *own in zip(steps, *parts, strict=True):
            h, log_det = step(h, *own)
            nats = log_det if nats is None else nats + log_det
            constant += step.log_det_of_mixing
        assert nats is not None  # for the type checker: a level has steps
        nats = nats + constant
        if self.prior is None:
            return h, None, nats
        kept = h[:, : self.kept]
        leaving = h[:, self.kept :]
        mean, logs = self.prior(kept).to(h.dtype).chunk(2, dim=1)
        logs = bounded(logs, self.split_clamp)
        latent = (leaving - mean) * torch.exp(-logs)
        return kept, latent, nats - logs.sum(dim=1, keepdim=True)


class InverterGraph(nn.Module):
    """hr (float32 N×3×sh×sw) and conditioning → latents of levels 1 … L, and the log density.

    The log density is N×1×h×w, in nats.

    Latents in the order of their levels. The log density of the image given its LR image is the
    map's sum; at a position it is what the LR pixel's cell contributes. What belongs to a latent
    that covers several LR pixels is divided among them. Conditioning is of batch 1 or N, in the
    encoder's order.
    """

    def __init__(self, model: SRFlow, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            _LevelInverter(level, shape, model.config, dtype)
            for level, shape in zip(model.flow_levels(), model.config.level_shapes, strict=True)
        )

    def forward(self, hr: Tensor, *conditioning: Tensor) -> tuple[Tensor, ...]:
        """Encode; inputs and outputs in the order above."""
        given = iter(conditioning)
        latents = []
        total = None
        h = hr
        levels = [level for level in self.levels if isinstance(level, _LevelInverter)]
        for level in levels:
            squeezed = F.pixel_unshuffle(h, 2)
            h, latent, nats = level(squeezed, list(islice(given, 3 * len(level.steps))))
            latent = h if level is levels[-1] else latent
            if latent is not None:
                latents.append(latent)
                nats = nats + _standard_normal_log_density(latent)
            nats = _by_lr_pixel(nats, level.exponent)
            total = nats if total is None else total + nats
        assert total is not None  # for the type checker: a flow has levels
        return (*latents, total)


def _standard_normal_log_density(latent: Tensor) -> Tensor:
    """By position: N×1×H×W."""
    density: Tensor = (latent * latent + math.log(2 * math.pi)).sum(dim=1, keepdim=True) * -0.5
    return density


def _by_lr_pixel(nats: Tensor, exponent: int) -> Tensor:
    """A level's map, at 2^exponent times the LR image's size, as sums over LR pixels."""
    factor = 2 ** abs(exponent)
    if exponent > 0:
        nats = F.avg_pool2d(nats, factor) * float(factor**2)
    elif exponent < 0:
        nats = F.interpolate(nats, scale_factor=float(factor), mode="nearest") * (1 / factor**2)
    return nats
