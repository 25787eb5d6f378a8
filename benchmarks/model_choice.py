"""How often `--model auto` takes the better model, on photographs that are clean and damaged in many ways.

    python benchmarks/model_choice.py data/unseen

Every photograph is reduced four times, damaged, and written as users have it: JPEG as .jpg, all else as .png, and some
JPEGs as .png, as screenshots are; with --lossy as AVIF, WebP and GIF. choose_model() sees that file; both models draw
its middle, at tau 0. The choice is right if the model is the better one by RGB PSNR, or less than 0.1 dB behind.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_evaluation.damages import Damage, generator_of
from srflow_evaluation.pictures import to_pixels
from srflow_sdk import Upscaler, choose_model
from srflow_training.data import halved, image_files, read_photo, to_image
from srflow_training.resampling import reduce_bicubic

Pixels = NDArray[np.uint8]

CLEAN, PHOTO = "x4-small", "x4-photo"
SCALE, SIDE, WIDEST, AS_GOOD_DB = 4, 96, 2400, 0.1
DAMAGES = (
    *("clean", "noise:2", "noise:3", "noise:5", "noise:10", "noise:15", "blur:0.5", "noise:5+jpeg:60"),
    *("blur:0.5+noise:5+jpeg:50", "dots:1", "bayer:4", "speckle:10", "posterise:16"),
)
FILES = ("jpeg:30", "jpeg:50", "jpeg:70", "jpeg:85", "jpeg:90", "jpeg:95", "jpeg:98")
SCREENSHOTS = ("jpeg:30", "jpeg:50", "jpeg:70", "jpeg:85", "jpeg:95")
LOSSY = (
    *("avif:30", "avif:50", "avif:65", "avif:80", "avif:95", "webp:30", "webp:50", "webp:80", "webp:95"),
    *("gif:256", "gif:64", "gif:256, dithered", "gif:64, dithered"),
)


class Case(NamedTuple):
    """One damaged LR image: its kind, whether x4-photo is chosen, and the PSNR of both models and of the chosen one."""

    kind: str
    photo_chosen: bool
    clean: float
    photo: float
    auto: float


def variants(lr: Pixels, name: str, folder: Path, *, lossy: bool) -> Iterator[tuple[str, Path]]:
    """Files of one LR image, by what was done to it."""
    image = Image.fromarray(lr)
    if lossy:
        for text in LOSSY:
            ending, number = text.partition(",")[0].split(":")
            path = folder / f"{text}.{ending}"
            if ending == "gif":
                few = image.quantize(int(number))
                (image.quantize(palette=few) if "dithered" in text else few).save(path)
            else:
                image.save(path, quality=int(number))
            yield text, path
        return
    named = {**{text: text for text in DAMAGES}, **{f"{text}, .jpg": text for text in FILES}}
    for kind, text in {**named, **{f"{text}, .png": text for text in SCREENSHOTS}}.items():
        path = folder / f"{text.replace(':', '-')}.{'jpg' if kind.endswith('.jpg') else 'png'}"
        if path.suffix == ".jpg":
            image.save(path, "JPEG", quality=int(text.partition(":")[2]))
        else:
            Image.fromarray(Damage.parse(text).of(lr, generator_of(f"{name} {text}"))).save(path)
        yield kind, path


def psnr(one: Pixels, other: Pixels) -> float:
    """RGB, in dB."""
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((one.astype(float) - other.astype(float)) ** 2))))


def cases(photo: Path, models: tuple[Upscaler, Upscaler], side: int, *, lossy: bool) -> Iterator[Case]:
    """Every variant of one photograph."""
    hr = read_photo(photo)
    while hr.shape[1] > WIDEST:  # at full size, photographs straight from a camera are soft
        hr = halved(hr)
    hr = hr[: hr.shape[0] // SCALE * SCALE, : hr.shape[1] // SCALE * SCALE]
    lr = to_pixels(reduce_bicubic(to_image(hr), SCALE).clamp(0, 1))
    top, left = (max(0, (length - side) // 2) for length in lr.shape[:2])
    truth = hr[SCALE * top : SCALE * (top + side), SCALE * left : SCALE * (left + side)]
    with tempfile.TemporaryDirectory() as folder:
        for kind, path in variants(lr, photo.stem, Path(folder), lossy=lossy):
            piece = np.asarray(Image.open(path).convert("RGB"))[top : top + side, left : left + side]
            found = [psnr(model.upscale(piece, tau=0.0), truth) for model in models]
            photo_chosen = choose_model(path).name == PHOTO
            yield Case(kind, photo_chosen, *found, found[photo_chosen])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+", help="folders of photographs")
    parser.add_argument("--side", type=int, default=SIDE, help=f"LR pixels of the middle that is drawn  [{SIDE}]")
    parser.add_argument("--lossy", action="store_true", help="files of AVIF, WebP and GIF instead")
    options = parser.parse_args()
    with Upscaler(CLEAN, device="cpu", threads=1) as clean, Upscaler(PHOTO, device="cpu", threads=1) as damaged:
        photos = [photo for folder in options.photos for photo in image_files(folder, option="photos")]
        each = (cases(photo, (clean, damaged), options.side, lossy=options.lossy) for photo in photos)
        found = [case for some in each for case in some]
    print(f"| the LR image | {CLEAN}, dB | {PHOTO}, dB | auto, dB | auto takes {PHOTO} | right |")
    print("|---|---|---|---|---|---|")
    kinds = {kind: [case for case in found if case.kind == kind] for kind in dict.fromkeys(case.kind for case in found)}
    for kind, some in {**kinds, "all": found}.items():
        figures = " | ".join(f"{value:.2f}" for value in np.mean([case[2:] for case in some], axis=0))
        right = sum(case.auto > max(case.clean, case.photo) - AS_GOOD_DB for case in some)
        print(f"| {kind} | {figures} | {sum(case.photo_chosen for case in some)} of {len(some)} | {right} |")


if __name__ == "__main__":
    main()
