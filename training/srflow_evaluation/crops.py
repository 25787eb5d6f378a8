"""The crops of the protocol `report`: bicubic, an RRDB's picture and a model at each τ, with some
to compare.

Crops have 256 pixels a side, or as many as the centre of the photographs that is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srflow_evaluation.bench import NONFINITE, open_networks
from srflow_evaluation.models import Subject
from srflow_evaluation.options import LevelTaus, Options
from srflow_evaluation.output import Table, shown_pixels, table_of, write_png
from srflow_evaluation.pictures import Cut, Picture, PictureFiles
from srflow_evaluation.results import Results, Row, mean_of
from srflow_sdk.errors import ImageError
from srflow_training import figures
from srflow_training.data import image_files, read_photo, size_of, to_image
from srflow_training.lpips import MISSING
from srflow_training.resampling import REDUCTIONS, enlarge_bicubic, round_to_8_bit

SIDE = 256
"""Pixels a side of a crop if nothing else is asked for."""

MOST_SHOWN = 8
"""The largest number of photographs that have a crop to compare."""

PHOTOGRAPH = "photograph"
BICUBIC = "bicubic"
"""Names of images to compare that are not the model's."""

DEFAULT_TAUS = tuple(LevelTaus((tau,)) for tau in (0.0, 0.5, 0.8, 0.9, 1.0))

_LEFT_OUT = ("ms_ssim", "flip")  # unless they are named
_FORMS = {"haarpsi": ".3f", "lr_psnr": ".1f"}  # shorter than elsewhere
_MORE = {
    "sample_difference": ("difference of two samples, /255", ".1f"),
    "colour_shift": ("colour shift, /255", ".2f"),
    NONFINITE: ("not finite", ".0f"),
}
"""Figures beside the metrics: heading and format."""


