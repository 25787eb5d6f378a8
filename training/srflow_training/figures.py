"""Every figure for how close an image is to its photograph.

They are for `srflow-eval`, validation and the losses.

Images are N×3×H×W, RGB in [0, 1].

Figures return a float for one image, 1×3×H×W. All except :func:`nonfinite` measure what an 8-bit
file would show: values are clipped and rounded, and NaN is black.

The functions that end in `_loss` are what the figures are made of. They are differentiable and do
not round: a scalar tensor, the mean over the batch, 0 for equality.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from typing import Any

import piq
import torch
from torch import Tensor
from torch.nn import functional as F

from srflow_sdk.errors import ArgumentError
from srflow_sdk.latents import picture_latents
from srflow_sdk.model.manifest import Reduction
from srflow_sdk.pixels.conservative_smoothing import NEIGHBOURS, second_least_and_most
from srflow_training.lpips import LPIPS
from srflow_training.resampling import REDUCTIONS, round_to_8_bit

FLIP_PIXELS_PER_DEGREE = 67
"""Pixels per degree of the eye's field that FLIP assumes: a 4K screen 0.7 m wide, seen from 0.7 m
(its default)."""

_SPECK = 6 / 255
_SMOOTH = 0.25
_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al., 2003


def as_shown(image: Tensor) -> Tensor:
    """Round to 8-bit levels in [0, 1], with NaN as 0."""
    return round_to_8_bit(image.nan_to_num(0.0))


# Fidelity


def psnr(image: Tensor, reference: Tensor, *, border: int) -> float:
    """RGB PSNR in dB without `border` pixels on every side, at most 100 dB; 100 dB is equality."""
    return _decibels(_inner(as_shown(image), border) - _inner(reference, border))


def y_psnr(image: Tensor, reference: Tensor, *, border: int) -> float:
    """PSNR in dB of the luma, peak 255, without `border` pixels on every side, at most 100 dB.

    BT.601, 16 to 235 of 255, as MATLAB's rgb2ycbcr but not rounded.
    """
    weights = torch.tensor([65.481, 128.553, 24.966])[None, :, None, None] / 255
    difference = _inner(as_shown(image), border) - _inner(reference, border)
    return _decibels((difference * weights).sum(dim=1))


def ssim(image: Tensor, reference: Tensor, *, border: int) -> float:
    """SSIM (Wang et al., 2004), mean over the RGB channels, at full size, without `border` pixels.

    1 is equality.
    """
    one = _inner(as_shown(image), border)
    other = _inner(reference, border)
    return float(piq.ssim(one, other, downsample=False))


def uniform_ssim(image: Tensor, reference: Tensor, *, border: int) -> float:
    """SSIM with uniform 7×7 windows, as the publication's measuring code has it.

    Mean over the RGB channels, at each position whose window is inside the picture. Variances have
    n − 1 in their denominator. 1 is equality.
    """
    one = _inner(as_shown(image), border).double()
    other = _inner(reference, border).double()
    mean_one = _windows(one)
    mean_other = _windows(other)
    square_one = mean_one * mean_one
    square_other = mean_other * mean_other
    product = mean_one * mean_other
    unbiased = 49 / 48
    variance_one = unbiased * (_windows(one * one) - square_one)
    variance_other = unbiased * (_windows(other * other) - square_other)
    covariance = unbiased * (_windows(one * other) - product)
    c1 = 0.01**2
    c2 = 0.03**2
    luminance = (2 * mean_one * mean_other + c1) / (square_one + square_other + c1)
    structure = luminance * (2 * covariance + c2) / (variance_one + variance_other + c2)
    return float(structure.mean())


def mean_magnitude(difference: Tensor) -> Tensor:
    """Mean absolute value; unlike that of mean(), its gradient is not divided value by value."""
    return difference.abs().sum() / difference.numel()


def bits_per_dimension_loss(nats: Tensor, image: Tensor) -> Tensor:
    """Negative log-density, in bits per value of an image N×3×H×W in [0, 1]: the figure `nll`.

    log2 256 is not added, unlike in :func:`bits_per_dimension`, so it is negative for most images.

    Args:
        nats: log-densities, [N].
    """
    return -nats.mean() / (math.log(2) * image[0].numel())


def bits_per_dimension(nats: Tensor, image: Tensor) -> float:
    """Negative log-density, in bits per value of an image N×3×H×W, for 8-bit levels.

    The runtime's figure: :attr:`srflow_sdk.Latents.bits_per_dimension`.

    Args:
        nats: log-densities, [N].
    """
    height, width = image.shape[2:]
    mean = float(nats.double().mean())
    return picture_latents.bits_per_dimension(mean, height=height, width=width)


# Perception


def gmsd_loss(image: Tensor, reference: Tensor) -> Tensor:
    """GMSD of the image, clipped to [0, 1], which piq insists on; 0 is equality."""
    clipped: Tensor = _FiniteGradient.apply(image.clamp(0, 1))  # type: ignore[no-untyped-call]
    gmsd: Tensor = piq.gmsd(clipped, reference)
    return gmsd


def gmsd(image: Tensor, reference: Tensor) -> float:
    """Gradient magnitude similarity deviation (Xue et al., 2014); 0 is equality."""
    return float(gmsd_loss(as_shown(image), reference))


def haarpsi(image: Tensor, reference: Tensor) -> float:
    """Haar wavelet-based perceptual similarity (Reisenhofer et al., 2018); 1 is equality."""
    score: Tensor = piq.haarpsi(as_shown(image), reference)
    # two black images weigh nothing: infinite for piq
    return 1.0 if bool(score.isposinf()) else float(score)


def ms_ssim_scales(height: int, width: int) -> int:
    """Number of scales that MS-SSIM has for a size in pixels: at most five, each half the last."""
    windows = (min(height, width) - 1) // 10
    return min(len(_MS_SSIM_WEIGHTS), windows.bit_length())


def ms_ssim(image: Tensor, reference: Tensor) -> float:
    """Multi-scale SSIM (Wang et al., 2003), mean over the RGB channels, from 11 pixels a side.

    1 is equality.

    With the first of the five scales that fit the image: five from 161 pixels.
    """
    scales = ms_ssim_scales(*image.shape[2:])
    weights = torch.tensor(_MS_SSIM_WEIGHTS[:scales])
    score = piq.multi_scale_ssim(as_shown(image), reference, scale_weights=weights)
    return float(score)


def has_flip() -> bool:
    """True if flip-evaluator is installed: it has no wheel for some platforms."""
    return importlib.util.find_spec("flip_evaluator") is not None


def flip_map(image: Tensor, reference: Tensor) -> Tensor:
    """LDR-FLIP (Andersson et al., 2020) at each pixel, 1×1×H×W in [0, 1]; 0 is equality.

    At :data:`FLIP_PIXELS_PER_DEGREE`: what an observer notices when the two images alternate.
    """
    import flip_evaluator

    one, other = (
        x[0].permute(1, 2, 0).contiguous().float().numpy() for x in (as_shown(image), reference)
    )
    errors, *_ = flip_evaluator.evaluate(
        other,
        one,
        "LDR",
        applyMagma=False,
        computeMeanError=False,
        parameters={"ppd": FLIP_PIXELS_PER_DEGREE},
    )
    return torch.from_numpy(errors).permute(2, 0, 1)[None]


def flip(image: Tensor, reference: Tensor) -> float:
    """Mean of :func:`flip_map`, from 0, equality, to 1."""
    return float(flip_map(image, reference).double().mean())


def lpips_loss(network: LPIPS, image: Tensor, reference: Tensor) -> Tensor:
    """LPIPS of images that are not clipped; 0 if they are equal."""
    distances: Tensor = network(image, reference.to(image.dtype))
    return distances.mean()


def multi_scale_lpips_loss(network: LPIPS, image: Tensor, reference: Tensor) -> Tensor:
    """The mean of LPIPS at three sizes, of images N×3×H×W, not clipped, of at least 64 pixels.

    At full size the middle is taken, a quarter of the pixels, because that costs most; reduced by 2
    and by 4, all.
    """
    reference = reference.to(image.dtype)
    top = image.shape[2] // 4
    left = image.shape[3] // 4
    pairs = [[x[:, :, top:-top, left:-left] for x in (image, reference)]]
    for side in (2, 4):
        pairs.append([F.avg_pool2d(x, side) for x in (image, reference)])
    return torch.stack([lpips_loss(network, *pair) for pair in pairs]).mean()


@torch.no_grad()
def lpips_map(network: LPIPS, image: Tensor, reference: Tensor) -> Tensor:
    """LPIPS at each pixel, 1×1×H×W."""
    shown = as_shown(image).to(network.device)
    return network.maps(shown, reference.to(network.device)).to(image.device)


@torch.no_grad()
def lpips(network: LPIPS, image: Tensor, reference: Tensor) -> float:
    """LPIPS (Zhang et al., 2018) with the network's backbone; 0 is equality."""
    shown = as_shown(image).to(network.device)
    return float(lpips_loss(network, shown, reference.to(network.device)))


