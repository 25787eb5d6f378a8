"""Figures for how close an image is to its photograph, used by `srflow-eval` and validation.

Images are 1×3×H×W, RGB in [0, 1]. All figures except :func:`nonfinite` measure what an 8-bit file would show: values
are clipped and rounded, and NaN is black.
"""

from __future__ import annotations

import piq
import torch
from torch import Tensor

from srflow_sdk.manifest import Reduction
from srflow_training.resampling import REDUCTIONS, round_to_8_bit


def as_shown(image: Tensor) -> Tensor:
    """Round to 8-bit levels in [0, 1], with NaN as 0."""
    return round_to_8_bit(image.nan_to_num(0.0))


def psnr(image: Tensor, reference: Tensor, *, border: int) -> float:
    """RGB PSNR in dB without `border` pixels on every side, at most 100 dB; 100 dB is equality."""
    difference = _inner(as_shown(image), border) - _inner(reference, border)
    return min(100.0, float(-10 * torch.log10(difference.double().square().mean())))


def y_psnr(image: Tensor, reference: Tensor, *, border: int) -> float:
    """PSNR in dB of the luma (BT.601, 16 to 235 of 255, as MATLAB's rgb2ycbcr but not rounded), peak 255.

    Without `border` pixels on every side, at most 100 dB.
    """
    weights = torch.tensor([65.481, 128.553, 24.966])[None, :, None, None] / 255
    difference = ((_inner(as_shown(image), border) - _inner(reference, border)) * weights).sum(dim=1)
    return min(100.0, float(-10 * torch.log10(difference.double().square().mean())))


def ssim(image: Tensor, reference: Tensor, *, border: int) -> float:
    """SSIM (Wang et al., 2004), mean over the RGB channels, at full size, without `border` pixels; 1 is equality."""
    return float(piq.ssim(_inner(as_shown(image), border), _inner(reference, border), downsample=False))


def gmsd(image: Tensor, reference: Tensor) -> float:
    """Gradient magnitude similarity deviation (Xue et al., 2014); 0 is equality."""
    return float(piq.gmsd(as_shown(image), reference))


def haarpsi(image: Tensor, reference: Tensor) -> float:
    """Haar wavelet-based perceptual similarity (Reisenhofer et al., 2018); 1 is equality."""
    return float(piq.haarpsi(as_shown(image), reference))


def lr_psnr(image: Tensor, lr: Tensor, *, reduction: Reduction = "bicubic") -> float:
    """PSNR in dB of the reduced image against the LR image it was made from, 1×3×h×w."""
    return psnr(REDUCTIONS[reduction](as_shown(image), image.shape[2] // lr.shape[2]), lr, border=1)


def diversity(image: Tensor, other: Tensor) -> float:
    """Mean absolute difference of two samples, /255."""
    return float((as_shown(image) - as_shown(other)).abs().mean() * 255)


def colour_shift(image: Tensor, reference: Tensor) -> float:
    """Absolute difference between the means of a channel and its reference, averaged over R, G and B, /255."""
    return float((as_shown(image) - reference).mean(dim=(0, 2, 3)).abs().mean() * 255)


def nonfinite(image: Tensor) -> int:
    """Number of values that are not finite."""
    return int((~torch.isfinite(image)).sum())


def _inner(image: Tensor, border: int) -> Tensor:
    return image[..., border:-border, border:-border]
