"""Transfer content between photographs in every way, and put the results side by side.

`srflow-eval transfer` measures one way on any photographs; this one every way on four chosen pairs, with their
likelihood, and how far decoding reaches.

    python benchmarks/unseen_photos.py data/unseen
    python benchmarks/transfer.py data/unseen -o docs/images/transfer
    python benchmarks/transfer.py data/unseen --reach     # how far outside the mask decoding changes the picture

For each pair a sheet: target, source and mask, then the mask's surroundings enlarged: pasted, blended in the gradient
domain (the picture that blend="gradient" starts from), blend="gradient" with the default temperature and with 0.9 on
all levels, blend="none". The last pair is a picture upscaled at tau=0 and the photograph that it was reduced from, with
their common LR image.

Printed for each: bits per dimension of the picture given its own reduction (lower is likelier), the seam (mean
difference of neighbours across the mask's edge, divided by that of neighbours up to three pixels from it; 1 is no
seam), and detail (mean difference of neighbours inside the mask, divided by the source's).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from srflow_evaluation.transfer import detail, grown, seam
from srflow_sdk import Upscaler

SIDE = 320
LARGE = 240  # the side of a view of the mask's surroundings
QUALITY = 90
Array = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two pictures, the mask, where to look, and the LR image if the target was upscaled."""

    name: str
    target: Array
    source: Array
    mask: Mask
    lr: Array | None = None


def photo(folder: Path, name: str, left: int, top: int, width: int = SIDE, height: int = SIDE) -> Array:
    """A crop of a photograph. Beyond the photograph, its last rows and columns are repeated."""
    with Image.open(folder / f"{name}.png") as image:
        rgb = np.asarray(image.convert("RGB"))
    rows = np.clip(np.arange(top, top + height), 0, rgb.shape[0] - 1)
    columns = np.clip(np.arange(left, left + width), 0, rgb.shape[1] - 1)
    return rgb[rows][:, columns]


def ellipse(x: int, y: int, width: int, height: int, *, size: tuple[int, int] = (SIDE, SIDE)) -> Mask:
    """An ellipse around a point with these half axes."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    inside: Mask = ((columns - x) / width) ** 2 + ((rows - y) / height) ** 2 < 1
    return inside


def pairs(folder: Path, upscaler: Upscaler) -> Iterator[Pair]:
    """Three pairs of unrelated photographs, and one that agrees at LR size."""
    yield Pair(
        name="eye",
        target=photo(folder, "flower", 150, 75),
        source=photo(folder, "chelsea", 80, 0),
        mask=ellipse(90, 112, 45, 40),
    )
    yield Pair(
        name="badge",
        target=photo(folder, "coffee", 0, 80),
        source=photo(folder, "astronaut", 40, 222),
        mask=ellipse(130, 170, 45, 45),
    )
    mast = ellipse(135, 100, 34, 95)
    mast[180:] = False
    yield Pair(name="mast", target=photo(folder, "china", 320, 107), source=photo(folder, "rocket", 60, 67), mask=mast)
    cat = photo(folder, "chelsea", 80, 0, SIDE, 300)
    size = SIDE // upscaler.scale, 300 // upscaler.scale
    lr = np.asarray(Image.fromarray(cat).resize(size, Image.Resampling.BICUBIC))
    eyes = ellipse(90, 112, 50, 45, size=(300, SIDE)) | ellipse(238, 133, 40, 40, size=(300, SIDE))
    yield Pair(name="eyes", target=upscaler.upscale(lr, tau=0), source=cat, mask=eyes, lr=lr)


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


def bits(picture: Array, upscaler: Upscaler) -> float:
    """Bits per dimension of 8-bit levels."""
    return -upscaler.log_likelihood(picture) / (picture.size * np.log(2)) + 8


def sheet(pair: Pair, made: dict[str, Array]) -> Image.Image:
    """Everything in a row, with names."""
    rows, columns = np.nonzero(pair.mask)
    side = max(np.ptp(rows), np.ptp(columns)) + 40
    top = int(np.clip((rows.min() + rows.max() - side) // 2, 0, max(pair.mask.shape[0] - side, 0)))
    left = int(np.clip((columns.min() + columns.max() - side) // 2, 0, max(pair.mask.shape[1] - side, 0)))
    box = (left, top, left + side, min(top + side, pair.mask.shape[0]))
    outlined = pair.source.copy()
    outlined[grown(pair.mask, 1) & ~pair.mask] = 255
    views = {"target": Image.fromarray(pair.target), "source, mask outlined": Image.fromarray(outlined)}
    views |= {name: Image.fromarray(picture).crop(box) for name, picture in made.items()}
    result = Image.new("RGB", (LARGE * len(views), LARGE + 14), "white")
    for number, (name, view) in enumerate(views.items()):
        large = view.resize((LARGE, LARGE * view.height // view.width), Image.Resampling.BICUBIC)
        result.paste(large.crop((0, 0, LARGE, LARGE)), (number * LARGE, 14))
        ImageDraw.Draw(result).text((number * LARGE + 4, 1), name, fill="black")
    return result


def reach(pair: Pair, upscaler: Upscaler) -> list[float]:
    """The mean change, in 8-bit steps, of pixels 1, 2, … outside of the mask when latents inside it are normalised.

    Computed with the public methods, so nothing is faded out: what :meth:`Upscaler.transfer` would have to hide.
    """
    blended = upscaler.transfer(pair.target, pair.source, pair.mask, tau={})
    size = pair.target.shape[1] // upscaler.scale, pair.target.shape[0] // upscaler.scale
    lr = np.asarray(Image.fromarray(blended).resize(size, Image.Resampling.BICUBIC))
    encoding = upscaler.encode(lr)
    latents = encoding.invert(blended)
    decoded = encoding.decode(latents.normalised({1: 0.8}, over="local", where=pair.mask)).astype(np.float64)
    change = np.abs(decoded - blended).mean(axis=2)
    return [float(change[grown(pair.mask, k) & ~grown(pair.mask, k - 1)].mean()) for k in range(1, 13)]


def main(folder: Path, output: Path | None, model: str | None, *, only_reach: bool) -> None:
    """Print the measures, and write the sheets."""
    with Upscaler(model) as upscaler:
        if not only_reach:
            print("| pair | way | bits per dimension ↓ | seam (1: none) | detail (1: the source's) |")
            print("|---|---|---|---|---|")
        for pair in pairs(folder, upscaler):
            if only_reach:
                print(f"{pair.name:6}", *(f"{value:.2f}" for value in reach(pair, upscaler)))
                continue
            made = results(pair, upscaler)
            for name, picture in made.items():
                print(
                    f"| {pair.name} | {name} | {bits(picture, upscaler):.3f} | {seam(picture, pair.mask):.2f} | "
                    f"{detail(picture, pair.source, pair.mask):.2f} |"
                )
            if output is not None:
                output.mkdir(parents=True, exist_ok=True)
                sheet(pair, made).save(output / f"{pair.name}.jpg", quality=QUALITY)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what benchmarks/unseen_photos.py wrote")
    parser.add_argument("-o", "--output", type=Path, help="folder for the sheets")
    parser.add_argument("--model", default="x4-small", help="a bundle with an inverter  [default: x4-small]")
    parser.add_argument("--reach", action="store_true", help="print only how far outside of the mask pixels change")
    arguments = parser.parse_args()
    main(arguments.folder, arguments.output, arguments.model, only_reach=arguments.reach)
