"""How far pictures in reduced precision are from exact ones, and from themselves in other tiles.

python benchmarks/precision.py PHOTOS [--model BUNDLE]: the middle 128×112 pixels of each photograph, at the model's
default temperature as a number.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk import SRFlowError, Upscaler
from srflow_sdk.backends import ComputePrecision

TILES = (None, 48, 32)
WIDTH, HEIGHT = 128, 112


def middle(path: Path) -> NDArray[np.uint8]:
    """The middle of a photograph, uint8 H×W×3."""
    with Image.open(path) as image:
        left, top = (image.width - WIDTH) // 2, (image.height - HEIGHT) // 2
        return np.asarray(image.convert("RGB").crop((left, top, left + WIDTH, top + HEIGHT)))


def psnr(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """In dB, of values from 0 to 255."""
    error = float(np.mean((one - other) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="x4-small")
    chosen = parser.parse_args()
    photos = [middle(path) for path in sorted(chosen.photos.glob("*.png"))]
    exact: list[NDArray[np.float64]] = []
    print(f"{len(photos)} photographs of {WIDTH}×{HEIGHT}")
    print("| precision | device | PSNR to exact, dB: least, mean | tiles of 48 and 32 against one, /255: most, mean |")
    print("|---|---|---|---|")
    for precision in get_args(ComputePrecision):
        drawn = []
        try:
            for tile in TILES:
                with Upscaler(chosen.model, device="auto", tile=tile, precision=precision) as upscaler:
                    tau, device = upscaler.bundle.manifest.default_tau, upscaler.device
                    drawn.append([upscaler.upscale(photo, tau=tau).astype(np.float64) for photo in photos])
        except SRFlowError as error:
            why = str(error).split(";")[0].split(f"{chosen.model}.srflow ")[-1]  # without folders and advice
            print(f"| {precision} | none: {why} | | |")
            continue
        whole, *tiled = drawn
        exact = exact or whole
        decibels = [psnr(one, other) for one, other in zip(whole, exact, strict=True)]
        away = [np.abs(one - other) for pictures in tiled for one, other in zip(pictures, whole, strict=True)]
        most, mean = max(one.max() for one in away), np.mean([one.mean() for one in away])
        print(f"| {precision} | {device} | {min(decibels):.1f}, {np.mean(decibels):.1f} | {most:.0f}, {mean:.4f} |")


if __name__ == "__main__":
    main()
