"""What restoring gains on photographs that the model never saw, by kind of damage; or what it costs.

`srflow-eval restore` measures one degradation by every metric; this one ten by PSNR, at two sizes, against other ways
to normalise, and the time.

    python benchmarks/unseen_photos.py data/unseen
    python benchmarks/restoration.py data/unseen
    python benchmarks/restoration.py data/kinds/small-text --damage none
    python benchmarks/restoration.py --time
    python benchmarks/restoration.py data/unseen --sheet restored.png

Every photograph is taken as it is and at half its size (Pillow's bicubic), cut to multiples of the scale. The figures
are RGB PSNR in dB over all pixels, in 8 bits, averaged over the pictures:

degraded     the damaged picture
upscaled     its reduction, super-resolved at temperature 0: what that alone gives
published    its latents normalised as the publication does (spatial, temperature 0.9)
no larger    the same, but latents are never enlarged
restored     Upscaler.restore, which is srflow-restore, by default
classical    scikit-image's non-local means, told how strong the noise is; its 3×3 median for dots
worse        of how many pictures the restored one is worse than the degraded one, by more than 0.01 dB

--sheet draws the middle of the folder's chelsea.png, or of its first photograph: itself, damaged and restored, in a row
for each of SHEET.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.filters import median
from skimage.restoration import denoise_nl_means

from srflow_evaluation.degradations import Degradation
from srflow_sdk import Upscaler
from srflow_training.resampling import reduce_bicubic

Picture = NDArray[np.uint8]
Damage = Callable[[Picture, np.random.Generator], Picture]

COLUMNS = ("degraded", "upscaled", "published", "no larger", "restored", "classical")
TAU = 0.9
SAME = 0.01  # dB
SIDE = 512
SHEET = ("noise 20", "salt and pepper 2 %", "JPEG quality 30")
SHEET_SIDE = 256


def damage(kind: str, amount: float) -> Damage:
    """One of the degradations of `srflow-eval restore`."""
    return Degradation(kind, amount).of


def halved(picture: Picture) -> Picture:
    """The picture at half its size."""
    height, width = picture.shape[:2]
    return np.asarray(Image.fromarray(picture).resize((width // 2, height // 2), Image.Resampling.BICUBIC))


def bicubic(picture: Picture, random: np.random.Generator) -> Picture:
    """Reduced to half its size, and enlarged again."""
    height, width = picture.shape[:2]
    return np.asarray(Image.fromarray(halved(picture)).resize((width, height), Image.Resampling.BICUBIC))


DAMAGES: dict[str, Damage] = {
    "noise 2": damage("noise", 2),
    "noise 5": damage("noise", 5),
    "noise 10": damage("noise", 10),
    "noise 20": damage("noise", 20),
    "noise 30": damage("noise", 30),
    "salt and pepper 2 %": damage("dots", 2),
    "JPEG quality 30": damage("jpeg", 30),
    "blur 1.5": damage("blur", 1.5),
    "bicubic ×2": bicubic,
    "none": lambda picture, random: picture,
}


def cut(picture: Picture, scale: int) -> Picture:
    """The picture without the rows and columns beyond multiples of the scale."""
    return picture[: picture.shape[0] // scale * scale, : picture.shape[1] // scale * scale]


def psnr(one: Picture, other: Picture) -> float:
    """RGB PSNR in dB; infinite if they are equal."""
    error = np.mean(np.square(one.astype(np.float64) - other))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def reduced(picture: Picture, scale: int) -> Picture:
    """The LR image of a picture whose sides are multiples of the scale, as the network's training made them."""
    image = torch.from_numpy(picture.transpose(2, 0, 1)[None] / np.float32(255))
    small = reduce_bicubic(image, scale)[0].numpy().transpose(1, 2, 0)
    return np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8)


def classical(name: str, damaged: Picture) -> Picture | None:
    """The picture as a classical filter restores it; None where there is none for the damage."""
    kind, _, amount = name.partition(" ")
    if kind == "salt":
        return np.stack([median(channel) for channel in damaged.transpose(2, 0, 1)], axis=-1)
    if kind != "noise":
        return None
    sigma = float(amount) / 255
    clean = denoise_nl_means(
        damaged / 255, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, fast_mode=True, channel_axis=-1
    )
    return np.rint(np.clip(clean, 0, 1) * 255).astype(np.uint8)


