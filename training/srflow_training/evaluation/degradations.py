"""Degradations of known kind and strength, for measuring what restoring gains.

Those of training, :func:`srflow_training.data.degrade`, are others: random mixtures that end in an LR image.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from srflow_sdk.errors import ArgumentError
from srflow_training.data import coded

Pixels = NDArray[np.uint8]

_MOST = {"noise": 255.0, "jpeg": 100.0, "blur": 100.0, "dots": 100.0}


@dataclass(frozen=True)
class Degradation:
    """kind: noise, jpeg, blur or dots. amount: its strength.

    noise: Gaussian, of this standard deviation in 8-bit levels; clipped and rounded to 8 bits. jpeg: Pillow's, of this
    quality. blur: Pillow's Gaussian, of this standard deviation in pixels. dots: black and white pixels, as many of
    each, in this percentage of all.

    Raises: ArgumentError for kinds and amounts that do not exist.
    """

    kind: str
    amount: float

    def __post_init__(self) -> None:
        if self.kind not in _MOST:
            raise ArgumentError(f"there is no degradation {self.kind!r:.40}; there are {', '.join(_MOST)}")
        most = _MOST[self.kind]
        if not 0 < self.amount <= most or (self.kind == "jpeg" and self.amount % 1):
            limits = f"a whole number from 1 to {most:g}" if self.kind == "jpeg" else f"above 0, at most {most:g}"
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
        if self.kind == "noise":
            noisy = np.rint(picture + random.normal(0, self.amount, picture.shape))
            return np.asarray(np.clip(noisy, 0, 255), np.uint8)
        if self.kind == "jpeg":
            return coded(picture, "JPEG", quality=int(self.amount))
        if self.kind == "blur":
            return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(self.amount)), np.uint8)
        place, share = random.random(picture.shape[:2]), self.amount / 100
        dotted: Pixels = picture.copy()
        dotted[place < share / 2] = 0
        dotted[place > 1 - share / 2] = 255
        return dotted


def generator_of(name: str) -> np.random.Generator:
    """The random numbers of a picture: by its name, so that they do not depend on what else is measured."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
