"""Measure the regular grid in a model's pictures: energy at the frequencies of 4 pixels.

    python benchmarks/unseen_photos.py data/unseen
    python benchmarks/grid_artefacts.py data/unseen [--model BUNDLE|CKPT]

Each 256×256 crop is reduced (MATLAB-bicubic, 8 bits) and enlarged by 4; its grey image is windowed
and transformed, and the energy around the multiples of 1/4 cycle a pixel is divided by that of the
frequencies around them. Photographs give about 1. It prints the median over crops and frequencies.
An RRDB has one line.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torch import Tensor

from srflow_evaluation import LevelTaus, crops_of, open_subject
from srflow_training.resampling import reduce_bicubic, round_to_8_bit

GRID = [(row, column) for row in (0, 1, 2) for column in (0, 1, 2) if (row, column) != (0, 0)]
# in frequencies: of a peak, of the window's own spread, of the surroundings
PEAK = 1
WINDOW = 3
FAR = 6


def measure_energies(image: Tensor) -> list[float]:
    """For each frequency of the grid, its energy beside that around it. image: 1×3×H×W."""
    grey = image.detach()[0].mean(dim=0).double().numpy()
    height, width = grey.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    energy = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2
    near = np.arange(-FAR, FAR + 1)
    ratios = []
    for row, column in GRID:
        rows = row * height // 4 + near
        columns = column * width // 4 + near
        around = energy[np.ix_(rows % height, columns % width)]
        distance = np.maximum(*np.abs(np.mgrid[-FAR : FAR + 1, -FAR : FAR + 1]))
        ratios.append(float(around[distance <= PEAK].mean() / around[distance > WINDOW].mean()))
    return ratios


def median_energy(images: Iterable[Tensor]) -> float:
    """The median of `energies` over images and frequencies."""
    return float(np.median([measure_energies(image.clamp(0, 1)) for image in images]))


def main() -> None:
    """Print one line for the photographs, one for the LR encoder, and one for each temperature."""
    parser = argparse.ArgumentParser(description="Grid artefacts of a model.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model")
    options = parser.parse_args()
    crops = crops_of(options.photos)
    print(f"photographs: {median_energy(crops):.2f}")
    subject = open_subject(options.model)
    lrs = [round_to_8_bit(reduce_bicubic(crop, subject.scale)) for crop in crops]
    if subject.encoder is not None:
        print(f"LR encoder: {median_energy(map(subject.encoder, lrs)):.2f}")
    for tau in (LevelTaus((0.0,)), LevelTaus((0.8,))) if subject.flow is not None else ():
        print(f"tau {tau}: {median_energy(subject.sampler(lr)(tau, 0) for lr in lrs):.2f}")


if __name__ == "__main__":
    main()
