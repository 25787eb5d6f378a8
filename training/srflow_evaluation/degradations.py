"""Degradations of known kind and strength, for measuring what restoring gains, and what models make of damage.

Those of training, :func:`srflow_training.data.degrade`, are others: random mixtures that end in an LR image.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from srflow_evaluation import damages
from srflow_sdk.errors import ArgumentError
from srflow_training.data import coded

Pixels = NDArray[np.uint8]

KNOWN = (
    *("jpeg:30", "jpeg:50", "jpeg:70", "jpeg:90", "noise:2", "noise:5", "noise:10", "noise:15", "blur:0.6"),
    *("noise:5+jpeg:60", "blur:0.5+noise:5+jpeg:50"),
)
"""Kinds that the trainer's `data.degradation` draws, some stronger than it does."""

UNSEEN = ("motion:3", "speckle:10", "bayer:4", "dots:1", "chroma:4", "posterise:16", "fringe:1", "gif:64")
"""Kinds that the trainer never draws, one strength of each."""

CLEAN = "clean"
"""The name of no degradation at all."""


@dataclass(frozen=True)
class Degradation:
    """kind: one of `KINDS`. amount: its strength.

    noise: Gaussian, of this standard deviation in 8-bit levels. jpeg: Pillow's, of this quality. blur: Pillow's
    Gaussian, of this standard deviation in pixels. dots: black and white pixels, as many of each, in this percentage of
    all. The others are those of :mod:`srflow_evaluation.damages`. Results are clipped and rounded to 8 bits.

    Raises: ArgumentError for kinds and amounts that do not exist.
    """

    kind: str
    amount: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ArgumentError(f"there is no degradation {self.kind!r:.40}; there are {', '.join(KINDS)}")
        kind = KINDS[self.kind]
        fits = kind.least <= self.amount <= kind.most and self.amount > 0
        if not fits or (kind.whole and self.amount % 1):
            limits = f"from {kind.least:g} to {kind.most:g}" if kind.least else f"above 0, at most {kind.most:g}"
            limits = f"a whole number {limits}" if kind.whole else limits
            raise ArgumentError(f"the degradation is {self}; the amount of {self.kind} must be {limits}")

    @classmethod
    def parse(cls, text: str) -> Degradation:
        """Parse "noise:20". Raises: ArgumentError."""
        kind, _, amount = text.partition(":")
        try:
            number = float(amount)
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise ArgumentError(f"the degradation is {text!r:.60}; it must be KIND:AMOUNT, such as noise:20 or jpeg:30")
        return cls(kind, number)

    def __str__(self) -> str:
        return f"{self.kind}:{self.amount:g}"

    def of(self, picture: Pixels, random: np.random.Generator) -> Pixels:
        """A degraded copy of H×W×3 pixels; all that is random comes from `random`."""
        degraded: Pixels = KINDS[self.kind].function(picture, self.amount, random)
        return degraded


@dataclass(frozen=True)
class Damage:
    """Degradations one after the other; none of them: the picture as it is."""

    steps: tuple[Degradation, ...]

    @classmethod
    def parse(cls, text: str) -> Damage:
        """Parse "noise:5+jpeg:60", or "clean". Raises: ArgumentError."""
        return cls(() if text == CLEAN else tuple(Degradation.parse(part) for part in text.split("+")))

    def __str__(self) -> str:
        return "+".join(str(step) for step in self.steps) or CLEAN

    @property
    def folder(self) -> str:
        """A name for a folder: "noise-5_jpeg-60"."""
        return str(self).replace(":", "-").replace("+", "_")

    def of(self, picture: Pixels, random: np.random.Generator) -> Pixels:
        """A degraded copy of H×W×3 pixels; all that is random comes from `random`."""
        degraded: Pixels = picture.copy()
        for step in self.steps:
            degraded = step.of(degraded, random)
        return degraded


def generator_of(name: str) -> np.random.Generator:
    """The random numbers of a picture: by its name, so that they do not depend on what else is measured."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))


@dataclass(frozen=True)
class _Kind:
    """function: pixels H×W×3, amount, random numbers → pixels. least, most: of the amount. whole: whether it is."""

    function: Callable[[Pixels, float, np.random.Generator], Pixels]
    most: float
    least: float = 0
    whole: bool = False


def _noise(picture: Pixels, amount: float, random: np.random.Generator) -> Pixels:
    return damages.to_8_bits(picture + random.normal(0, amount, picture.shape))


def _jpeg(picture: Pixels, amount: float, random: np.random.Generator) -> Pixels:
    return coded(picture, "JPEG", quality=int(amount))


def _blur(picture: Pixels, amount: float, random: np.random.Generator) -> Pixels:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(amount)), np.uint8)


def _dots(picture: Pixels, amount: float, random: np.random.Generator) -> Pixels:
    place, share = random.random(picture.shape[:2]), amount / 100
    dotted: Pixels = picture.copy()
    dotted[place < share / 2] = 0
    dotted[place > 1 - share / 2] = 255
    return dotted


KINDS = {
    "noise": _Kind(_noise, 255),
    "jpeg": _Kind(_jpeg, 100, least=1, whole=True),
    "blur": _Kind(_blur, 100),
    "dots": _Kind(_dots, 100),
    "motion": _Kind(damages.motion, 100),
    "speckle": _Kind(damages.speckle, 100),
    "bayer": _Kind(damages.bayer, 255),
    "chroma": _Kind(damages.chroma, 32, least=2, whole=True),
    "posterise": _Kind(damages.posterise, 255, least=2, whole=True),
    "fringe": _Kind(damages.fringe, 20),
    "gif": _Kind(damages.gif, 256, least=2, whole=True),
}
"""All kinds of degradation by name."""
