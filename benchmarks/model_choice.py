"""How often `--model auto` takes the better model, on photographs that are clean and damaged in many ways.

    python benchmarks/model_choice.py data/unseen

Every photograph is reduced four times, damaged, and written as users have it: JPEG as .jpg, all else as .png, and some
JPEGs as .png, as screenshots are. choose_model() sees that file; both models draw its middle, at tau 0. The choice is
right if the model is the better one by RGB PSNR, or less than 0.1 dB behind the other. With --lossy they are AVIFs,
WebPs and GIFs instead. With --taken nothing is drawn, and the table says how often x4-photo is taken, for every folder
that is named.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_evaluation.arrays import to_pixels
from srflow_evaluation.degradations import Damage, generator_of
from srflow_sdk import Upscaler, choose_model
from srflow_sdk.model.model_choice import measure_damage
from srflow_training.data import halved, image_files, read_photo, to_image
from srflow_training.resampling import reduce_bicubic

Pixels = NDArray[np.uint8]

CLEAN, PHOTO = "x4-small", "x4-photo"
SCALE, SIDE, WIDEST = 4, 96, 2400
AS_GOOD_DB = 0.1
DAMAGES = (
    *("clean", "noise:2", "noise:3", "noise:5", "noise:10", "noise:15", "blur:0.5", "noise:5+jpeg:60"),
    *("blur:0.5+noise:5+jpeg:50", "dots:1", "bayer:4", "speckle:10", "posterise:16"),
)
FILES = ("jpeg:30", "jpeg:50", "jpeg:70", "jpeg:85", "jpeg:90", "jpeg:95", "jpeg:98")
LOSSY = (
    *("avif:30", "avif:50", "avif:65", "avif:80", "avif:95", "webp:30", "webp:50", "webp:80", "webp:95"),
    *("gif:256", "gif:64", "gif:256, dithered", "gif:64, dithered"),
)
SCREENSHOTS = ("jpeg:30", "jpeg:50", "jpeg:70", "jpeg:85", "jpeg:95")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One damaged LR image: its kind, its file, and the two models' PSNRs in dB."""

    kind: str
    chosen: str
    clean: float
    photo: float
    seen: str

    @property
    def auto(self) -> float:
        """PSNR of the model that was chosen."""
        return self.clean if self.chosen == CLEAN else self.photo

    @property
    def right(self) -> bool:
        """Whether it is the better one, or as good."""
        return self.auto > max(self.clean, self.photo) - AS_GOOD_DB


def lossy_variants(lr: Pixels, name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Files of the kinds of LOSSY, as :func:`variants`."""
    image = Image.fromarray(lr)
    for text in LOSSY:
        ending, number = text.partition(",")[0].split(":")
        path = folder / f"{text}.{ending}"
        if ending == "gif":
            few = image.quantize(int(number))
            (image.quantize(palette=few) if "dithered" in text else few).save(path)
        else:
            image.save(path, quality=int(number))
        yield text, path


def variants(lr: Pixels, name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Files of one LR image, by what was done to it."""
    for text in DAMAGES:
        path = folder / f"{text.replace(':', '-')}.png"
        Image.fromarray(Damage.parse(text).of(lr, generator_of(f"{name} {text}"))).save(path)
        yield text, path
    for text in FILES:
        path = folder / f"{text.replace(':', '-')}.jpg"
        Image.fromarray(lr).save(path, "JPEG", quality=int(text.partition(":")[2]))
        yield f"{text}, .jpg", path
    for text in SCREENSHOTS:
        path = folder / f"{text.replace(':', '-')}.png"
        Image.fromarray(Damage.parse(text).of(lr, generator_of(f"{name} {text}"))).save(path)
        yield f"{text}, .png", path


def middle(height: int, width: int, side: int) -> tuple[slice, slice]:
    """Rows and columns of the middle."""
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return slice(top, top + side), slice(left, left + side)


def psnr(one: Pixels, other: Pixels) -> float:
    """RGB, in dB."""
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((one.astype(float) - other.astype(float)) ** 2))))


