"""Draw what a model makes of photographs that it never saw: LR, bicubic, τ = 0, two samples at τ = 0.8, the truth.

    python benchmarks/unseen_photos.py data/unseen
    python benchmarks/contact_sheet.py data/unseen -o docs/images/contact_sheet.jpg [--model BUNDLE]

Each row is the most detailed 128×128 crop of a photograph, reduced ×4 (MATLAB-bicubic, 8 bits) and enlarged again; the
tiles are drawn pixel by pixel.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from srflow_sdk import Upscaler
from srflow_training.data import image_files, read_photo
from srflow_training.resampling import enlarge_bicubic, reduce_bicubic, round_to_8_bit

CROP, ZOOM, CAPTION = 128, 2, 18
COLUMNS = ("LR", "bicubic", "tau 0", "tau 0.8, seed 0", "tau 0.8, seed 1", "truth")


def most_detailed_crop(photo: np.ndarray) -> np.ndarray:
    """The CROP×CROP part with the largest gradients, on a grid of half crops, H×W×3 uint8."""
    steps = [range(0, size - CROP + 1, CROP // 2) for size in photo.shape[:2]]
    crops = [photo[top : top + CROP, left : left + CROP] for top in steps[0] for left in steps[1]]
    return max(crops, key=lambda crop: np.abs(np.diff(crop.astype(int), axis=0)).mean())


def to_array(image: torch.Tensor) -> np.ndarray:
    """1×3×H×W in [0, 1] → H×W×3 uint8."""
    return (round_to_8_bit(image)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)


def row(upscaler: Upscaler, photo: np.ndarray) -> list[Image.Image]:
    """The pictures of one photograph, in the order of COLUMNS."""
    truth = most_detailed_crop(photo)
    hr = torch.from_numpy(truth.copy()).permute(2, 0, 1)[None].float() / 255
    reduced = round_to_8_bit(reduce_bicubic(hr, upscaler.scale))
    lr = to_array(reduced)
    samples = [upscaler.upscale(lr, tau=tau, seed=seed) for tau, seed in ((0.0, 0), (0.8, 0), (0.8, 1))]
    pictures = [lr, to_array(enlarge_bicubic(reduced, upscaler.scale)), *samples, truth]
    side = CROP * ZOOM
    return [Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST) for picture in pictures]


def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    with Upscaler(arguments.model, device="cpu") as upscaler:
        rows = [row(upscaler, read_photo(path)) for path in image_files(arguments.photos)]
    side = CROP * ZOOM
    sheet = Image.new("RGB", (side * len(COLUMNS), CAPTION + side * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, caption in enumerate(COLUMNS):
        draw.text((column * side + 4, 3), caption, fill="black")
        for line, pictures in enumerate(rows):
            sheet.paste(pictures[column], (column * side, CAPTION + line * side))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments.output, quality=88)
    print(arguments.output)


if __name__ == "__main__":
    main()
