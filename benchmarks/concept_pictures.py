"""Draw the pictures of docs/concepts.md: the same crop at several τ, with several seeds, and where samples differ.

    python benchmarks/unseen_photos.py data/unseen
    python benchmarks/concept_pictures.py data/unseen -o docs/images/concepts

The photograph is reduced four times and enlarged again with the embedded model, which never saw it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from srflow_sdk import Upscaler

PHOTO, LEFT, TOP = "chelsea.png", 96, 44
SIDE, SCALE, ZOOM, CAPTION, GAP = 128, 4, 2, 18, 6
TAUS, SEEDS, SAMPLES = (0.0, 0.4, 0.8, 1.0), (0, 1, 2), 8


def row(pictures: dict[str, Image.Image]) -> Image.Image:
    """Pictures of one size side by side, enlarged pixel by pixel, with their captions below."""
    step = SIDE * ZOOM + GAP
    sheet = Image.new("RGB", (len(pictures) * step - GAP, SIDE * ZOOM + CAPTION), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (caption, picture) in enumerate(pictures.items()):
        sheet.paste(picture.resize((SIDE * ZOOM, SIDE * ZOOM), Image.Resampling.NEAREST), (number * step, 0))
        draw.text((number * step + 4, SIDE * ZOOM + 2), caption, fill="black", font_size=13)
    return sheet


def as_picture(std: np.ndarray) -> Image.Image:
    """A standard deviation, H×W×3 in [0, 1], as gray levels: white is 16 of 255 or more."""
    return Image.fromarray(np.uint8(np.clip(std.mean(-1) * 255 / 16, 0, 1) * 255)).convert("RGB")


def main(photos: Path, out: Path) -> None:
    """Write tau.jpg and samples.jpg."""
    with Image.open(photos / PHOTO) as opened:
        truth = opened.convert("RGB").crop((LEFT, TOP, LEFT + SIDE, TOP + SIDE))
    lr = truth.resize((SIDE // SCALE, SIDE // SCALE), Image.Resampling.BICUBIC)
    out.mkdir(parents=True, exist_ok=True)
    with Upscaler("x4-small") as upscaler:
        encoding = upscaler.encode(lr)
        by_tau = {f"tau {tau:g}": encoding.sample(tau=tau) for tau in TAUS}
        by_seed = {f"tau 0.9, seed {seed}": encoding.sample(tau=0.9, seed=seed) for seed in SEEDS}
        differences = {f"std({SAMPLES}) at tau 0.9": as_picture(encoding.std(SAMPLES, tau=0.9))}
    photo = lr.resize(truth.size, Image.Resampling.NEAREST)
    row({"the photo": photo, **by_tau, "the truth": truth}).save(out / "tau.jpg", quality=85)
    row({**by_seed, **differences}).save(out / "samples.jpg", quality=85)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?", default=Path("data/unseen"), help="[default: data/unseen]")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the pictures")
    arguments = parser.parse_args()
    main(arguments.photos, arguments.output)