def reduced(photo: Path) -> tuple[Pixels, Pixels]:
    """A photograph and its LR image."""
    hr = read_photo(photo)
    while hr.shape[1] > WIDEST:  # at full size, photographs straight from a camera are soft
        hr = halved(hr)
    hr = hr[: hr.shape[0] // SCALE * SCALE, : hr.shape[1] // SCALE * SCALE]
    return hr, to_pixels(reduce_bicubic(to_image(hr), SCALE).clamp(0, 1))


def taken(folders: list[Path]) -> Iterator[str]:
    """The rows of the table of --taken."""
    counts: dict[str, list[list[bool]]] = {}
    for column, folder in enumerate(folders):
        for photo in image_files(folder, option="photos"):
            with tempfile.TemporaryDirectory() as place:
                for kind, path in variants(reduced(photo)[1], photo.stem, Path(place)):
                    chosen = counts.setdefault(kind, [[] for _ in folders])
                    chosen[column].append(choose_model(path).name == PHOTO)
    for kind, chosen in counts.items():
        yield f"| {kind} | {' | '.join(f'{sum(some)} of {len(some)}' for some in chosen)} |"


def cases(photo: Path, clean: Upscaler, damaged: Upscaler, side: int, *, lossy: bool) -> Iterator[Case]:
    """Every variant of one photograph. lossy: those of LOSSY."""
    hr, lr = reduced(photo)
    rows, columns = middle(*lr.shape[:2], side)
    truth = hr[SCALE * rows.start : SCALE * rows.stop, SCALE * columns.start : SCALE * columns.stop]
    drawn: dict[bytes, tuple[float, float]] = {}  # a JPEG and its screenshot have the same pixels
    with tempfile.TemporaryDirectory() as folder:
        for kind, path in (lossy_variants if lossy else variants)(lr, photo.stem, Path(folder)):
            piece = np.asarray(Image.open(path).convert("RGB"))[rows, columns]
            damage = measure_damage(path)
            if piece.tobytes() not in drawn:
                one, other = (psnr(model.upscale(piece, tau=0.0), truth) for model in (clean, damaged))
                drawn[piece.tobytes()] = one, other
            of_clean, of_damaged = drawn[piece.tobytes()]
            yield Case(
                kind=kind,
                chosen=choose_model(path).name,
                clean=of_clean,
                photo=of_damaged,
                seen=f"{damage.quality}, {damage.bits:.2f} bits, noise {damage.noise:.2f}, blocks {damage.blocks:.2f}",
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+", help="folders of photographs")
    parser.add_argument("--taken", action="store_true", help=f"only count how often {PHOTO} is taken, by folder")
    parser.add_argument("--photo-model", default=PHOTO, help="bundle in place of x4-photo")
    parser.add_argument("--side", type=int, default=SIDE, help=f"LR pixels of the middle that is drawn  [{SIDE}]")
    parser.add_argument("--lossy", action="store_true", help="files of AVIF, WebP and GIF instead")
    parser.add_argument("--wrong", action="store_true", help="also print every wrong choice, with what was measured")
    options = parser.parse_args()
    if options.taken:
        print(f"| the LR image | {' | '.join(folder.name for folder in options.photos)} |")
        print("|---" * (1 + len(options.photos)) + "|")
        print(*taken(options.photos), sep="\n")
        return
    found: list[Case] = []
    with (
        Upscaler(CLEAN, device="cpu", threads=1) as clean,
        Upscaler(options.photo_model, device="cpu", threads=1) as damaged,
    ):
        for photo in (photo for folder in options.photos for photo in image_files(folder, option="photos")):
            found += cases(photo, clean, damaged, options.side, lossy=options.lossy)
    print(f"| the LR image | {CLEAN}, dB | {PHOTO}, dB | auto, dB | auto takes {PHOTO} | right |")
    print("|---|---|---|---|---|---|")
    for kind in dict.fromkeys(case.kind for case in found):
        print(row(kind, [case for case in found if case.kind == kind]))
    print(row("all", found))
    for case in found:
        if options.wrong and not case.right:
            print(f"{case.kind}: {case.chosen}, {case.clean:.2f} and {case.photo:.2f} dB ({case.seen})")


def row(kind: str, some: list[Case]) -> str:
    """Means of some cases, as a row of the table."""
    figures = (np.mean([getattr(case, name) for case in some]) for name in ("clean", "photo", "auto"))
    taken, right = (sum(values) for values in ([c.chosen == PHOTO for c in some], [c.right for c in some]))
    return f"| {kind} | {' | '.join(f'{value:.2f}' for value in figures)} | {taken} of {len(some)} | {right} |"


if __name__ == "__main__":
    main()
