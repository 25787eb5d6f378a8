"""Print what `data.degradation` costs a crop, and write a sheet of crops: LR (pixels as squares) beside HR.

    python benchmarks/unseen_photos.py data/unseen
    python benchmarks/degradation.py data/unseen --sheet crops.png

The time is the processor time of one thread, for the LR side alone: without drawing, reading and cutting the crop.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from srflow_training.data import MARGIN, Crops, Photos, degrade, image_files, pairs_picture, read_photo, to_image
from srflow_training.settings import DataSettings

PRESETS = "photo", "strong"
SCALE = 4
SIDES = (20, 40)


def crops_like(preset: str) -> DataSettings:
    """Settings of batches of eight crops."""
    return DataSettings.model_validate({"crop": 160, "batch": 8, "choose_of": 3, "degradation": preset})


def milliseconds(photos: list[Path], preset: str, side: int, *, repeats: int = 210) -> float:
    """Mean time of one degradation of a photograph's corner."""
    settings = crops_like(preset).degradation
    size = SCALE * (side + 2 * MARGIN)
    windows = [to_image(read_photo(path)[:size, :size]) for path in photos]
    start = time.process_time()
    for seed in range(repeats):
        degrade(windows[seed % len(windows)], settings, scale=SCALE, rng=np.random.default_rng(seed))
    return 1000 * (time.process_time() - start) / repeats


def sheet(photos: Path) -> Image.Image:
    """Draw two columns of crops for each preset."""
    columns = []
    for name in PRESETS:
        data = crops_like(name)
        crops = Crops(Photos(photos, data, SCALE, print), data, scale=SCALE, seed=0, iterations=2)
        columns += [pairs_picture(crops[0]), pairs_picture(crops[1])]
    pixels = (torch.cat(columns, dim=2) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?", default=Path("data/unseen"), help="[default: data/unseen]")
    parser.add_argument("--sheet", type=Path, help="PNG to write: presets photo and strong, two columns each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for preset in PRESETS:
        for lr_side in SIDES:
            cost = milliseconds(image_files(options.photos), preset, lr_side)
            print(f"{preset}: {cost:.1f} ms a crop of {lr_side}×{lr_side} LR pixels, {8 * cost:.0f} ms a batch of 8")
    if options.sheet:
        sheet(options.photos).save(options.sheet)
