"""The network as the publication's authors compute it, in eager PyTorch: the speed to beat.

Each conditional net convolves the whole of [h_A, u], each actnorm and each 1×1 convolution is
computed on its own, and the LR encoder draws its image although nothing needs it. Written from the
published description. `make bench` times it, and the tests compare our network with it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from srflow_training.model import SRFlow
from srflow_training.model.layers import ConditionalNet, Step
from srflow_training.model.transforms import standard_normal_log_density


def log_likelihood(model: SRFlow, hr: Tensor, lr: Tensor, *, frozen: bool = False) -> Tensor:
    """log p(hr | lr) in nats, [N]."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        conditions = _conditions(model, lr)
    h = hr
    nats = hr.new_zeros(len(hr))
    for level, u in zip(model.flow_levels(), conditions, strict=True):
        h = F.pixel_unshuffle(h, 2)
        for step in level.all_steps():
            h, log_det = _encode_step(step, h, u)
            nats = nats + log_det
        if level.split is not None:
            h, latent, log_det = level.split.encode(h)
            nats = nats + log_det + standard_normal_log_density(latent)
    return nats + standard_normal_log_density(h)


@torch.no_grad()
def sample(model: SRFlow, lr: Tensor, latents: Mapping[int, Tensor]) -> Tensor:
    """Decode latents by level, 1 … L, with a temperature in them: N×3×H×W, not clipped."""
    conditions = _conditions(model, lr)
    levels = list(zip(model.flow_levels(), conditions, strict=True))
    h = latents[len(levels)]
    for number, (level, u) in reversed(list(enumerate(levels, start=1))):
        if level.split is not None:
            h = level.split.decode(h, latents[number])
        for step in reversed(level.all_steps()):
            h = _decode_step(step, h, u)
        h = F.pixel_shuffle(h, 2)
    return h


def _conditions(model: SRFlow, lr: Tensor) -> list[Tensor]:
    encoder = model.encoder
    features = encoder.features(
        lr, block_indices=model.config.stacked_blocks, max_exponent=len(encoder.upconvs)
    )
    image = encoder.conv_last(
        F.leaky_relu(encoder.conv_hr(features.upsampled[len(encoder.upconvs)]), 0.2)
    )
    assert image.shape[1] == 3
    conditions = []
    for shape in model.config.level_shapes:
        factor = 2.0**shape.lr_exponent
        if shape.lr_exponent > 0:
            own = features.upsampled[shape.lr_exponent]
        else:
            own = (
                F.interpolate(features.last, scale_factor=factor, mode="bilinear")
                if factor < 1
                else features.last
            )
        blocks = torch.cat(features.blocks, dim=1)
        conditions.append(
            torch.cat([own, F.interpolate(blocks, scale_factor=factor, mode="nearest")], dim=1)
        )
    return conditions


def _encode_step(step: Step, h: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    h, nats = step.actnorm.transform().encode(h)
    log_abs_det = torch.linalg.slogdet(step.mix.weight).logabsdet
    h = F.conv2d(h, step.mix.weight[:, :, None, None])
    nats = nats + log_abs_det * h.shape[2] * h.shape[3]
    if step.injector is None or step.coupling is None:
        return h, nats
    h, log_det = _affine(step.injector, h, u)
    nats = nats + log_det
    kept = h.shape[1] // 2
    changed, log_det = _affine(step.coupling, h[:, kept:], torch.cat([h[:, :kept], u], dim=1))
    return torch.cat([h[:, :kept], changed], dim=1), nats + log_det


def _decode_step(step: Step, h: Tensor, u: Tensor) -> Tensor:
    if step.injector is not None and step.coupling is not None:
        kept = h.shape[1] // 2
        changed = _inverse_affine(step.coupling, h[:, kept:], torch.cat([h[:, :kept], u], dim=1))
        h = _inverse_affine(step.injector, torch.cat([h[:, :kept], changed], dim=1), u)
    matrix = torch.linalg.inv(step.mix.weight.double()).to(step.mix.weight.dtype)
    return step.actnorm.transform().decode(F.conv2d(h, matrix[:, :, None, None]))


def _affine(net: ConditionalNet, h: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Transform h by the affine map that a net computes; return the log-determinant too."""
    scale, log_scale, shift = _scale_and_shift(net, seen)
    h = h * scale + shift if net.order == "scale_first" else (h + shift) * scale
    return h, log_scale.sum(dim=(1, 2, 3))


def _inverse_affine(net: ConditionalNet, h: Tensor, seen: Tensor) -> Tensor:
    scale, _, shift = _scale_and_shift(net, seen)
    return (h - shift) / scale if net.order == "scale_first" else h / scale - shift


def _scale_and_shift(net: ConditionalNet, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale, its logarithm, and shift."""
    x = net.conv1(seen)
    x = F.relu(x if net.actnorm1 is None else net.actnorm1.transform().encode(x)[0])
    x = net.conv2(x)
    x = F.relu(x if net.actnorm2 is None else net.actnorm2.transform().encode(x)[0])
    head = net.conv3
    x = F.conv2d(x, head.weight, head.bias, padding=1) * torch.exp(3 * head.logs)
    shift, s = x.chunk(2, dim=1)
    if net.scale_map == "sigmoid":
        scale = torch.sigmoid(s + 2) + 1e-4
        log_scale = torch.log(scale)
    else:
        log_scale = net.log_scale(s)
        scale = log_scale.exp()
    return scale, log_scale, shift
