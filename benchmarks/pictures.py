"""Draw the pictures of README.md and docs/concepts.md, by x4-small.

    python benchmarks/unseen_photos.py data/unseen
    python benchmarks/pictures.py landing docs/images/demo.jpg
    python benchmarks/pictures.py concepts docs/images/concepts

landing: a detail enlarged four times, bicubic left, τ = 0.8 right. concepts: the same crop at
several τ, with several seeds, and where samples differ; and the squeeze as the network computes it,
where a number keeps its colour.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from srflow_sdk import Upscaler
from srflow_training.model.transforms import Squeeze

CAT = Path(__file__).parents[1] / "examples" / "photos" / "cat.png"
WHISKERS = (190, 425, 398, 575)  # left, top, right, bottom in the result
UNSEEN = Path("data/unseen/chelsea.png")
LEFT = 96
TOP = 44
SIDE = 128
SCALE = 4
ZOOM = 2
CAPTION = 18
GAP = 6
TAUS = (0.0, 0.4, 0.8, 1.0)
SEEDS = (0, 1, 2)
SAMPLES = 8
CELL = 34
COLOURS = ("#f4c7ab", "#b8d8be", "#b7cbe8", "#e6d3f0")


def row(pictures: dict[str, Image.Image]) -> Image.Image:
    """Pictures of one size side by side, enlarged pixel by pixel, with their captions below."""
    width, height = (ZOOM * side for side in next(iter(pictures.values())).size)
    captions = CAPTION if any(caption.strip() for caption in pictures) else 0
    sheet = Image.new("RGB", (len(pictures) * (width + GAP) - GAP, height + captions), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (caption, picture) in enumerate(pictures.items()):
        sheet.paste(
            picture.resize((width, height), Image.Resampling.NEAREST), (number * (width + GAP), 0)
        )
        draw.text(
            (number * (width + GAP) + 4, height + 2), caption.strip(), fill="black", font_size=13
        )
    return sheet


def landing(out: Path) -> None:
    """Write the picture of README.md."""
    with Image.open(CAT) as opened:
        photo = opened.convert("RGB")
    with Upscaler("x4-small") as upscaler:
        large = upscaler.upscale(photo, tau=0.8)
    bicubic = photo.resize(large.size, Image.Resampling.BICUBIC)
    row({"": bicubic.crop(WHISKERS), " ": large.crop(WHISKERS)}).save(out, quality=90)


def concepts(out: Path) -> None:
    """Write tau.jpg, samples.jpg and squeeze.svg."""
    with Image.open(UNSEEN) as opened:
        truth = opened.convert("RGB").crop((LEFT, TOP, LEFT + SIDE, TOP + SIDE))
    lr = truth.resize((SIDE // SCALE, SIDE // SCALE), Image.Resampling.BICUBIC)
    out.mkdir(parents=True, exist_ok=True)
    with Upscaler("x4-small") as upscaler:
        encoding = upscaler.encode(lr)
        by_tau = {f"tau {tau:g}": encoding.sample(tau=tau) for tau in TAUS}
        by_seed = {f"tau 0.9, seed {seed}": encoding.sample(tau=0.9, seed=seed) for seed in SEEDS}
        # white is 16 of 255 or more
        std = np.clip(encoding.std(SAMPLES, tau=0.9).mean(-1) * 255 / 16, 0, 1)
    by_seed[f"std({SAMPLES}) at tau 0.9"] = Image.fromarray(np.uint8(std * 255)).convert("RGB")
    photo = lr.resize(truth.size, Image.Resampling.NEAREST)
    row({"the photo": photo, **by_tau, "the truth": truth}).save(out / "tau.jpg", quality=85)
    row(by_seed).save(out / "samples.jpg", quality=85)
    (out / "squeeze.svg").write_text(draw_squeeze(), encoding="utf-8")


def draw_squeeze() -> str:
    """One channel of 4×4 pixels that becomes four of 2×2, as SVG."""
    before = torch.arange(16.0).reshape(1, 1, 4, 4)
    after = Squeeze().encode(before)[0]
    channel_of = {
        int(number): channel for channel in range(4) for number in after[0, channel].flatten()
    }

    def grid(values: torch.Tensor, left: int, top: int, title: str) -> list[str]:
        drawn = [f'<text x="{left}" y="{top - 10}">{title}</text>']
        for number, (y, x) in zip(
            values.int().flatten().tolist(), np.ndindex(values.shape), strict=True
        ):
            x = left + x * CELL
            y = top + y * CELL
            colour = COLOURS[channel_of[number]]
            drawn.append(
                f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{colour}" '
                'stroke="#555"/>'
            )
            drawn.append(
                f'<text x="{x + CELL // 2}" y="{y + 22}" text-anchor="middle">{number}</text>'
            )
        return drawn

    right = 4 * CELL + 100
    top = CELL
    arrow = (
        f'<path d="M {right - 80} {top + 2 * CELL} h 58 m -10 -7 l 10 7 l -10 7" fill="none" '
        'stroke="#555"/>'
    )
    drawn = [*grid(before[0, 0], 10, top, "one channel, 4×4"), arrow]
    drawn.append(
        f'<text x="{right - 52}" y="{top + 2 * CELL - 12}" text-anchor="middle">squeeze</text>'
    )
    for channel in range(4):
        drawn += grid(
            after[0, channel], right + channel * (2 * CELL + 22), top + CELL, f"channel {channel}"
        )
    width = right + 4 * (2 * CELL + 22)
    height = top + 4 * CELL + 10
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}"'
    )
    head += ' font-family="sans-serif" font-size="14">'
    return "\n".join(
        [head, '<rect width="100%" height="100%" fill="white"/>', *drawn, "</svg>", ""]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["landing", "concepts"])
    parser.add_argument("out", type=Path, help="the file, or the folder of concepts")
    options = parser.parse_args()
    {"landing": landing, "concepts": concepts}[options.what](options.out)
