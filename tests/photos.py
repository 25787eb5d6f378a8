"""Photographs of a kind: coarse random colours, enlarged."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_photo(path: Path, height: int, width: int, *, seed: int = 0) -> None:
    shape = height // 6, width // 6, 3
    coarse = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)
