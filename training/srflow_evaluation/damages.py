"""Damages that training never draws: what cameras, lenses and old file formats do to pictures.

Each function takes pixels H×W×3 of 8 bits, an amount and random numbers, and returns pixels of the same shape.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

Pixels = NDArray[np.uint8]

_SAMPLES_A_PIXEL = 8  # of a path that moves


def motion(picture: Pixels, amount: float, random: np.random.Generator) -> Pixels:
    """A camera that moved while it was open: a straight line, `amount` pixels long, at any angle."""
    angle, radius = random.uniform(0, math.pi), math.ceil(amount / 2) + 1
    side = 2 * radius + 1
    kernel = torch.zeros(side, side)
    for step in np.linspace(-amount / 2, amount / 2, math.ceil(amount * _SAMPLES_A_PIXEL) + 1):
        y, x = radius + step * math.sin(angle), radius + step * math.cos(angle)
        top, left = math.floor(y), math.floor(x)
        for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
            kernel[row, column] += (1 - abs(y - row)) * (1 - abs(x - column))
    channels = F.pad(_tensor(picture).transpose(0, 1), (radius,) * 4, "replicate")
    return _pixels(F.conv2d(channels, (kernel / kernel.sum())[None, None]).transpose(0, 1))


def speckle(picture: Pixels, amount: float, random: np.random.Generator) -> Pixels:
    """Multiply each value by Gaussian noise around 1, whose deviation is `amount` percent: radar, scans of film."""
    return to_8_bits(picture * (1 + amount / 100 * random.standard_normal(picture.shape)))


def bayer(picture: Pixels, amount: float, random: np.random.Generator) -> Pixels:
    """A sensor that sees one colour a pixel (RGGB), with noise of deviation `amount`, interpolated bilinearly.

    So the noise is correlated between neighbours, there are coloured fringes along edges, and fine detail is lost.
    """
    height, width = picture.shape[:2]
    rows, columns = np.arange(height)[:, None] % 2, np.arange(width)[None] % 2
    seen = np.stack([(rows == 0) & (columns == 0), rows != columns, (rows == 1) & (columns == 1)]).astype(np.float32)
    noisy = picture.transpose(2, 0, 1) + random.normal(0, amount, (height, width))
    mosaic, seen_at = (torch.from_numpy(x.astype(np.float32))[:, None] for x in (noisy.clip(0, 255) * seen, seen))
    window = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])
    of_green = torch.tensor([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]])
    full = []
    for channel, kernel in enumerate((window, of_green, window)):
        total, weight = (F.conv2d(x[channel], kernel[None, None], padding=1) for x in (mosaic, seen_at))
        full.append(torch.where(seen_at[channel].bool(), mosaic[channel], total / weight))
    return to_8_bits(torch.cat(full).permute(1, 2, 0).numpy())


def chroma(picture: Pixels, amount: float, random: np.random.Generator) -> Pixels:
    """Keep colour (Cb, Cr) at one value for `amount`×`amount` pixels, as old video does, and enlarge it bilinearly."""
    luma, *colours = Image.fromarray(picture).convert("YCbCr").split()
    width, height = (max(1, -(-side // int(amount))) for side in luma.size)
    small = (colour.resize((width, height), Image.Resampling.BOX) for colour in colours)
    enlarged = [colour.resize(luma.size, Image.Resampling.BILINEAR) for colour in small]
    return np.asarray(Image.merge("YCbCr", [luma, *enlarged]).convert("RGB"), np.uint8)


def posterise(picture: Pixels, amount: float, random: np.random.Generator) -> Pixels:
    """Leave `amount` levels to each channel: bands in skies, as after strong edits."""
    steps = int(amount) - 1
    return to_8_bits(np.rint(picture / 255 * steps) / steps * 255)


def fringe(picture: Pixels, amount: float, random: np.random.Generator) -> Pixels:
    """A lens that enlarges red and shrinks blue: by `amount` pixels at the corners."""
    image = _tensor(picture)
    corner = math.hypot(*picture.shape[:2]) / 2
    shifted = []
    for channel, direction in enumerate((1, 0, -1)):
        zoom = 1 - direction * amount / corner  # of the place that a pixel is read from
        matrix = torch.tensor([[[zoom, 0, 0], [0, zoom, 0]]], dtype=image.dtype)
        grid = F.affine_grid(matrix, [1, 1, *picture.shape[:2]], align_corners=False)
        read = F.grid_sample(image[:, channel : channel + 1], grid, "bicubic", "border", align_corners=False)
        shifted.append(read)
    return _pixels(torch.cat(shifted, dim=1))


def gif(picture: Pixels, amount: float, random: np.random.Generator) -> Pixels:
    """Leave a palette of `amount` colours, chosen by median cut and dithered (Floyd and Steinberg), as GIF does."""
    image = Image.fromarray(picture)
    palette = image.quantize(int(amount), Image.Quantize.MEDIANCUT)
    return np.asarray(image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB"), np.uint8)


def to_8_bits(values: NDArray[np.floating]) -> Pixels:
    """Round and clip levels from 0 to 255."""
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _tensor(picture: Pixels) -> Tensor:
    """1×3×H×W, levels from 0 to 255."""
    return torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32))


def _pixels(image: Tensor) -> Pixels:
    return to_8_bits(image[0].permute(1, 2, 0).numpy())
