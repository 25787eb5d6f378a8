"""Pictures that are unlike photographs, each made from one: what a flow does with what it was not trained for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from srflow_sdk.model.manifest import Reduction
from srflow_training.data import to_image
from srflow_training.resampling import REDUCTIONS, enlarge_bicubic, round_to_8_bit

_FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
_TRAINING_NOISE = 4 / 3**0.5 / 255  # what training adds by default
_LETTERS = "aaabcdeeeefghiijklmnnooprrsstttuuvwy"


def odd_inputs(scale: int, reduction: Reduction) -> Mapping[str, Callable[[Tensor, str], Tensor]]:
    """By name, what makes a picture from a photograph and its name: 1×3×H×W, 8-bit levels in [0, 1].

    The same for every call. scale, reduction: of the model.
    """
    return {
        "with training's noise": _with_noise,
        "upside down": lambda hr, _: hr.flip(2),
        "blurred": lambda hr, _: round_to_8_bit(enlarge_bicubic(REDUCTIONS[reduction](hr, scale), scale)),
        "constant": lambda hr, _: round_to_8_bit(hr.mean(dim=(2, 3), keepdim=True)).expand_as(hr).contiguous(),
        "shuffled pixels": _shuffled,
        "text": _text,
        "line art": _line_art,
    }


def _generator(name: str) -> np.random.Generator:
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


def _with_noise(hr: Tensor, name: str) -> Tensor:
    noise = _generator(name).standard_normal(hr.shape, np.float32)
    return round_to_8_bit(hr + _TRAINING_NOISE * torch.from_numpy(noise))


def _shuffled(hr: Tensor, name: str) -> Tensor:
    """The photograph's pixels in random order: noise with its colours."""
    order = torch.from_numpy(_generator(name).permutation(hr.shape[2] * hr.shape[3]))
    return hr.flatten(2)[..., order].reshape(hr.shape)


def _text(hr: Tensor, name: str) -> Tensor:
    """Lines of words in black on white."""
    page, random = _page(hr), _generator(name)
    draw, size = ImageDraw.Draw(page), int(random.integers(11, 20))
    font = ImageFont.truetype(_FONT, size)
    for top in range(2, page.height, size + 4):
        words = ("".join(random.choice(list(_LETTERS), random.integers(1, 11))) for _ in range(page.width // 20 + 1))
        draw.text((4, top), " ".join(words), "black", font)
    return to_image(np.asarray(page))


def _line_art(hr: Tensor, name: str) -> Tensor:
    """Straight lines and circles in black on white, with soft edges."""
    page, random = _page(hr, zoom=4), _generator(name)
    draw = ImageDraw.Draw(page)
    for _ in range(12):
        x, y, end_x, end_y = (int(random.integers(0, side)) for side in (page.width, page.height) * 2)
        radius, thickness = int(random.integers(20, 300)), int(random.integers(4, 12))
        draw.line((x, y, end_x, end_y), "black", thickness)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline="black", width=thickness)
    small = page.resize((hr.shape[3], hr.shape[2]), Image.Resampling.BOX)
    return to_image(np.asarray(small))


def _page(hr: Tensor, *, zoom: int = 1) -> Image.Image:
    return Image.new("RGB", (zoom * hr.shape[3], zoom * hr.shape[2]), "white")