# Consistency with the LR image


def lr_consistency_loss(
    image: Tensor,
    reference: Tensor,
    *,
    scale: int,
    reduction: Reduction,
) -> Tensor:
    """Mean absolute error of the reduced image, not rounded, against the reduced reference."""
    return REDUCTIONS[reduction](image - reference, scale).abs().mean()  # a reduction is linear


def lr_psnr(
    image: Tensor,
    lr: Tensor,
    *,
    reduction: Reduction = "bicubic",
    border: int = 1,
) -> float:
    """PSNR in dB of the reduced image, in 8 bits, against the LR image it was made from, 1×3×h×w.

    Without `border` LR pixels on every side.
    """
    scale = image.shape[2] // lr.shape[2]
    reduced = REDUCTIONS[reduction](as_shown(image), scale)
    return psnr(reduced, lr, border=border)


def colour_shift(image: Tensor, reference: Tensor) -> float:
    """Absolute difference between the means of a channel and its reference, averaged, /255."""
    shifts = (as_shown(image) - reference).mean(dim=(0, 2, 3))
    return float(shifts.abs().mean() * 255)


# A regular grid


def grid_loss(image: Tensor, *, period: int) -> Tensor:
    """Mean amplitude of the waves that repeat every `period` pixels: 0 for a flat image.

    A Hann window keeps whatever else is in the image away from these frequencies.

    Args:
        image: N×C×H×W, multiples of period.
    """
    height, width = image.shape[2:]
    rows, columns = (
        torch.hann_window(side, device=image.device) / (side / 2) for side in (height, width)
    )
    # there are no transforms in half precision
    with torch.autocast(image.device.type, enabled=False):
        windowed = image.float() * (rows[:, None] * columns)
        pixels = F.pixel_unshuffle(windowed, period).sum(dim=(2, 3))
        waves: Tensor = torch.fft.fft2(pixels.reshape(len(image), -1, period, period))
        amplitudes = waves.flatten(2)[..., 1:].abs()
    return amplitudes.mean()


