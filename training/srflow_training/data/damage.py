"""Damage LR images as cameras, telephones and web sites do.

See :class:`Degradation` for the sources.
"""

# kornia has most of this, but needs Python 3.11 and has neither sinc filters nor WebP: not worth
# the dependency.

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from srflow_sdk.model.manifest import Reduction
from srflow_training.data.photographs import Codec, recompress, to_image, to_pixels
from srflow_training.resampling import REDUCTIONS
from srflow_training.settings import Degradation

MARGIN = 8
"""LR pixels that a window must have around what is wanted, more than the operations reach
together."""

Values = npt.NDArray[np.floating]
# cycles per LR pixel in which a sinc filter falls; keeps its kernel as short as the margin
_SINC_EDGE = 0.02
_CODING_BLOCK = 16  # pixels; of JPEG with halved chroma, and of WebP


def degrade(
    window: Tensor,
    settings: Degradation,
    *,
    scale: int,
    rng: Generator,
    reduction: Reduction = "bicubic",
    clean: bool = False,
    soft: bool = False,
) -> Tensor:
    """Reduce a window to a damaged LR image, without its margin.

    Returns 1×3×h×w, not rounded, not clipped, and not shifted: blurs have no phase, and resizes
    keep the centre. Everything random comes from rng.

    Args:
        window: 1×3×scale·(h + 2·MARGIN)×scale·(w + 2·MARGIN), RGB in [0, 1], float32.
        reduction: of what is damaged directly.
        soft: blur the window first.
        clean: do no more than that.
    """
    sigma = rng.uniform(*settings.soft_sigma) if soft else 0.0
    mild = not clean and bool(settings.mild) and rng.random() < settings.mild
    if clean or mild or (settings.direct and rng.random() < settings.direct):
        image = REDUCTIONS[reduction](window, scale)
        if soft:
            image = gaussian_blur(image, (sigma, sigma))
        if mild:
            mildly = settings.model_copy(update={"quality": settings.mild_quality})
            image = _compression(image, mildly, 1.0, rng)
        elif not clean:
            image = _damage_once(image, settings, rng)
    else:
        image = window
        if soft:
            image = gaussian_blur(image, (sigma, sigma), zoom=scale)
        height, width = (side // scale for side in window.shape[2:])
        image = _damage_in_passes(image, settings, height, width, rng)
    return image[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


def _damage_once(image: Tensor, settings: Degradation, rng: Generator) -> Tensor:
    """Damage LR pixels as a camera does."""
    for name in ("blur", "noise", "compression"):
        if rng.random() < getattr(settings, name):
            image = _OPERATIONS[name](image, settings, 1.0, rng)
    return image


def _damage_in_passes(
    image: Tensor,
    settings: Degradation,
    height: int,
    width: int,
    rng: Generator,
) -> Tensor:
    """Damage an image on its way to the LR size, by all operations in random order."""
    names = list(_OPERATIONS)
    for number in range(1, settings.passes + 1):
        for index in rng.permutation(len(names)):
            name = names[index]
            if name == "resize" and number == settings.passes:
                image = _resize_to(image, height, width, rng)
            elif rng.random() < getattr(settings, name):
                zoom = image.shape[3] / width
                image = _OPERATIONS[name](image, settings, zoom, rng)
    return image


def gaussian_blur(
    image: Tensor,
    widths: tuple[float, float],
    *,
    angle: float = 0.0,
    zoom: float = 1.0,
) -> Tensor:
    """Blur N×C×H×W by a Gaussian.

    The image is taken as periodic: give it a margin of a few deviations, and cut that off.

    Args:
        widths: its deviations along a direction and across it, in pixels/zoom.
    """
    down, right = _frequencies(image, zoom)
    cos = math.cos(angle)
    sin = math.sin(angle)
    along = cos * right + sin * down
    across = cos * down - sin * right
    squares = (widths[0] * along) ** 2 + (widths[1] * across) ** 2
    return _filter(image, np.exp(-2 * math.pi**2 * squares))


def gaussian_noise(image: Tensor, deviation: float, rng: Generator) -> Tensor:
    """Noise to add to an image, of its shape."""
    return deviation * torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))


