"""The invertible maps of SRFlow as pure mathematics.

They have no parameters of their own, no state, no modes. Every transform has `encode(h) -> (h,
log_det)`, in the direction image → latents, and `decode(h) -> h`, its exact inverse. h is N×C×H×W;
log_det is log|det ∂encode/∂h|, in nats, a scalar or [N]. Equations: Lugmayr et al., "SRFlow:
Learning the Super-Resolution Space with Normalizing Flow", ECCV 2020, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

_LARGEST_IN_A_BATCH = 128


class Transform(Protocol):
    """An invertible map of N×C×H×W tensors."""

    def encode(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Image → latents: return the transformed h and the log-determinant in nats."""

    def decode(self, h: Tensor) -> Tensor:
        """Latents → image."""


class Squeeze:
    """2×2 pixels into channels.

    Output channel 4c + 2i + j is input channel c at row offset i, column offset j.
    """

    def encode(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """N×C×H×W → N×4C×H/2×W/2, volume-preserving."""
        return F.pixel_unshuffle(h, 2), h.new_zeros(())

    def decode(self, h: Tensor) -> Tensor:
        """N×4C×H×W → N×C×2H×2W."""
        return F.pixel_shuffle(h, 2)


@dataclass(frozen=True)
class ActnormTransform:
    """(h + bias)·exp(logs), a bias and a scale for every channel; bias and logs are 1×C×1×1."""

    bias: Tensor
    logs: Tensor

    def encode(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Log-det: H·W·Σ logs."""
        pixels = h.shape[2] * h.shape[3]
        return (h + self.bias) * self.logs.exp(), self.logs.sum() * pixels

    def decode(self, h: Tensor) -> Tensor:
        """h·exp(−logs) − bias."""
        return h * (-self.logs).exp() - self.bias


@dataclass(frozen=True)
class MixChannels:
    """Invertible 1×1 convolution h ← W h + shift.

    Weight is C×C, shift [C]; determinant and inverse are in float64.

    :func:`mix_channels` builds several of the same size at once, and fills in the field that its
    direction needs.
    """

    weight: Tensor
    shift: Tensor
    log_abs_det: Tensor | None = None
    inverse: Tensor | None = None

    def encode(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Log-det: H·W·log|det W|."""
        log_abs_det = self.log_abs_det
        if log_abs_det is None:
            log_abs_det = torch.linalg.slogdet(self.weight.double()).logabsdet
        pixels = h.shape[2] * h.shape[3]
        mixed = _in_its_precision(h, self.weight, self.shift)
        return mixed, log_abs_det.to(h.dtype) * pixels

    def decode(self, h: Tensor) -> Tensor:
        """W⁻¹ (h − shift)."""
        inverse = self.inverse
        if inverse is None:
            inverse = torch.linalg.inv(self.weight.double())
        unshift = -(inverse * self.shift.double()).sum(dim=1)
        return _in_its_precision(h, inverse.to(h.dtype), unshift.to(h.dtype))


def mix_channels(
    actnorms: Sequence[ActnormTransform],
    weights: Sequence[Tensor],
    direction: Literal["encode", "decode"],
) -> list[MixChannels]:
    """Build one map for each actnorm and the C×C weight after it, folded into one.

    All determinants (encode) or inverses (decode) are computed in one batched call, except of large
    matrices on CPUs: there, torch's batched LU decomposition is wrong with several threads
    (https://github.com/pytorch/pytorch/issues/142815).
    """
    bias = torch.stack([actnorm.bias.flatten() for actnorm in actnorms])
    gain = torch.stack([actnorm.logs.flatten() for actnorm in actnorms]).exp()
    folded = torch.stack(list(weights)) * gain[:, None, :]
    folded_weights = folded.unbind()
    shifts = (folded * bias[:, None, :]).sum(dim=2).unbind()
    matrices = folded.double()
    batches = [matrices]
    if matrices.device.type == "cpu" and matrices.shape[-1] > _LARGEST_IN_A_BATCH:
        batches = [matrix[None] for matrix in matrices]
    maps = []
    if direction == "encode":
        determinants = torch.cat([torch.linalg.slogdet(batch).logabsdet for batch in batches])
        for weight, shift, determinant in zip(folded_weights, shifts, determinants, strict=True):
            maps.append(MixChannels(weight, shift, log_abs_det=determinant))
    else:
        inverses = torch.cat([torch.linalg.inv(batch) for batch in batches])
        for weight, shift, inverse in zip(folded_weights, shifts, inverses, strict=True):
            maps.append(MixChannels(weight, shift, inverse=inverse))
    return maps


def conv1x1(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """1×1 convolution as a matrix product, which is faster on CPUs.

    Args:
        h: N×in×H×W.
        weight: out×in.
    """
    return F.linear(h.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def _in_its_precision(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Keep h's own precision: automatic mixed precision never rounds the flow's state."""
    with torch.autocast(h.device.type, enabled=False):
        return conv1x1(h, weight, bias)


@dataclass(frozen=True)
class ElementwiseAffine:
    """scale·h + shift, or (h + shift)·scale; log_scale and shift are N×C×H×W."""

    log_scale: Tensor
    shift: Tensor
    order: Literal["scale_first", "shift_first"]

    def encode(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Log-det: Σ log_scale over C, H, W."""
        scale = self.log_scale.exp()
        h = h * scale + self.shift if self.order == "scale_first" else (h + self.shift) * scale
        return h, self.log_scale.sum(dim=(1, 2, 3))

    def decode(self, h: Tensor) -> Tensor:
        """(h − shift)/scale, or h/scale − shift."""
        inverse_scale = (-self.log_scale).exp()
        if self.order == "scale_first":
            return (h - self.shift) * inverse_scale
        return h * inverse_scale - self.shift


@dataclass(frozen=True)
class CouplingTransform:
    """The first ⌊C/2⌋ channels h_A stay.

    The rest goes through the affine map that `affine_of(h_A)` returns.
    """

    affine_of: Callable[[Tensor], ElementwiseAffine]

    def encode(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Log-det: that of the affine map."""
        h_a, h_b = _halves(h)
        h_b, log_det = self.affine_of(h_a).encode(h_b)
        return torch.cat([h_a, h_b], dim=1), log_det

    def decode(self, h: Tensor) -> Tensor:
        """Exact: h_A is unchanged, so it gives the same affine map again."""
        h_a, h_b = _halves(h)
        return torch.cat([h_a, self.affine_of(h_a).decode(h_b)], dim=1)


def _halves(h: Tensor) -> tuple[Tensor, Tensor]:
    middle = h.shape[1] // 2
    return h[:, :middle], h[:, middle:]


def standard_normal_log_density(latent: Tensor) -> Tensor:
    """log N(latent; 0, 1) summed over C, H, W: [N], in nats."""
    constant = torch.log(torch.tensor(2 * torch.pi, dtype=latent.dtype, device=latent.device))
    return -0.5 * (latent.square() + constant).sum(dim=(1, 2, 3))
