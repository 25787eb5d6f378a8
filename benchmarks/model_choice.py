"""How good the pictures of `--model auto` are beside those of each ×4 model.

    python benchmarks/model_choice.py data/unseen data/kodak data/standard/BSD100/HR

The middle of every photograph is reduced four times, damaged, and written as a file. Both models
draw that file at their default temperatures; choose_model() looks at it. PSNR is in dB over bicubic
interpolation, LPIPS a share of bicubic's, and specks are in 10,000 pixels. A row in which auto's
LPIPS is more than .03 above the better model's ends with "!".
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import kinds_of_content
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from srflow_evaluation.damages import Damage, generator_of
from srflow_sdk import Upscaler, choose_model
from srflow_training import figures
from srflow_training.data import image_files, read_photo, to_image, to_pixels
from srflow_training.lpips import LPIPS
from srflow_training.resampling import enlarge_bicubic, reduce_bicubic

Pixels = NDArray[np.uint8]
Case = tuple[bool, NDArray[np.float64]]
"""Whether x4-photo was chosen, and the figures of bicubic interpolation and both models, 3×3."""

CLEAN = "x4-small"
PHOTO = "x4-photo"
SCALE = 4
SIDE = 112  # of an input, in pixels
SLACK = 0.03


@dataclass(frozen=True)
class Row:
    """A kind of input.

    Attributes:
        name: of the row.
        ending: of its file.
        quality: of its file.
        damage: what its pixels suffer before, as `srflow-eval --degradation` has it.
        of: what it shows.
        side: in pixels.
    """

    name: str
    ending: str = "png"
    quality: int | None = None
    damage: str = "clean"
    of: str = "photographs"
    side: int = SIDE

    def write(self, lr: Pixels, name: str, folder: Path) -> Path:
        """Write a picture as such a file."""
        path = folder / f"{self.ending}.{self.ending}"
        image = Image.fromarray(
            Damage.parse(self.damage).of(lr, generator_of(f"{name} {self.damage}"))
        )
        if self.ending == "gif" and self.quality is not None:
            image = image.quantize(palette=image.quantize(self.quality))  # with dithering
        options = {} if self.quality is None or self.ending == "gif" else {"quality": self.quality}
        image.save(path, **options)
        return path


ROWS = (
    Row("PNG, clean"),
    *(Row(f"JPEG {quality}", "jpg", quality) for quality in (70, 80, 85, 88, 90, 92, 95, 98)),
    *(
        Row(f"{ending} {quality}", ending, quality)
        for ending in ("webp", "avif")
        for quality in (50, 75, 90)
    ),
    Row("JPEG 60, then 90", "jpg", 90, damage="jpeg:60"),
    Row("JPEG 60, then 98", "jpg", 98, damage="jpeg:60"),
    *(Row(f"JPEG {quality}, then PNG", damage=f"jpeg:{quality}") for quality in (60, 80, 90)),
    *(Row(f"noise of {sigma}", damage=f"noise:{sigma}") for sigma in (2, 3, 5)),
    Row("noise of 3, then JPEG 98", "jpg", 98, damage="noise:3"),
    Row("soft, PNG", damage="blur:1"),
    Row("soft, JPEG 92", "jpg", 92, damage="blur:1"),
    Row("GIF", "gif"),
    Row("GIF, 64 colours, dithered", "gif", 64),
    Row("text, PNG", of="text"),
    Row("text, JPEG 90", "jpg", 90, of="text"),
    Row("drawings, PNG", of="drawings"),
    Row("drawings, GIF", "gif", of="drawings"),
    Row("drawings, JPEG 90", "jpg", 90, of="drawings"),
    *(Row(f"{side} pixels, PNG", side=side) for side in (48, 80)),
    Row("48 pixels, JPEG 90", "jpg", 90, side=48),
    Row("48 pixels, noise of 10", damage="noise:10", side=48),
)


def photographs(folders: Sequence[Path], most: int) -> Iterator[tuple[str, Pixels]]:
    """Some photographs of each folder, by their names."""
    for folder in folders:
        files = image_files(folder, option="photos")
        for number in np.unique(np.linspace(0, len(files) - 1, most).round().astype(int)):
            yield files[number].stem, read_photo(files[number])


def draw_pages(kind: str, count: int) -> Iterator[tuple[str, Pixels]]:
    """Pages of text, or drawings."""
    kinds = ("large-text", "dark-text") if kind == "text" else ("line-art", "flat")
    for number in range(count):
        which = kinds[number % 2]
        page = kinds_of_content.DRAWN[which](random.Random(f"{which} {number}"))
        yield f"{which} {number}", np.asarray(page)


def crop_middle(hr: Pixels, side: int) -> Pixels:
    """A square of this side, in LR pixels, or what there is, in whole LR pixels."""
    height, width = (min(SCALE * side, length // SCALE * SCALE) for length in hr.shape[:2])
    top = (hr.shape[0] - height) // 2
    left = (hr.shape[1] - width) // 2
    return hr[top : top + height, left : left + width]


def measure_case(
    row: Row, name: str, hr: Pixels, models: tuple[Upscaler, Upscaler], network: LPIPS
) -> Case:
    """Write one picture as a row's input, and measure what is drawn of it."""
    truth = to_image(crop_middle(hr, row.side))
    with tempfile.TemporaryDirectory() as folder:
        path = row.write(to_pixels(reduce_bicubic(truth, SCALE).clamp(0, 1)), name, Path(folder))
        drawn = [to_image(np.asarray(model.upscale(path).convert("RGB"))) for model in models]
        lr = to_image(np.asarray(Image.open(path).convert("RGB")))
        photo = choose_model(path).name == PHOTO
    measured = []
    for image in (enlarge_bicubic(lr, SCALE).clamp(0, 1), *drawn):
        psnr = figures.psnr(image, truth, border=SCALE)
        measured.append((psnr, figures.lpips(network, image, truth), figures.specks(image, truth)))
    return photo, np.array(measured)


