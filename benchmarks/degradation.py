"""Print what `data.degradation` costs a crop, and write a sheet of crops: LR (pixels as squares) beside HR.

    python benchmarks/unseen_photos.py data/unseen
    python benchmarks/degradation.py data/unseen --sheet crops.png

The time is that of one thread, for the LR side alone: without drawing, reading and cutting the crop.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from srflow_training._degradation_settings import PRESETS, Degradation
from srflow_training._pairs import pairs_picture
from srflow_training.data import MARGIN, Crops, Photos, degrade
from srflow_training.settings import DataSettings

SCALE = 4
SIDES = (20, 40)
HALVES = slice(0, 8), slice(8, 16)


def milliseconds(settings: Degradation, side: int, *, repeats: int = 200) -> float:
    """Mean time of one crop's degradation."""
    window = torch.rand(1, 3, *[SCALE * (side + 2 * MARGIN)] * 2)
    start = time.perf_counter()
    for seed in range(repeats):
        degrade(window, settings, scale=SCALE, rng=np.random.default_rng(seed))
    return 1000 * (time.perf_counter() - start) / repeats


def sheet(photos: Path) -> Image.Image:
    """Draw two columns of crops for each preset."""
    columns = []
    for name in PRESETS:
        data = DataSettings.model_validate({"crop": 160, "batch": 16, "choose_of": 3, "degradation": name})
        batch = Crops(Photos(photos, data, SCALE, print), data, scale=SCALE, seed=0, iterations=1)[0]
        columns += [pairs_picture(batch._replace(hr=batch.hr[part], lr=batch.lr[part])) for part in HALVES]
    pixels = (torch.cat(columns, dim=2) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?", default=Path("data/unseen"), help="[default: data/unseen]")
    parser.add_argument("--sheet", type=Path, help="PNG to write: presets photo and strong, two columns each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for preset, fields in PRESETS.items():
        for lr_side in SIDES:
            cost = milliseconds(Degradation.model_validate(fields), lr_side)
            print(f"{preset}: {cost:.1f} ms a crop of {lr_side}×{lr_side} LR pixels, {8 * cost:.0f} ms a batch of 8")
    if options.sheet:
        sheet(options.photos).save(options.sheet)
