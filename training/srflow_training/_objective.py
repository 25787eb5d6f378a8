"""The training losses, each one module, so that Fabric can distribute it and `torch.compile` can compile it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from srflow_training.model import RRDB, SRFlow
from srflow_training.model.transforms import standard_normal_log_density
from srflow_training.settings import Hardware, Objective, RunSettings


def noisy(hr: Tensor, noise: Tensor, settings: Objective) -> Tensor:
    """Add training noise to HR, with `settings.noise` as standard deviation; noise: standard normal, like hr."""
    return hr + noise * (settings.noise / 255)


class FlowObjective(nn.Module):
    """Negative log-likelihood of an SRFlow, optionally with a weighted L1 error of its decoding at τ = 0."""

    def __init__(self, model: SRFlow, settings: Objective) -> None:
        super().__init__()
        self.model, self.settings = model, settings

    def forward(self, hr: Tensor, lr: Tensor, noise: Tensor, *, frozen: bool, l1: bool) -> dict[str, Tensor]:
        """Compute the loss of hr, N×3×H×W, and lr, N×3×h×w, both in [0, 1]; noise: standard normal, like hr.

        frozen: do not train the LR encoder. l1: compute and add the L1 error of the decoding at τ = 0.
        Returns scalars: `loss`; `nll`, the sum of `prior` and `log_det`, all in bits per HR pixel and channel; `l1`.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            features = self.model.features(lr)
        condition = self.model.parts_on_u(features)
        latents, nats = self.model.encode_conditioned(noisy(hr, noise, self.settings), condition)
        density = torch.stack([standard_normal_log_density(latent) for latent in latents.values()]).sum(dim=0)
        bits = math.log(2) * hr[0].numel()
        nll, prior = -nats.mean() / bits, -density.mean() / bits
        terms = {"loss": nll, "nll": nll, "prior": prior, "log_det": nll - prior}
        if l1:
            zeros = {level: torch.zeros_like(latent) for level, latent in latents.items()}
            terms["l1"] = (self.model.decode_conditioned(condition, zeros) - hr).abs().mean()
            terms["loss"] = nll + self.settings.l1 * terms["l1"]
        return terms


class EncoderObjective(nn.Module):
    """Mean absolute error of the RRDB's own image, the loss that pretrains an LR encoder."""

    def __init__(self, model: RRDB, settings: Objective) -> None:
        super().__init__()
        self.model, self.settings = model, settings

    def forward(self, hr: Tensor, lr: Tensor, noise: Tensor, *, frozen: bool, l1: bool) -> dict[str, Tensor]:
        """Compute `loss`, for images in [0, 1]; arguments as for :meth:`FlowObjective.forward`."""
        return {"loss": (self.model(lr) - noisy(hr, noise, self.settings)).abs().mean()}


def memory_format(hardware: Hardware) -> torch.memory_format:
    """The memory layout of images and of the weights of convolutions."""
    return torch.channels_last if hardware.channels_last else torch.contiguous_format


def objective_of(model: SRFlow | RRDB, settings: RunSettings) -> FlowObjective | EncoderObjective:
    """The loss of a network, whose weights are brought into the run's memory layout."""
    for parameter in model.parameters():
        if parameter.ndim == 4 and parameter.shape[-1] > 1:
            parameter.data = parameter.data.contiguous(memory_format=memory_format(settings.hardware))
    if isinstance(model, RRDB):
        return EncoderObjective(model, settings.objective)
    return FlowObjective(model, settings.objective)