def format_row(row: Row, some: Sequence[Case]) -> str:
    """A row of the table."""
    bicubic, *models = np.mean([measured for _, measured in some], axis=0)
    means = [np.mean([measured[1 + photo] for photo, measured in some], axis=0), *models]
    parts = [
        f"{psnr - bicubic[0]:+.2f}/{lpips / bicubic[1]:.3f}/{specks:.1f}"
        for psnr, lpips, specks in means
    ]
    auto, *each = [lpips / bicubic[1] for _, lpips, _ in means]
    late = " !" if auto > min(each) + SLACK else ""
    taken = sum(photo for photo, _ in some)
    return f"| {row.name} | {' | '.join(parts)} | {min(each):.3f} | {taken}/{len(some)}{late} |"


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+", help="folders of photographs")
    parser.add_argument(
        "--photos", type=int, default=6, help="of each folder, and of text and drawings  [6]"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = LPIPS.open("alex")
    print("PSNR over bicubic in dB/LPIPS as a share of bicubic's/specks in 10,000\n")
    print(f"| the input | auto | {CLEAN} | {PHOTO} | the better share | {PHOTO} chosen |")
    print("|---|---|---|---|---|---|")
    with (
        Upscaler(CLEAN, device="cpu", threads=1) as clean,
        Upscaler(PHOTO, device="cpu", threads=1) as photo,
    ):
        pictures = {kind: list(draw_pages(kind, options.photos)) for kind in ("text", "drawings")}
        pictures["photographs"] = list(photographs(options.folders, options.photos))
        for row in ROWS:
            some = [
                measure_case(row, name, hr, (clean, photo), network)
                for name, hr in pictures[row.of]
            ]
            print(format_row(row, some), flush=True)


if __name__ == "__main__":
    main()
