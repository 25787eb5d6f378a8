"""Write pictures of many kinds, a folder for each, for `srflow-eval default-tau`.

    python benchmarks/kinds_of_content.py data/kinds

photographs: those of benchmarks/unseen_photos.py; noisy and night: the same with sensor noise, and
dark with more of it. The others are drawn: large-text, small-text and dark-text (a terminal),
line-art, and flat colours. The same versions of Pillow and numpy give the same pictures.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import unseen_photos
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIDE = 512
WORDS = (
    "sphinx",
    "of",
    "black",
    "quartz",
    "judge",
    "my",
    "vow",
    "0123456789",
    "five",
    "dozen",
    "jugs",
)
FINE = 4  # lines are drawn this much larger and reduced, because Pillow's have no anti-aliasing


def draw_text(rng: random.Random, size: int, ink: str, paper: str) -> Image.Image:
    """A page of random words."""
    page = Image.new("RGB", (SIDE, SIDE), paper)
    font = ImageFont.load_default(size)
    for top in range(8, SIDE, round(1.4 * size)):
        ImageDraw.Draw(page).text((8, top), " ".join(rng.choices(WORDS, k=16)), ink, font)
    return page


def draw_lines(rng: random.Random) -> Image.Image:
    """Lines and circles, a pixel to six wide."""
    page = Image.new("RGB", (SIDE * FINE, SIDE * FINE), "white")
    draw = ImageDraw.Draw(page)
    for _ in range(14):
        ends = [rng.randrange(SIDE * FINE) for _ in range(4)]
        draw.line(
            ends, rng.choice(("black", "navy", "darkred", "teal")), rng.randrange(FINE, 6 * FINE)
        )
        x = rng.randrange(SIDE * FINE)
        y = rng.randrange(SIDE * FINE)
        radius = rng.randrange(100, 600)
        circle = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(
            circle, None, rng.choice(("black", "purple", "green")), rng.randrange(FINE, 6 * FINE)
        )
    return page.resize((SIDE, SIDE), Image.Resampling.BOX)


def draw_flat_areas(rng: random.Random) -> Image.Image:
    """Four areas of one colour each, the first of them white."""
    page = Image.new("RGB", (SIDE, SIDE), "white")
    for left, top in ((256, 0), (0, 256), (256, 256)):
        page.paste(
            (rng.randrange(256), rng.randrange(256), rng.randrange(256)),
            (left, top, left + 256, top + 256),
        )
    return page


def with_noise(photo: NDArray[np.uint8], *, light: float, deviation: float) -> Image.Image:
    """A photograph at a part of its light, with normal noise, in 8-bit levels."""
    noise = np.random.default_rng(0).normal(0, deviation, photo.shape)
    return Image.fromarray(np.clip(np.rint(light * photo + noise), 0, 255).astype(np.uint8))


DRAWN: dict[str, Callable[[random.Random], Image.Image]] = {
    "large-text": lambda rng: draw_text(rng, rng.choice((56, 72, 96)), "black", "white"),
    "small-text": lambda rng: draw_text(rng, rng.choice((14, 18, 24)), "black", "white"),
    "dark-text": lambda rng: draw_text(rng, rng.choice((16, 20, 28)), "#dcdcdc", "#1e1e24"),
    "line-art": draw_lines,
    "flat": draw_flat_areas,
}


def main(folder: Path) -> None:
    """Write all kinds."""
    unseen_photos.main(folder / "photographs")
    for kind, light, deviation in (("noisy", 1.0, 8.0), ("night", 0.15, 4.0)):
        (folder / kind).mkdir(exist_ok=True)
        for path in sorted((folder / "photographs").glob("*.png")):
            with Image.open(path) as photo:
                with_noise(np.asarray(photo), light=light, deviation=deviation).save(
                    folder / kind / path.name
                )
    for kind, drawn in DRAWN.items():
        (folder / kind).mkdir(exist_ok=True)
        for number in range(2):
            drawn(random.Random(f"{kind} {number}")).save(folder / kind / f"{number}.png")
    print(f"{len(DRAWN) + 3} kinds in {folder}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("data/kinds"), help="[default: data/kinds]"
    )
    main(parser.parse_args().folder)
