"""Draw a model's results on photographs that it never saw, beside bicubic and the truth.

    python benchmarks/unseen_photos.py data/unseen
    python benchmarks/contact_sheet.py data/unseen -o contact_sheet.jpg [--model BUNDLE|CKPT]

Each row is a 128×128 crop at its own size, so that a page shows its pixels: from the photographs
above a face, lettering, fur, a building …, from others the most detailed crop. It is reduced
(MATLAB-bicubic, 8 bits) and enlarged again. An RRDB has one picture instead of samples. Values that
are not finite are magenta.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from srflow_evaluation import LevelTaus, Subject, open_subject
from srflow_evaluation.output import shown_pixels
from srflow_training.data import image_files, read_photo, to_image
from srflow_training.resampling import enlarge_bicubic, reduce_bicubic, round_to_8_bit

CROP = 128
CAPTION = 18
GAP = 4
SEEDS = (0, 1)
PLACES = {  # photograph: (what, top, left)
    "astronaut": (("face", 56, 160), ("lettering", 316, 108)),
    "chelsea": (("fur", 40, 130),),
    "china": (("architecture", 190, 90),),
    "coffee": (("wood", 270, 470),),
    "flower": (("petals", 150, 240),),
    "motorcycle_left": (("metal", 150, 370),),
    "rocket": (("lattice", 230, 0),),
}


def crops(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """A description and the crop, CROP×CROP×3 uint8, for each place."""
    photo = read_photo(path)
    for what, top, left in PLACES.get(path.stem, (("detail", *most_detailed_place(photo)),)):
        yield f"{path.stem}: {what}", photo[top : top + CROP, left : left + CROP]


def most_detailed_place(photo: np.ndarray) -> tuple[int, int]:
    """Top and left of the crop with the largest gradients, on a grid of half crops."""
    steps = [range(0, size - CROP + 1, CROP // 2) for size in photo.shape[:2]]
    places = [(top, left) for top in steps[0] for left in steps[1]]
    gradients = np.abs(np.diff(photo.astype(int), axis=0))
    return max(
        places,
        key=lambda place: gradients[place[0] : place[0] + CROP, place[1] : place[1] + CROP].mean(),
    )


def pictures(subject: Subject, truth: np.ndarray) -> dict[str, torch.Tensor]:
    """The row's images 1×3×H×W by caption."""
    hr = to_image(truth)
    lr = round_to_8_bit(reduce_bicubic(hr, subject.scale))
    images = {"LR": lr, "bicubic": enlarge_bicubic(lr, subject.scale)}
    if subject.encoder is not None:
        images["encoder"] = subject.encoder(lr)
    if subject.flow is not None:
        sample = subject.sampler(lr)
        images["tau 0"] = sample(LevelTaus((0.0,)), 0)
        images |= {
            f"tau {subject.default_tau}, seed {seed}": sample(subject.default_tau, seed)
            for seed in SEEDS
        }
    return {**images, "HR": hr}


@torch.no_grad()
def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", help="bundle or checkpoint; default: the embedded model")
    arguments = parser.parse_args()
    subject = open_subject(arguments.model)
    rows = [
        (what, pictures(subject, truth))
        for path in image_files(arguments.photos)
        for what, truth in crops(path)
    ]
    draw_sheet(rows).save(arguments.output, quality=92)
    print(arguments.output)


def draw_sheet(rows: list[tuple[str, dict[str, torch.Tensor]]]) -> Image.Image:
    """All rows, each image under its caption."""
    width = CROP + GAP
    height = CAPTION + CROP
    sheet = Image.new("RGB", (width * len(rows[0][1]) - GAP, height * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for line, (what, images) in enumerate(rows):
        for column, (caption, image) in enumerate(images.items()):
            label = what if caption == "LR" else caption
            draw.text((column * width + 2, line * height + 3), label, fill="black")
            pixels = shown_pixels(image).resize((CROP, CROP), Image.Resampling.NEAREST)
            sheet.paste(pixels, (column * width, line * height + CAPTION))
    return sheet


if __name__ == "__main__":
    main()
