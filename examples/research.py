"""What the model finds likely: photographs, changed ones and its own samples.

    pip install . matplotlib
    python examples/research.py photos/*.png -o likelihoods

A flow gives every picture a likelihood and latents, which are standard normal for pictures like its
training's. This script takes the middle of each photo as the true large picture, reduces it to the
photo that the model is given, and changes the large one: noise, blur, a median filter, JPEG. It
also decodes samples at several temperatures, in floating point and not smoothed, as rounding to 8
bits moves latents more than noise does.

It writes `likelihoods.csv`, with one row for each picture, and `likelihoods.png`: bits per
dimension (fewer are likelier), and histograms of the latents beside the normal distribution. A
photo that cannot be used is named and left out; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from srflow_sdk import ImageError, Latents, SRFlowError, Upscaler, read_image

mpl.use("agg")
from matplotlib import pyplot as plt

SIDE = 256  # of the large pictures
SEED = 0
EXAMPLE = Path(__file__).parent / "photos" / "cat.png"


def noisy(deviation: float) -> Callable[[Image.Image], Image.Image]:
    """Gaussian noise; its deviation is in 8-bit levels."""

    def change(picture: Image.Image) -> Image.Image:
        pixels = np.asarray(picture, np.float32)
        noise = np.random.default_rng(SEED).normal(0, deviation, pixels.shape)
        return Image.fromarray(np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8))

    return change


def compressed(quality: int) -> Callable[[Image.Image], Image.Image]:
    """The blocks of a JPEG."""

    def change(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return Image.open(file).convert("RGB")

    return change


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "photo": lambda picture: picture,
    "noise 2": noisy(2),
    "noise 8": noisy(8),
    "blur": lambda picture: picture.filter(ImageFilter.GaussianBlur(1)),
    "median": lambda picture: picture.filter(ImageFilter.MedianFilter(5)),
    "JPEG 30": compressed(30),
}
TAUS = (0.5, 0.8, 1.0)


@dataclass(frozen=True)
class Measured:
    """One picture. The numbers are over all latents of a level, by level."""

    photo: str
    picture: str
    bits_per_dimension: float
    mean: dict[int, float]
    deviation: dict[int, float]
    kurtosis: dict[int, float]  # 3 for a normal distribution

    @classmethod
    def of(cls, photo: str, picture: str, latents: Latents) -> Measured:
        """Measure inverted latents."""
        bits = latents.bits_per_dimension
        assert bits is not None  # invert() knows it
        values = {level: array.astype(np.float64) for level, array in latents.levels.items()}
        means = {level: float(array.mean()) for level, array in values.items()}
        deviations = {level: float(array.std()) for level, array in values.items()}
        kurtoses = {
            level: float((((array - means[level]) / deviations[level]) ** 4).mean())
            for level, array in values.items()
        }
        return cls(photo, picture, bits, means, deviations, kurtoses)

    def row(self) -> dict[str, Any]:
        """The table's row."""
        numbers = {"mean": self.mean, "deviation": self.deviation, "kurtosis": self.kurtosis}
        by_level = {
            f"{name}_level{level}": f"{value:.4f}"
            for name, of in numbers.items()
            for level, value in of.items()
        }
        bits = f"{self.bits_per_dimension:.4f}"
        return {
            "photo": self.photo,
            "picture": self.picture,
            "bits_per_dimension": bits,
            **by_level,
        }


