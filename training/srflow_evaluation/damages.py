"""Damages of known kind and strength: what restoring gains, and what models make of them.

The first three kinds are the trainer's own functions, of which :func:`srflow_training.data.degrade`
draws random mixtures that end in an LR image. The kinds from `dots` on are what it never draws:
what cameras, lenses and old file formats do. A function takes pixels H×W×3 of 8 bits, an amount and
random numbers, and returns pixels of the same shape.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from srflow_sdk.errors import ArgumentError
from srflow_training.data import gaussian_blur, gaussian_noise, recompress
from srflow_training.resampling import mirror_pad

Pixels = NDArray[np.uint8]

KNOWN = (
    "jpeg:30",
    "jpeg:50",
    "jpeg:70",
    "jpeg:90",
    "noise:2",
    "noise:5",
    "noise:10",
    "noise:15",
    "blur:0.6",
    "noise:5+jpeg:60",
    "blur:0.5+noise:5+jpeg:50",
)
"""Kinds that the trainer's `data.degradation` draws, some stronger than it does."""

UNSEEN = (
    "motion:3",
    "speckle:10",
    "bayer:4",
    "dots:1",
    "chroma:4",
    "posterise:16",
    "fringe:1",
    "gif:64",
)
"""Kinds that the trainer never draws, one strength of each."""

CLEAN = "clean"
"""The name of no degradation at all."""


_SAMPLES_A_PIXEL = 8  # of a path that moves


@dataclass(frozen=True)
class Damage:
    """Kinds of damage and their amounts, one after the other; none leave the picture as it is."""

    steps: tuple[tuple[str, float], ...]

    @classmethod
    def parse(cls, text: str) -> Damage:
        """Parse "noise:5+jpeg:60", or "clean".

        Raises:
            ArgumentError: for kinds and amounts that do not exist.
        """
        if text == CLEAN:
            return cls(())
        return cls(tuple(_parse_step(part) for part in text.split("+")))

    def __str__(self) -> str:
        return "+".join(f"{kind}:{amount:g}" for kind, amount in self.steps) or CLEAN

    @property
    def folder(self) -> str:
        """A name for a folder: "noise-5_jpeg-60"."""
        return str(self).replace(":", "-").replace("+", "_")

    def of(self, picture: Pixels, random: Generator) -> Pixels:
        """A damaged copy of H×W×3 pixels, in 8 bits; all that is random comes from `random`."""
        damaged: Pixels = picture.copy()
        for kind, amount in self.steps:
            damaged = KINDS[kind].function(damaged, amount, random)
        return damaged


def _parse_step(text: str) -> tuple[str, float]:
    name, _, number = text.partition(":")
    try:
        amount = float(number)
    except ValueError:
        amount = math.nan
    if math.isnan(amount):
        raise ArgumentError(
            f"the degradation is {text!r:.60}; it must be KIND:AMOUNT, such as noise:20 or jpeg:30"
        )
    if name not in KINDS:
        raise ArgumentError(f"there is no degradation {name!r:.40}; there are {', '.join(KINDS)}")
    kind = KINDS[name]
    is_within = kind.least <= amount <= kind.most and amount > 0
    if not is_within or (kind.whole and amount % 1):
        limits = f"above 0, at most {kind.most:g}"
        if kind.least:
            limits = f"from {kind.least:g} to {kind.most:g}"
        if kind.whole:
            limits = f"a whole number {limits}"
        raise ArgumentError(
            f"the degradation is {name}:{amount:g}; the amount of {name} must be {limits}"
        )
    return name, amount


def generator_of(name: str) -> Generator:
    """The random numbers of a picture: by its name, whatever else is measured."""
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


@dataclass(frozen=True)
class _Kind:
    """A kind of damage.

    Attributes:
        function: pixels H×W×3, amount, random numbers → pixels.
        least, most: of the amount.
        whole: whether the amount must be.
    """

    function: Callable[[Pixels, float, Generator], Pixels]
    most: float
    least: float = 0
    whole: bool = False


def noise(picture: Pixels, amount: float, random: Generator) -> Pixels:
    """Gaussian, of this standard deviation in 8-bit levels."""
    image = _tensor(picture)
    return _pixels(image + gaussian_noise(image, amount, random))


def jpeg(picture: Pixels, amount: float, random: Generator) -> Pixels:
    """Save as JPEG of this quality."""
    return recompress(picture, "JPEG", quality=int(amount))


def blur(picture: Pixels, amount: float, random: Generator) -> Pixels:
    """By a Gaussian of this standard deviation in pixels, with mirrored borders."""
    margin = math.ceil(4 * amount)
    blurred = gaussian_blur(mirror_pad(_tensor(picture), margin), (amount, amount))
    return _pixels(blurred[..., margin:-margin, margin:-margin])


def dots(picture: Pixels, amount: float, random: Generator) -> Pixels:
    """Black and white pixels, as many of each, in this percentage of all."""
    place = random.random(picture.shape[:2])
    share = amount / 100
    dotted: Pixels = picture.copy()
    dotted[place < share / 2] = 0
    dotted[place > 1 - share / 2] = 255
    return dotted