# Samples


def specks(image: Tensor, reference: Tensor) -> float:
    """Pixels that stand out alone where the photograph has none such, in 10,000.

    A pixel's difference to the median of its 3×3 luma, more than 6/255 and more than twice the
    largest such difference of the photograph in the 7×7 around it, where the photograph's luma
    spans less than a quarter of black to white in 15×15: between letters and leaves nobody sees
    them. A face, sky or wall with more than 5 shows grains of sand at 200 %.
    """
    ours = _from_median(as_shown(image))
    photograph = _from_median(reference)
    luma = _luma(reference)
    span = _largest_around(luma, 15) + _largest_around(-luma, 15)
    stands_out = (ours > _SPECK) & (ours > 2 * _largest_around(photograph, 7))
    alone = stands_out & (span < _SMOOTH)
    return 10_000 * float(alone.float().mean())


def smooth(image: Tensor) -> Tensor:
    """Limit the luma of each pixel of samples, N×3×H×W, to its neighbours', with gradients.

    As the runtime does (srflow_sdk/pixels/conservative_smoothing.py).
    """
    luma = _luma(image)
    padded = F.pad(luma, (1, 1, 1, 1), "replicate")
    height, width = image.shape[2:]
    around = [padded[..., y : y + height, x : x + width] for y, x in NEIGHBOURS]
    low, high = second_least_and_most(around, torch.minimum, torch.maximum)
    return image + luma.clamp(low, high) - luma