def measured(name: str, picture: Picture, damaged: Picture, upscaler: Upscaler) -> list[float]:
    """The PSNR of each column; NaN where there is no answer."""
    encoding = upscaler.encode(reduced(damaged, upscaler.scale))
    latents = encoding.invert(damaged)
    answers = (
        damaged,
        encoding.sample(tau=0),
        encoding.decode(latents.normalised(TAU)),
        encoding.decode(latents.normalised(TAU, enlarge=False)),
        upscaler.restore(damaged),
        classical(name, damaged),
    )
    return [float("nan") if answer is None else psnr(answer, picture) for answer in answers]


def table(folder: Path, upscaler: Upscaler, names: Sequence[str]) -> None:
    """Print a row for each of these damages."""
    photos = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))]
    pictures = [cut(version, upscaler.scale) for photo in photos for version in (photo, halved(photo))]
    if not pictures:
        raise SystemExit(f"there are no PNGs in {folder}; write some with benchmarks/unseen_photos.py")
    print(f"{len(pictures)} pictures, model {upscaler.bundle.manifest.name}")
    print("| | " + " | ".join((*COLUMNS, "worse")) + " |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for name in names:
        damaging, rows = DAMAGES[name], []
        for number, picture in enumerate(pictures):
            damaged = damaging(picture, np.random.default_rng(number))
            rows.append(measured(name, picture, damaged, upscaler))
        worse = sum(row[COLUMNS.index("restored")] < row[0] - SAME for row in rows)
        means = " | ".join("" if np.isnan(value) else f"{value:.2f}" for value in np.mean(rows, axis=0))
        print(f"| {name} | {means} | {worse} |", flush=True)


def sheet(folder: Path, upscaler: Upscaler, target: Path) -> None:
    """Write rows of a photograph, damaged and restored."""
    paths = sorted(folder.glob("*.png"), key=lambda path: (path.name != "chelsea.png", path.name))
    photo = cut(np.asarray(Image.open(paths[0]).convert("RGB")), upscaler.scale)
    top, left = (photo.shape[0] - SHEET_SIDE) // 2, (photo.shape[1] - SHEET_SIDE) // 2
    rows = []
    for name in SHEET:
        damaged = DAMAGES[name](photo, np.random.default_rng(0))
        row = np.concatenate(
            [
                version[top : top + SHEET_SIDE, left : left + SHEET_SIDE]
                for version in (photo, damaged, upscaler.restore(damaged))
            ],
            axis=1,
        )
        rows.append(row)
    Image.fromarray(np.concatenate(rows)).save(target)


def price(upscaler: Upscaler) -> None:
    """Print how long restoring takes beside upscaling to the same size."""
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    small = reduced(picture, upscaler.scale)
    upscaler.restore(picture[:256, :256])  # the sessions are open now
    took = {}
    for name, call in {
        "upscale": lambda: upscaler.upscale(small),
        "restore": lambda: upscaler.restore(picture),
    }.items():
        times = []
        for _ in range(3):
            begun = time.perf_counter()
            call()
            times.append(time.perf_counter() - begun)
        took[name] = min(times)
        print(f"{name}: {took[name]:.2f} s for {SIDE}×{SIDE}")
    print(f"restoring takes {took['restore'] / took['upscale']:.2f} times as long")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("data/unseen"), help="[default: data/unseen]")
    parser.add_argument("--model", default="x4-small", help="a bundle with an inverter  [default: x4-small]")
    parser.add_argument("--threads", type=int, help="CPU threads  [default: one per core]")
    parser.add_argument("--damage", action="append", choices=list(DAMAGES), help="only this row; may be repeated")
    parser.add_argument("--sheet", type=Path, help="draw a contact sheet instead")
    parser.add_argument("--time", action="store_true", help="measure the price instead")
    arguments = parser.parse_args()
    with Upscaler(arguments.model, threads=arguments.threads) as upscaler:
        if arguments.time:
            price(upscaler)
        elif arguments.sheet is not None:
            sheet(arguments.folder, upscaler, arguments.sheet)
        else:
            table(arguments.folder, upscaler, arguments.damage or list(DAMAGES))


if __name__ == "__main__":
    main()