def motion(picture: Pixels, amount: float, random: Generator) -> Pixels:
    """A camera that moved while it was open: a straight line, `amount` pixels, at any angle."""
    angle = random.uniform(0, math.pi)
    radius = math.ceil(amount / 2) + 1
    side = 2 * radius + 1
    kernel = torch.zeros(side, side)
    samples = math.ceil(amount * _SAMPLES_A_PIXEL) + 1
    for step in np.linspace(-amount / 2, amount / 2, samples):
        y = radius + step * math.sin(angle)
        x = radius + step * math.cos(angle)
        top = math.floor(y)
        left = math.floor(x)
        for row in (top, top + 1):
            for column in (left, left + 1):
                kernel[row, column] += (1 - abs(y - row)) * (1 - abs(x - column))
    channels = F.pad(_tensor(picture).transpose(0, 1), (radius,) * 4, "replicate")
    kernel = kernel / kernel.sum()
    blurred = F.conv2d(channels, kernel[None, None])
    return _pixels(blurred.transpose(0, 1))


def speckle(picture: Pixels, amount: float, random: Generator) -> Pixels:
    """Multiply each value by Gaussian noise around 1, as in radar and scans of film.

    Its deviation is `amount` percent.
    """
    factors = 1 + amount / 100 * random.standard_normal(picture.shape)
    return to_8_bits(picture * factors)


def bayer(picture: Pixels, amount: float, random: Generator) -> Pixels:
    """A sensor that sees one colour a pixel (RGGB), interpolated bilinearly.

    It has noise of deviation `amount`, which so is correlated between neighbours. There are
    coloured fringes along edges, and fine detail is lost.
    """
    # more than 15 locals: a sensor's steps, each of which needs the ones before
    height, width = picture.shape[:2]
    rows = np.arange(height)[:, None] % 2
    columns = np.arange(width)[None] % 2
    is_red = (rows == 0) & (columns == 0)
    is_blue = (rows == 1) & (columns == 1)
    colours = np.stack([is_red, rows != columns, is_blue]).astype(np.float32)
    noisy = picture.transpose(2, 0, 1) + random.normal(0, amount, (height, width))
    values = (noisy.clip(0, 255) * colours).astype(np.float32)
    mosaic = torch.from_numpy(values)[:, None]
    seen = torch.from_numpy(colours)[:, None]
    window = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])
    of_green = torch.tensor([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]])
    channels = []
    for kernel, value, where in zip((window, of_green, window), mosaic, seen, strict=True):
        total = F.conv2d(value, kernel[None, None], padding=1)
        weight = F.conv2d(where, kernel[None, None], padding=1)
        channels.append(torch.where(where.bool(), value, total / weight))
    return to_8_bits(torch.cat(channels).permute(1, 2, 0).numpy())


def chroma(picture: Pixels, amount: float, random: Generator) -> Pixels:
    """Keep colour (Cb, Cr) at one value for `amount`×`amount` pixels, as old video does.

    It is enlarged bilinearly.
    """
    luma, *colours = Image.fromarray(picture).convert("YCbCr").split()
    width, height = (max(1, -(-side // int(amount))) for side in luma.size)
    channels = [luma]
    for colour in colours:
        small = colour.resize((width, height), Image.Resampling.BOX)
        channels.append(small.resize(luma.size, Image.Resampling.BILINEAR))
    merged = Image.merge("YCbCr", channels)
    return np.asarray(merged.convert("RGB"), np.uint8)


def posterise(picture: Pixels, amount: float, random: Generator) -> Pixels:
    """Leave `amount` levels to each channel: bands in skies, as after strong edits."""
    steps = int(amount) - 1
    levels = np.rint(picture / 255 * steps)
    return to_8_bits(levels / steps * 255)


def fringe(picture: Pixels, amount: float, random: Generator) -> Pixels:
    """A lens that enlarges red and shrinks blue: by `amount` pixels at the corners."""
    image = _tensor(picture)
    corner = math.hypot(*picture.shape[:2]) / 2
    shifted = []
    for channel, direction in enumerate((1, 0, -1)):
        zoom = 1 - direction * amount / corner  # of the place that a pixel is read from
        matrix = torch.tensor([[[zoom, 0, 0], [0, zoom, 0]]], dtype=image.dtype)
        grid = F.affine_grid(matrix, [1, 1, *picture.shape[:2]], align_corners=False)
        shifted.append(
            F.grid_sample(
                image[:, channel : channel + 1],
                grid,
                mode="bicubic",
                padding_mode="border",
                align_corners=False,
            )
        )
    return _pixels(torch.cat(shifted, dim=1))


def gif(picture: Pixels, amount: float, random: Generator) -> Pixels:
    """Leave a palette of `amount` colours, as GIF does: median cut, dithered."""
    image = Image.fromarray(picture)
    palette = image.quantize(int(amount), Image.Quantize.MEDIANCUT)
    dithered = image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    return np.asarray(dithered.convert("RGB"), np.uint8)


def to_8_bits(values: NDArray[np.floating]) -> Pixels:
    """Round and clip levels from 0 to 255."""
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _tensor(picture: Pixels) -> Tensor:
    """1×3×H×W, levels from 0 to 255."""
    return torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32))


def _pixels(image: Tensor) -> Pixels:
    return to_8_bits(image[0].permute(1, 2, 0).numpy())


KINDS = {
    "noise": _Kind(noise, 255),
    "jpeg": _Kind(jpeg, 100, least=1, whole=True),
    "blur": _Kind(blur, 100),
    "dots": _Kind(dots, 100),
    "motion": _Kind(motion, 100),
    "speckle": _Kind(speckle, 100),
    "bayer": _Kind(bayer, 255),
    "chroma": _Kind(chroma, 32, least=2, whole=True),
    "posterise": _Kind(posterise, 255, least=2, whole=True),
    "fringe": _Kind(fringe, 20),
    "gif": _Kind(gif, 256, least=2, whole=True),
}
"""All kinds of degradation by name."""
