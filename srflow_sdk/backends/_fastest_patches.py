"""Two small photographs: reduced precision is compared with float32, and timed, on what users feed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk.drawing.tiles import padded_size

_FOLDER = Path(__file__).parent / "patches"
_NAMES = ("face.png", "sky.png")


def patches(multiple: int) -> list[NDArray[np.float32]]:
    """The photographs as LR images: float32 1×3×h×w in [0, 1], 32×32 or the next multiple of the size multiple.

    A synthetic image would promise too much: an embedded model in an earlier int8 kept 41.8 dB on waves, 39.8 to 42.2
    on seven photographs that it never saw, and 39.8 and 40.8 on these two.
    """
    found = []
    for name in _NAMES:
        with Image.open(_FOLDER / name) as image:
            pixels = np.asarray(image.convert("RGB"), np.float32) / 255
        height, width = pixels.shape[:2]
        missing = [padded_size(side, multiple) - side for side in (height, width)]
        padded = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        found.append(np.ascontiguousarray(padded.transpose(2, 0, 1)[None]))
    return found


def mosaic(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The photographs twice, as one image with doubled sides: closer to the tiles of real pictures for timing."""
    first, second = parts
    row = np.concatenate([first, second], axis=3)
    return np.concatenate([row, row[..., ::-1]], axis=2)
