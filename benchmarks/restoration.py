"""What restoring gains on photographs that the model never saw, by kind of damage.

`srflow-eval restore` measures one degradation by every metric; this one ten by PSNR, at two sizes,
against other ways.

    python benchmarks/unseen_photos.py data/unseen
    python benchmarks/restoration.py data/unseen
    python benchmarks/restoration.py data/unseen --sheet restored.png

Every photograph is taken as it is and at half its size (Pillow's bicubic), cut to multiples of the
scale. The figures are RGB PSNR in dB over all pixels, in 8 bits, averaged over the pictures:

degraded     the damaged picture
upscaled     its reduction, super-resolved at temperature 0: what that alone gives
published    its latents normalised as the publication does (spatial, temperature 0.9)
restored     Upscaler.restore, which is srflow-restore, by default
classical    scikit-image's non-local means, told how strong the noise is; its 3×3 median for dots
worse        how many pictures restoring makes worse, by more than 0.01 dB

--sheet draws the middle of the first photograph, damaged and restored, in a row for each of SHEET.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.filters import median
from skimage.restoration import denoise_nl_means

from srflow_evaluation.damages import Damage
from srflow_sdk import Upscaler
from srflow_training.data import to_image, to_pixels
from srflow_training.resampling import reduce_bicubic

Picture = NDArray[np.uint8]

COLUMNS = ("degraded", "upscaled", "published", "restored", "classical")
DAMAGES = (
    "noise:2",
    "noise:5",
    "noise:10",
    "noise:20",
    "noise:30",
    "dots:2",
    "jpeg:30",
    "blur:1.5",
    "bicubic",
    "none",
)
SHEET = ("noise:20", "dots:2", "jpeg:30")
SHEET_SIDE = 256


def halve(picture: Picture) -> Picture:
    """The picture at half its size."""
    height, width = picture.shape[:2]
    return np.asarray(
        Image.fromarray(picture).resize((width // 2, height // 2), Image.Resampling.BICUBIC)
    )


def damage_picture(picture: Picture, damage: str, seed: int) -> Picture:
    """One of DAMAGES; bicubic is reduced to half the size and enlarged again."""
    if damage == "none":
        return picture
    if damage == "bicubic":
        size = picture.shape[1], picture.shape[0]
        return np.asarray(Image.fromarray(halve(picture)).resize(size, Image.Resampling.BICUBIC))
    return Damage.parse(damage).of(picture, np.random.default_rng(seed))


def cut_to_multiple(picture: Picture, scale: int) -> Picture:
    """The picture without the rows and columns beyond multiples of the scale."""
    return picture[: picture.shape[0] // scale * scale, : picture.shape[1] // scale * scale]


def psnr(one: Picture | None, other: Picture) -> float:
    """RGB PSNR in dB; infinite if they are equal, NaN without a picture."""
    error = float("nan") if one is None else np.mean(np.square(one.astype(np.float64) - other))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def restore_classically(damage: str, picture: Picture) -> Picture | None:
    """The picture as a classical filter restores it; None where there is none for the damage."""
    kind, _, amount = damage.partition(":")
    if kind == "dots":
        return np.stack([median(channel) for channel in picture.transpose(2, 0, 1)], axis=-1)
    if kind != "noise":
        return None
    sigma = float(amount) / 255
    clean = denoise_nl_means(
        picture / 255,
        patch_size=5,
        patch_distance=6,
        h=0.8 * sigma,
        fast_mode=True,
        sigma=sigma,
        channel_axis=-1,
    )
    return np.rint(np.clip(clean, 0, 1) * 255).astype(np.uint8)


def measure(damage: str, truth: Picture, picture: Picture, upscaler: Upscaler) -> list[float]:
    """The PSNR of each column; NaN where there is no answer."""
    encoding = upscaler.encode(
        to_pixels(reduce_bicubic(to_image(picture), upscaler.scale).clamp(0, 1))
    )
    published = encoding.decode(encoding.invert(picture).normalised(0.9))
    answers = (
        picture,
        encoding.sample(tau=0),
        published,
        upscaler.restore(picture),
        restore_classically(damage, picture),
    )
    return [psnr(answer, truth) for answer in answers]


def draw_sheet(photo: Picture, upscaler: Upscaler) -> Picture:
    """The middle of a photograph, as it is, damaged and restored, in a row for each of SHEET."""
    top, left = ((side - SHEET_SIDE) // 2 for side in photo.shape[:2])
    rows = []
    for damage in SHEET:
        bad = damage_picture(photo, damage, 0)
        views = (photo, bad, upscaler.restore(bad))
        middles = [view[top:, left:][:SHEET_SIDE, :SHEET_SIDE] for view in views]
        rows.append(np.concatenate(middles, axis=1))
    return np.concatenate(rows)


def main() -> None:
    """Print a row for each damage, or draw the sheet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("data/unseen"), help="[default: data/unseen]"
    )
    parser.add_argument(
        "--model", default="x4-small", help="a bundle with an inverter  [default: x4-small]"
    )
    parser.add_argument(
        "--damage", action="append", choices=DAMAGES, help="only this row; may be repeated"
    )
    parser.add_argument("--sheet", type=Path, help="draw a contact sheet instead")
    options = parser.parse_args()
    photos = [
        np.asarray(Image.open(path).convert("RGB")) for path in sorted(options.folder.glob("*.png"))
    ]
    if not photos:
        raise SystemExit(
            f"there are no PNGs in {options.folder}; write some with benchmarks/unseen_photos.py"
        )
    with Upscaler(options.model) as upscaler:
        if options.sheet is not None:
            sheet = draw_sheet(cut_to_multiple(photos[0], upscaler.scale), upscaler)
            Image.fromarray(sheet).save(options.sheet)
            return
        pictures = [
            cut_to_multiple(version, upscaler.scale)
            for photo in photos
            for version in (photo, halve(photo))
        ]
        print(f"| | {' | '.join((*COLUMNS, 'worse'))} |")
        print("|---" * (len(COLUMNS) + 2) + "|")
        for damage in options.damage or DAMAGES:
            rows = [
                measure(damage, picture, damage_picture(picture, damage, number), upscaler)
                for number, picture in enumerate(pictures)
            ]
            worse = sum(row[COLUMNS.index("restored")] < row[0] - 0.01 for row in rows)
            means = " | ".join(
                "" if np.isnan(value) else f"{value:.2f}" for value in np.mean(rows, axis=0)
            )
            print(f"| {damage} | {means} | {worse} |", flush=True)


if __name__ == "__main__":
    main()