@dataclass(frozen=True, kw_only=True)
class ShownCrop:
    """The crop of a photograph that bicubic renders worst.

    Attributes:
        images: PNG files by method, the photograph's own first.
        psnr: RGB PSNR by method, dB.
    """

    picture: str
    images: Mapping[str, Path]
    psnr: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Means over `count` crops of the photographs of these names, as a table with the convention in
    its notes.
    """

    table: Table
    count: int
    names: Sequence[str]
    shown: Sequence[ShownCrop]


def crops_of(folder: Path, cut: Cut | None = None) -> list[Tensor]:
    """Cut a folder's photographs into whole 256×256 crops, centred as a grid: 1×3×256×256 in [0,
    1].

    Args:
        cut: takes their centres instead, if it has one: crops are then as large as that, at most
            256×256.

    Raises:
        ImageError: if the folder has no image of that size.
    """
    photos = (to_image(read_photo(path)) for path in image_files(folder))
    if cut is not None:
        photos = (_centre(photo, cut) for photo in photos)
    side = SIDE if cut is None else _side(cut)
    crops = [crop for photo in photos for crop in crops_of_photo(photo, side)]
    if not crops:
        raise ImageError(
            f"{folder}: no image is at least {side}×{side} pixels: name a folder with larger ones"
        )
    return crops


def _centre(photo: Tensor, cut: Cut) -> Tensor:
    """The part of a photograph that crops are cut out of."""
    rows, columns = cut.window(*photo.shape[2:])
    return photo if cut.centre is None else photo[..., rows, columns]


def crops_of_photo(photo: Tensor, side: int) -> list[Tensor]:
    """Cut an image 1×3×H×W into whole crops of `side` pixels, centred as a grid, row by row; none
    if it is smaller.
    """
    starts = [range(size % side // 2, size - side + 1, side) for size in photo.shape[2:]]
    return [
        photo[..., top : top + side, left : left + side] for top in starts[0] for left in starts[1]
    ]


def large_enough(pictures: Sequence[PictureFiles], cut: Cut) -> list[PictureFiles]:
    """The photographs that hold a whole crop. Raises: ImageError for a file that cannot be read."""
    return [files for files in pictures if min(size_of(files.hr)) >= _side(cut)]


def too_small(cut: Cut) -> str:
    """Say that no photograph holds a whole crop, and what to do."""
    side = _side(cut)
    larger = "name a folder with larger ones, or a smaller --crop with -o OUT"
    return f"no photograph is at least {side}×{side} pixels: {larger}"


def shown_method(method: str) -> str:
    """The name of a method as tables and the page write it: τ 0.8 for tau 0.8."""
    return f"τ {method.removeprefix('tau ')}" if method.startswith("tau ") else method


@torch.no_grad()
def measure_crops(
    subject: Subject,
    pictures: Sequence[PictureFiles],
    cut: Cut,
    options: Options,
    *,
    out: Path,
    settings: Mapping[str, Any],
    most_shown: int = MOST_SHOWN,
) -> Crops:
    """Measure all whole crops, seed 0; write results.csv, summary.json and crops/ into `out`.

    LR images are made by the reduction that the model was trained for, and rounded to 8 bits.

    Args:
        settings: all that `out` depends on besides.

    Raises:
        ImageError: if no photograph holds a crop.
        ArgumentError: if `out` holds something else.
    """
    side = _side(cut)
    measured = large_enough(pictures, cut)
    if not measured:
        raise ImageError(too_small(cut))
    convention, _ = open_networks(
        replace(options, convention="default"), subject.scale, subject.reduction
    )
    metrics = convention.metrics(("psnr", *options.metrics) if options.metrics else ())
    metrics = tuple(metric for metric in metrics if options.metrics or metric.name not in _LEFT_OUT)
    taus = options.taus or DEFAULT_TAUS
    count = min(most_shown, len(measured))
    shown = {measured[number * len(measured) // count].name for number in range(count)}
    methods = [PHOTOGRAPH, BICUBIC, *([] if subject.encoder is None else ["encoder (L1)"])]
    methods += [f"tau {tau}" for tau in taus if subject.flow is not None]
    results = Results(
        out, {**settings, "measured": "crops", "side": side, "taus": [str(tau) for tau in taus]}
    )

    def rows_of(files: PictureFiles) -> list[Row]:
        photo = _centre(to_image(read_photo(files.hr)), cut)
        lines: list[Row] = []
        worst = float("inf")
        images = dict[str, Tensor]()
        for number, hr in enumerate(crops_of_photo(photo, side), start=1):
            lr = round_to_8_bit(REDUCTIONS[subject.reduction](hr, subject.scale))
            picture = Picture(name=files.name, hr=hr, lr=lr, reduction=subject.reduction)
            drawn = _images(subject, lr, taus)
            for method, (image, other) in drawn.items():
                row = {
                    metric.name: metric.measure(image, picture, convention) for metric in metrics
                }
                row["sample_difference"] = figures.sample_difference(image, other)
                row["colour_shift"] = figures.colour_shift(image, hr)
                row[NONFINITE] = float(figures.nonfinite(image))
                lines.append({"picture": files.name, "crop": str(number), "method": method, **row})
                if method == BICUBIC and row["psnr"] < worst:
                    worst = row["psnr"]
                    images = {PHOTOGRAPH: hr, **{name: made for name, (made, _) in drawn.items()}}
        if files.name in shown:
            for method, image in images.items():
                write_png(_image_file(out, files.name, method), shown_pixels(image))
        return lines

    for files in measured:
        if files.name in shown and not all(
            _image_file(out, files.name, method).is_file() for method in methods
        ):
            results.forget(files.name)  # its crop is drawn where it is measured
    lines = results.measure(measured, rows_of, options.progress)
    names = [*(metric.name for metric in metrics), *_MORE]
    of_methods = {
        method: [line for line in lines if line["method"] == method] for method in methods[1:]
    }
    means = {method: mean_of(of, names) for method, of in of_methods.items()}
    for method, of in of_methods.items():
        means[method][NONFINITE] = sum(float(line[NONFINITE]) for line in of)
    columns = {
        metric.name: (metric.heading, _FORMS.get(metric.name, metric.form)) for metric in metrics
    } | _MORE
    table = [(shown_method(method), of) for method, of in means.items()]
    notes = [_convention(subject, side), *_left_out(len(pictures) - len(measured), side)]
    notes += [MISSING] if convention.lpips is None and not options.metrics else []
    headings = {name: heading for name, (heading, _) in columns.items()}
    crops = Crops(
        table=table_of(columns, table, notes),
        count=len(lines) // len(means),
        names=[files.name for files in measured],
        shown=[
            _shown_crop(out, files.name, lines, methods)
            for files in measured
            if files.name in shown
        ],
    )
    results.write_summary(
        {
            "protocol": "report",
            "model": subject.name,
            "model_sha256": subject.sha256,
            "scale": subject.scale,
            "pictures": len(measured),
            "crops": crops.count,
            "convention": notes[0],
            "metrics": headings,
            "notes": notes[1:],
            "rows": [{"method": method, **of} for method, of in means.items()],
        }
    )
    return crops


def _side(cut: Cut) -> int:
    return min(SIDE, cut.centre or SIDE)


def _images(
    subject: Subject, lr: Tensor, taus: Sequence[LevelTaus]
) -> dict[str, tuple[Tensor, Tensor]]:
    """For each method, its image and the one of the next seed."""
    images = {BICUBIC: (bicubic := enlarge_bicubic(lr, subject.scale), bicubic)}
    if subject.encoder is not None:
        images["encoder (L1)"] = (image := subject.encoder(lr), image)
    if subject.flow is not None:
        sample = subject.sampler(lr)
        for tau in taus:
            image = sample(tau, 0)
            images[f"tau {tau}"] = (image, image if tau.is_zero else sample(tau, 1))
    return images


def _shown_crop(out: Path, picture: str, lines: Sequence[Row], methods: Sequence[str]) -> ShownCrop:
    of_picture = [line for line in lines if line["picture"] == picture]
    of_bicubic = [line for line in of_picture if line["method"] == BICUBIC]
    worst = min(of_bicubic, key=lambda line: float(line["psnr"]))["crop"]
    return ShownCrop(
        picture=picture,
        images={method: _image_file(out, picture, method) for method in methods},
        psnr={
            str(line["method"]): float(line["psnr"]) for line in of_picture if line["crop"] == worst
        },
    )


def _image_file(out: Path, picture: str, method: str) -> Path:
    name = re.sub(r"[^\w.]+", "-", method).strip("-")
    return out / "crops" / picture / f"{name}.png"


def _left_out(count: int, side: int) -> list[str]:
    """A sentence on photographs without a crop, if there are any."""
    if not count:
        return []
    which = "1 photograph is" if count == 1 else f"{count} photographs are"
    return [f"{which} smaller than {side}×{side} pixels and not among these figures."]


def _convention(subject: Subject, side: int) -> str:
    return (
        f"Convention: means over all whole {side}×{side} crops, of 8-bit RGB. LR images are the "
        f"{subject.reduction} reduction of the crops. PSNR over the three channels, Y-PSNR of "
        "BT.601 luma, SSIM with a Gaussian 11×11 window (σ 1.5) for each channel, averaged, all "
        f"without a border of {subject.scale} pixels; LR-PSNR of the {subject.reduction} "
        "reduction, rounded to 8 bits, without a border of 1 LR pixel; the others of whole crops. "
        "Difference of two samples: mean absolute, seeds 0 and 1. Colour shift: between the means "
        "of channels."
    )
