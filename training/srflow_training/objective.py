"""The training losses, each one module, so that Fabric can distribute it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srflow_sdk.model.manifest import Reduction
from srflow_training import figures
from srflow_training.lpips import LPIPS
from srflow_training.model import Encoder, SRFlow
from srflow_training.model.transforms import standard_normal_log_density
from srflow_training.settings import Objective, RunSettings


def add_noise(hr: Tensor, noise: Tensor, settings: Objective) -> Tensor:
    """Add training noise to HR, N×3×H×W.

    Args:
        noise: standard normal, like hr.
    """
    return hr + noise * (settings.noise / 255)


def latents_of(noise: Tensor, shapes: Mapping[int, tuple[int, int, int]]) -> dict[int, Tensor]:
    """Distribute standard normal noise, N×3×H×W, over the latents of a flow, each value once.

    A crop's latents so depend on its own noise only, in whatever parts and processes a batch is
    computed.
    """
    latents: dict[int, Tensor] = {}
    for level, (channels, height, _) in sorted(shapes.items()):
        cells = F.pixel_unshuffle(noise, noise.shape[2] // height)
        latents[level] = cells[:, :channels]
        noise = cells[:, channels:]
    return latents


class PerceptualLoss(nn.Module):
    """The perceptual distance that the settings name.

    Raises:
        CheckpointError: for LPIPS's weights.
    """

    def __init__(self, settings: Objective) -> None:
        super().__init__()
        self.kind = settings.perceptual_loss
        self.lpips = None if self.kind == "gmsd" else LPIPS.open("vgg")

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Measure images against reference, in [0, 1]: 0 for equality, NaN if any is not finite."""
        if not bool(image.isfinite().all()):
            return image.sum() * math.nan  # and so is the gradient: the step is skipped
        if self.lpips is not None:
            if self.kind == "lpips_vgg":
                return figures.lpips_loss(self.lpips, image, reference)
            return figures.multi_scale_lpips_loss(self.lpips, image, reference)
        # differences of squares need full precision
        with torch.autocast(image.device.type, enabled=False):
            return figures.gmsd_loss(image, reference)


class FlowObjective(nn.Module):
    """Negative log-likelihood of an SRFlow and, in weights, errors of its decodings."""

    def __init__(
        self,
        model: SRFlow,
        settings: Objective,
        reduction: Reduction,
    ) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.reduction = reduction
        self.perceptual = PerceptualLoss(settings) if settings.perceptual > 0 else None

    def forward(
        self,
        hr: Tensor,
        lr: Tensor,
        noise: Tensor,
        *,
        with_l1: bool,
    ) -> dict[str, Tensor]:
        """Compute the loss of hr, N×3×H×W, and lr, N×3×h×w, both in [0, 1].

        Args:
            noise: standard normal, like hr.
            with_l1: whether `l1` is due.

        Returns:
            Scalars: `loss`; `nll`, the sum of `prior` and `log_det`, all in bits per HR pixel and
            channel; and, without their weights, what is due of `l1`, `grid`, `perceptual`,
            `lr_consistency`.
        """
        condition = self.model.condition(lr)
        latents, nats = self.model.encode_conditioned(
            add_noise(hr, noise, self.settings), condition
        )
        densities = [standard_normal_log_density(latent) for latent in latents.values()]
        nll = figures.bits_per_dimension_loss(nats, hr)
        prior = figures.bits_per_dimension_loss(torch.stack(densities).sum(dim=0), hr)
        terms = {"loss": nll, "nll": nll, "prior": prior, "log_det": nll - prior}
        decoded: list[Tensor] = []
        scale = self.model.config.scale
        if with_l1:
            zeros = {level: torch.zeros_like(latent) for level, latent in latents.items()}
            decoded.append(self.model.decode_conditioned(condition, zeros))
            self._add(terms, "l1", figures.mean_magnitude(decoded[-1] - hr))
        if self.perceptual is not None:
            drawn = latents_of(noise, self.model.latent_shapes(lr.shape[2], lr.shape[3]))
            tau = self.settings.perceptual_tau
            scaled = {level: tau * latent for level, latent in drawn.items()}
            sample = self.model.decode_conditioned(condition, scaled)
            decoded.append(figures.smooth(sample) if self.settings.smoothed else sample)
            self._add(terms, "perceptual", self.perceptual(decoded[-1], hr))
        if decoded and self.settings.grid > 0:
            grids = [figures.grid_loss(image, period=scale) for image in decoded]
            self._add(terms, "grid", torch.stack(grids).sum())
        if decoded and self.settings.lr_consistency > 0:
            error = figures.lr_consistency_loss(
                decoded[-1],
                hr,
                scale=scale,
                reduction=self.reduction,
            )
            self._add(terms, "lr_consistency", error)
        return terms

    def _add(self, terms: dict[str, Tensor], name: str, term: Tensor) -> None:
        terms[name] = term
        terms["loss"] = terms["loss"] + getattr(self.settings, name) * term


class EncoderObjective(nn.Module):
    """Mean absolute error of the encoder's own image, which pretrains it, also by a teacher's."""

    def __init__(self, model: Encoder, settings: Objective) -> None:
        super().__init__()
        self.model = model
        self.settings = settings

    def forward(
        self,
        hr: Tensor,
        lr: Tensor,
        noise: Tensor,
        teacher: Tensor | None = None,
        *,
        with_l1: bool,
    ) -> dict[str, Tensor]:
        """Compute `loss`, for images in [0, 1].

        Args:
            teacher: its pictures, like hr.
        """
        references = [add_noise(hr, noise, self.settings) if noise.numel() else hr]
        if teacher is not None:
            references.append(teacher)
        errors = self.model.errors(lr, references)
        losses = [figures.mean_magnitude(error) for error in errors]
        if teacher is None:
            return {"loss": losses[0]}
        share = self.settings.teacher
        return {
            "loss": (1 - share) * losses[0] + share * losses[1],
            "photograph": losses[0],
            "teacher": losses[1],
        }


def objective_of(
    model: SRFlow | Encoder, settings: RunSettings
) -> FlowObjective | EncoderObjective:
    """The loss of a network, with all weights in their memory layout.

    Raises:
        CheckpointError: as :class:`PerceptualLoss`.
    """
    objective: FlowObjective | EncoderObjective
    if isinstance(model, Encoder):
        objective = EncoderObjective(model, settings.objective)
    else:
        objective = FlowObjective(model, settings.objective, settings.data.reduction)
    lay_out(objective)
    return objective


def lay_out(module: nn.Module) -> None:
    """Give the weights of convolutions the memory layout that images have: channels last."""
    for parameter in module.parameters():
        if parameter.ndim == 4 and parameter.shape[-1] > 1:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
