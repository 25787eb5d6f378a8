"""Transfer content between photographs in every way, and put the results side by side.

`srflow-eval transfer` measures one way on any photographs; this one every way on four chosen pairs.

    python benchmarks/unseen_photos.py data/unseen
    python benchmarks/transfer.py data/unseen -o docs/images/transfer

For each pair a sheet: target, source and mask, then the mask's surroundings enlarged: pasted,
blended in the gradient domain (the picture that blend="gradient" starts from), blend="gradient"
with the default temperature and with 0.9 on all levels, blend="none". The last pair is a picture
upscaled at tau=0 and the photograph that it was reduced from, with their common LR image. Printed
for each: seam and detail, as `srflow-eval transfer` has them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from srflow_evaluation.transfer import detail, grow, seam
from srflow_sdk import Upscaler

SIDE = 320
LARGE = 240  # the side of a view of the mask's surroundings
Array = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Pair:
    """Two pictures, the mask, and the LR image if the target was upscaled."""

    name: str
    target: Array
    source: Array
    mask: Mask
    lr: Array | None = None


def photo(folder: Path, name: str, left: int, top: int, height: int = SIDE) -> Array:
    """A crop of a photograph, SIDE pixels wide, whose last rows and columns are repeated."""
    with Image.open(folder / f"{name}.png") as image:
        rgb = np.asarray(image.convert("RGB"))
    rows = np.clip(np.arange(top, top + height), 0, rgb.shape[0] - 1)
    columns = np.clip(np.arange(left, left + SIDE), 0, rgb.shape[1] - 1)
    return rgb[rows][:, columns]


def ellipse(x: int, y: int, width: int, height: int, *, rows: int = SIDE) -> Mask:
    """An ellipse around a point with these half axes."""
    row, column = np.mgrid[:rows, :SIDE]
    inside: Mask = ((column - x) / width) ** 2 + ((row - y) / height) ** 2 < 1
    return inside


def pairs(folder: Path, upscaler: Upscaler) -> Iterator[Pair]:
    """Three pairs of unrelated photographs, and one that agrees at LR size."""
    flower, eye, coffee = (
        photo(folder, *where)
        for where in (("flower", 150, 75), ("chelsea", 80, 0), ("coffee", 0, 80))
    )
    yield Pair("eye", flower, eye, ellipse(90, 112, 45, 40))
    yield Pair("badge", coffee, photo(folder, "astronaut", 40, 222), ellipse(130, 170, 45, 45))
    mast = ellipse(135, 100, 34, 95)
    mast[180:] = False
    yield Pair("mast", photo(folder, "china", 320, 107), photo(folder, "rocket", 60, 67), mast)
    cat = photo(folder, "chelsea", 80, 0, 300)
    size = SIDE // upscaler.scale, 300 // upscaler.scale
    lr = np.asarray(Image.fromarray(cat).resize(size, Image.Resampling.BICUBIC))
    eyes = ellipse(90, 112, 50, 45, rows=300) | ellipse(238, 133, 40, 40, rows=300)
    yield Pair("eyes", upscaler.upscale(lr, tau=0), cat, eyes, lr)


def results(pair: Pair, upscaler: Upscaler) -> dict[str, Array]:
    """The pasted picture, and every way to transfer."""
    given = (pair.target, pair.source, pair.mask, pair.lr)
    return {
        "pasted": np.where(pair.mask[..., None], pair.source, pair.target),
        "blended alone": upscaler.transfer(*given, tau={}),
        "gradient": upscaler.transfer(*given),
        "gradient, tau 0.9": upscaler.transfer(*given, tau=0.9),
        "none": upscaler.transfer(*given, blend="none"),
    }


def sheet(pair: Pair, made: dict[str, Array]) -> Image.Image:
    """Everything in a row, with names."""
    rows, columns = np.nonzero(pair.mask)
    side = max(np.ptp(rows), np.ptp(columns)) + 40
    top = int(np.clip((rows.min() + rows.max() - side) // 2, 0, max(pair.mask.shape[0] - side, 0)))
    left = int(
        np.clip((columns.min() + columns.max() - side) // 2, 0, max(pair.mask.shape[1] - side, 0))
    )
    box = (left, top, left + side, min(top + side, pair.mask.shape[0]))
    outlined = pair.source.copy()
    outlined[grow(pair.mask, 1) & ~pair.mask] = 255
    views = {
        "target": Image.fromarray(pair.target),
        "source, mask outlined": Image.fromarray(outlined),
    }
    views |= {name: Image.fromarray(picture).crop(box) for name, picture in made.items()}
    result = Image.new("RGB", (LARGE * len(views), LARGE + 14), "white")
    for number, (name, view) in enumerate(views.items()):
        large = view.resize((LARGE, LARGE * view.height // view.width), Image.Resampling.BICUBIC)
        result.paste(large.crop((0, 0, LARGE, LARGE)), (number * LARGE, 14))
        ImageDraw.Draw(result).text((number * LARGE + 4, 1), name, fill="black")
    return result


def main() -> None:
    """Print the measures, and write the sheets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what benchmarks/unseen_photos.py wrote")
    parser.add_argument("-o", "--output", type=Path, help="folder for the sheets")
    parser.add_argument(
        "--model", default="x4-small", help="a bundle with an inverter  [default: x4-small]"
    )
    options = parser.parse_args()
    print("| pair | way | seam (1: none) | detail (1: the source's) |\n|---|---|---|---|")
    with Upscaler(options.model) as upscaler:
        for pair in pairs(options.folder, upscaler):
            made = results(pair, upscaler)
            for name, picture in made.items():
                figures = seam(picture, pair.mask), detail(picture, pair.source, pair.mask)
                print(
                    f"| {pair.name} | {name} | "
                    f"{' | '.join(f'{figure:.2f}' for figure in figures)} |",
                    flush=True,
                )
            if options.output is not None:
                options.output.mkdir(parents=True, exist_ok=True)
                sheet(pair, made).save(options.output / f"{pair.name}.jpg", quality=90)


if __name__ == "__main__":
    main()