def _frequencies(image: Tensor, zoom: float) -> tuple[Values, Values]:
    """Of the rows and columns of a spectrum, in cycles per LR pixel."""
    height, width = image.shape[2:]
    rows = np.fft.fftfreq(height)[:, None]
    columns = np.fft.rfftfreq(width)
    return rows * zoom, columns * zoom


def _filter(image: Tensor, shares: Values) -> Tensor:
    """Multiply the spectrum. By NumPy, whose transforms are the same for any number of threads."""
    spectrum = np.fft.rfft2(image.numpy()) * shares
    filtered = np.fft.irfft2(spectrum, s=tuple(image.shape[2:]))
    return torch.from_numpy(filtered.astype(np.float32))


def _blur(
    image: Tensor,
    settings: Degradation,
    zoom: float,
    rng: Generator,
) -> Tensor:
    """A Gaussian, or a sinc filter's disc in the spectrum. zoom: pixels per LR pixel."""
    if rng.random() < settings.sinc:
        frequencies = np.hypot(*_frequencies(image, zoom))
        excess = (frequencies - rng.uniform(*settings.sinc_cutoff)) / _SINC_EDGE
        return _filter(image, 0.5 - 0.5 * np.tanh(excess))
    first, second = rng.uniform(*settings.blur_sigma, size=2)
    widths = (first, second) if rng.random() < settings.anisotropic else (first, first)
    return gaussian_blur(image, widths, angle=rng.uniform(0, math.pi), zoom=zoom)


def _resize(
    image: Tensor,
    settings: Degradation,
    zoom: float,
    rng: Generator,
) -> Tensor:
    """Change both sides by a factor that is as often under x as it is over 1/x."""
    low, high = settings.resize_factor
    factor = math.exp(rng.uniform(math.log(low), math.log(high)))
    height, width = (max(MARGIN, round(factor * side)) for side in image.shape[2:])
    return _resize_to(image, height, width, rng)


def _resize_to(image: Tensor, height: int, width: int, rng: Generator) -> Tensor:
    mode = ("bilinear", "bicubic", "area")[rng.integers(3)]
    if mode == "area" and height < image.shape[2]:  # areas do not enlarge: they would repeat pixels
        return F.interpolate(image, (height, width), mode="area")
    mode = "bilinear" if mode == "area" else mode
    return F.interpolate(
        image,
        (height, width),
        mode=mode,
        align_corners=False,
        antialias=True,
    )


def _noise(
    image: Tensor,
    settings: Degradation,
    zoom: float,
    rng: Generator,
) -> Tensor:
    """Add Gaussian or Poisson noise, for each channel or the same for all three."""
    pixels = image.clamp(0, 1)
    light = pixels.mean(dim=1, keepdim=True) if rng.random() < settings.gray else pixels
    sigma = rng.uniform(*settings.noise_sigma) / 255
    if rng.random() < settings.poisson:
        white = sigma**-2  # photons
        counts = rng.poisson(light.double().numpy() * white)
        noise = torch.from_numpy(counts / white).float() - light
    else:
        noise = gaussian_noise(light, sigma, rng)
    return (pixels + noise).clamp(0, 1)


def _compression(
    image: Tensor,
    settings: Degradation,
    zoom: float,
    rng: Generator,
) -> Tensor:
    """Encode as JPEG or WebP and decode, with the blocks anywhere, because crops lie anywhere."""
    quality = int(rng.integers(*settings.quality, endpoint=True))
    top, left = rng.integers(_CODING_BLOCK, size=2)
    padded = np.pad(to_pixels(image), [(top, 0), (left, 0), (0, 0)], mode="edge")
    codec: Codec = "WEBP" if rng.random() < settings.webp else "JPEG"
    decoded = recompress(padded, codec, quality=quality)
    return to_image(decoded[top:, left:])


_Operation = Callable[[Tensor, Degradation, float, Generator], Tensor]
_OPERATIONS: dict[str, _Operation] = {
    "blur": _blur,
    "resize": _resize,
    "noise": _noise,
    "compression": _compression,
}