def middle(path: Path, scale: int) -> Image.Image:
    """The middle of a photo as 8-bit RGB, up to SIDE pixels a side. Raises: ImageError if there is
    too little of it.
    """
    file = read_image(path)
    largest = np.iinfo(file.pixels.dtype).max if file.pixels.dtype.kind == "u" else 1
    channels = 3 if file.pixels.shape[2] > 2 else 1
    unit = file.pixels[..., :channels].astype(np.float64) / largest
    height, width = (min(side, SIDE) // (4 * scale) * 4 * scale for side in unit.shape[:2])
    if not (height and width):
        raise ImageError(
            f"{path} has {unit.shape[1]}×{unit.shape[0]} pixels: choose photos of at least "
            f"{4 * scale} pixels a side"
        )
    top = (unit.shape[0] - height) // 2
    left = (unit.shape[1] - width) // 2
    part = np.repeat(unit[top : top + height, left : left + width], 3 // channels, axis=2)
    return Image.fromarray(np.rint(255 * part).astype(np.uint8))


def measured(
    upscaler: Upscaler, photo: str, lr: Image.Image, hr: Image.Image
) -> tuple[list[Measured], dict[str, dict[int, NDArray[np.float32]]]]:
    """All pictures of one photo, and the latents of each by level."""
    encoding = upscaler.encode(lr)
    rows = []
    latents = {}
    for name, change in CHANGES.items():
        found = encoding.invert(change(hr), dequantise=True)
        rows.append(Measured.of(photo, name, found))
        latents[name] = dict(found.levels)
    noise = np.random.default_rng(SEED)
    drawn = {
        level: noise.standard_normal(array.shape, np.float32)
        for level, array in latents["photo"].items()
    }
    sample = dataclasses.replace(found, levels=drawn, log_likelihood=None)
    exact = upscaler.encode(np.asarray(lr, np.float32) / 255)
    for tau in TAUS:
        found = exact.invert(exact.decode(sample.scaled(tau)))
        rows.append(Measured.of(photo, f"sample τ {tau:g}", found))
    return rows, latents


def figure(
    rows: list[Measured], latents: list[dict[str, dict[int, NDArray[np.float32]]]], target: Path
) -> None:
    """Bits per dimension of all photos, and the latents' histograms, level by level."""
    names = list(dict.fromkeys(row.picture for row in rows))
    levels = sorted(rows[0].mean)
    canvas, axes = plt.subplots(
        1, 1 + len(levels), figsize=(5 + 3.2 * len(levels), 3.8), layout="constrained"
    )
    bits = [[row.bits_per_dimension for row in rows if row.picture == name] for name in names]
    axes[0].barh(names, [np.mean(values) for values in bits], color="#9db8d6")
    for at, values in enumerate(bits):
        axes[0].plot(values, [at] * len(values), "k.", markersize=4)
    axes[0].invert_yaxis()
    axes[0].set(title="how unlikely", xlabel="bits per dimension (fewer: likelier)")
    edges = np.linspace(-5, 5, 61)
    centres = (edges[1:] + edges[:-1]) / 2
    for axis, level in zip(axes[1:], levels, strict=True):
        for name in ("photo", "noise 8", "blur"):
            values = np.concatenate([by_name[name][level].ravel() for by_name in latents])
            axis.stairs(
                np.histogram(values, edges)[0] / values.size / (edges[1] - edges[0]),
                edges,
                label=name,
            )
        axis.plot(
            centres,
            np.exp(-(centres**2) / 2) / np.sqrt(2 * np.pi),
            "k--",
            linewidth=1,
            label="normal",
        )
        axis.set(title=f"latents of level {level}", yticks=[])
    axes[1].legend(fontsize="small")
    canvas.savefig(target, dpi=110)
    plt.close(canvas)


def make_folder(path: Path) -> None:
    """Before minutes of work. Ends the program with one line if nothing can be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        sys.exit(
            f"error: {path} is not a folder to write into ({error.strerror}): choose another one "
            "with -o"
        )


def main() -> None:
    """Read the command line, measure, and write the table and the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "photos", type=Path, nargs="*", default=[EXAMPLE], help="[default: examples/photos/cat.png]"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("likelihoods"),
        help="folder  [default: likelihoods]",
    )
    parser.add_argument(
        "--model",
        default="x4-small",
        help="bundle with an inverter, or an embedded model's name  [default: x4-small]",
    )
    arguments = parser.parse_args()
    make_folder(arguments.output)
    rows = []
    latents = []
    unused = 0
    try:
        with Upscaler(arguments.model) as upscaler:
            for path in arguments.photos:
                try:
                    hr = middle(path, upscaler.scale)
                except ImageError as error:
                    print(f"error: {error}", file=sys.stderr)
                    unused += 1
                    continue
                lr = hr.resize(
                    (hr.width // upscaler.scale, hr.height // upscaler.scale),
                    Image.Resampling.BICUBIC,
                )
                found, of_photo = measured(upscaler, path.name, lr, hr)
                rows += found
                latents.append(of_photo)
                for row in found:
                    print(
                        f"{row.photo:24} {row.picture:14} {row.bits_per_dimension:8.3f} bits per "
                        "dimension"
                    )
    except SRFlowError as error:
        sys.exit(f"error: {error}")
    if not rows:
        sys.exit(1)
    table = [row.row() for row in rows]
    with (arguments.output / "likelihoods.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    figure(rows, latents, arguments.output / "likelihoods.png")
    print(f"the table and the figure: {arguments.output}")
    if unused:
        sys.exit(1)


if __name__ == "__main__":
    main()