def _largest_around(values: Tensor, side: int) -> Tensor:
    return F.max_pool2d(values, side, stride=1, padding=side // 2)


def sample_difference(image: Tensor, other: Tensor) -> float:
    """Mean absolute difference of two samples, /255."""
    return float(mean_magnitude(as_shown(image) - as_shown(other)) * 255)


def deviation_map(samples: Sequence[Tensor]) -> Tensor:
    """Standard deviation over n samples at each pixel, the mean of R, G and B: 1×1×H×W, /255.

    n − 1 in its denominator, divided by c₄(n): few normal values have, on average, too small a
    deviation, of 3 values by 11 %. So the expected value does not depend on n.

    Raises:
        ArgumentError: for one sample.
    """
    count = len(samples)
    if count < 2:
        raise ArgumentError(
            f"diversity is a standard deviation: give at least 2 samples, not {count}"
        )
    gammas = math.lgamma(count / 2) - math.lgamma((count - 1) / 2)
    c4 = math.sqrt(2 / (count - 1)) * math.exp(gammas)
    shown = torch.stack([as_shown(sample) for sample in samples])
    return shown.std(dim=0).mean(dim=1, keepdim=True) * (255 / c4)


def diversity(samples: Sequence[Tensor]) -> float:
    """The mean of :func:`deviation_map` over pixels, /255: the publication's, in its section 5.

    Raises:
        ArgumentError: for one sample.
    """
    return float(deviation_map(samples).mean())


def variance(samples: Sequence[Tensor]) -> float:
    """The variance over samples of each pixel and channel, averaged, in (8-bit levels)².

    It has n − 1 in its denominator. The publication's supplement plots it. It is not the square of
    :func:`diversity`, which averages deviations.
    """
    shown = torch.stack([as_shown(sample) for sample in samples])
    return float(shown.var(dim=0).mean() * 255**2)


def space_diversity(maps: Sequence[Tensor]) -> float:
    """Diversity score of n samples, 0 to 100, from their distances to the photograph at each place.

    d_s(p) is the distance of sample s at p. The score is
    100·(min_s mean_p d_s(p) − mean_p min_s d_s(p)) / (min_s mean_p d_s(p)): how much closer the
    photograph would be if each place could be taken from the sample that is best there. 0 if all
    samples are the same, or one is the photograph. The S₁₀ of NTIRE 2021, "Learning the
    super-resolution space", where d is the spatial LPIPS.

    Args:
        maps: n tensors of one shape, at least 0.

    Raises:
        ArgumentError: for one sample.
    """
    if len(maps) < 2:
        raise ArgumentError(
            f"the diversity score compares samples: give at least 2, not {len(maps)}"
        )
    distances = torch.stack([distance.double() for distance in maps])
    best = float(distances.flatten(1).mean(dim=1).min())
    if not best > 0:
        return 0.0
    of_best_places = float(distances.amin(dim=0).mean())
    return 100 * (best - of_best_places) / best


def nonfinite(image: Tensor) -> int:
    """Number of values that are not finite."""
    return int((~torch.isfinite(image)).sum())


def _from_median(image: Tensor) -> Tensor:
    """How far each luma is from the median of its 3×3, 1×1×H×W."""
    luma = _luma(image)
    padded = F.pad(luma, (1, 1, 1, 1), "replicate")
    median = F.unfold(padded, 3).median(dim=1).values
    return (luma - median.reshape(luma.shape)).abs()


def _luma(image: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114])[None, :, None, None]
    return (image * weights.to(image)).sum(dim=1, keepdim=True)


def _decibels(difference: Tensor) -> float:
    error = difference.double().square().mean()
    return min(100.0, float(-10 * torch.log10(error)))


def _inner(image: Tensor, border: int) -> Tensor:
    height, width = image.shape[2:]
    return image[..., border : height - border, border : width - border]


def _windows(image: Tensor) -> Tensor:
    """Mean over the 7×7 window at each position where it fits."""
    return F.avg_pool2d(image, 7, stride=1)


class _FiniteGradient(torch.autograd.Function):
    """Identity whose gradient is 0 where it would be NaN: GMSD's in areas without any edge."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return x."""
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Replace what is not finite."""
        return gradients[0].nan_to_num(0.0, posinf=0.0, neginf=0.0)
