"""The crops of the protocol `report`: bicubic, an RRDB's picture and a model at each τ.

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
from srflow_evaluation.metrics import Convention, Metric
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
ENCODER = "encoder (L1)"
"""Names of images to compare that are not a flow's."""

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
    """What was measured of the crops of some photographs.

    Attributes:
        table: means over the crops, with the convention in its notes.
        count: of crops.
        names: of the photographs.
    """

    table: Table
    count: int
    names: Sequence[str]
    shown: Sequence[ShownCrop]


def crops_of(folder: Path, cut: Cut | None = None) -> list[Tensor]:
    """Cut a folder's photographs into whole crops, centred as a grid: 1×3×256×256 in [0, 1].

    Args:
        cut: takes their centres instead, if it has one: crops are then as large as that, at most
            256×256.

    Raises:
        ImageError: if the folder has no image of that size.
    """
    side = SIDE if cut is None else _side(cut)
    crops = []
    for path in image_files(folder):
        photo = to_image(read_photo(path))
        if cut is not None:
            photo = _centre(photo, cut)
        crops += crops_of_photo(photo, side)
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
    """Cut an image 1×3×H×W into whole crops of `side` pixels, centred as a grid, row by row."""
    starts = [range(size % side // 2, size - side + 1, side) for size in photo.shape[2:]]
    crops = []
    for top in starts[0]:
        for left in starts[1]:
            crops.append(photo[..., top : top + side, left : left + side])
    return crops


def large_enough(pictures: Sequence[PictureFiles], cut: Cut) -> list[PictureFiles]:
    """The photographs that hold a whole crop. Raises: ImageError for a file that cannot be read."""
    return [files for files in pictures if min(size_of(files.hr)) >= _side(cut)]


def explain_too_small(cut: Cut) -> str:
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
    measured = large_enough(pictures, cut)
    if not measured:
        raise ImageError(explain_too_small(cut))
    count = min(most_shown, len(measured))
    shown = [measured[number * len(measured) // count].name for number in range(count)]
    case = _Case.open(subject, cut, options, out=out, shown=shown)
    side = _side(cut)
    taus = [str(tau) for tau in case.taus]
    results = Results(out, {**settings, "measured": "crops", "side": side, "taus": taus})
    for name in shown:
        if not all(path.is_file() for path in case.image_files(name).values()):
            results.forget(name)  # its crop is drawn where it is measured
    rows = results.measure(measured, case.measure_photograph, options.progress)
    means = case.average(rows)
    notes = [_convention(subject, side), *_left_out(len(pictures) - len(measured), side)]
    if case.convention.lpips is None and not options.metrics:
        notes.append(MISSING)
    columns = case.columns()
    lines = [(shown_method(name), row) for name, row in means.items()]
    crops = Crops(
        table=table_of(columns, lines, notes),
        count=len(rows) // len(means),
        names=[files.name for files in measured],
        shown=[case.choose_crop(name, rows) for name in shown],
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
            "metrics": {name: heading for name, (heading, _) in columns.items()},
            "notes": notes[1:],
            "rows": [{"method": name, **row} for name, row in means.items()],
        }
    )
    return crops


@dataclass(frozen=True, kw_only=True)
class _Case:
    """What is measured of each photograph.

    Attributes:
        shown: names of the photographs that have a crop to compare.
    """

    subject: Subject
    cut: Cut
    convention: Convention
    metrics: Sequence[Metric]
    taus: Sequence[LevelTaus]
    out: Path
    shown: Sequence[str]

    @classmethod
    def open(
        cls,
        subject: Subject,
        cut: Cut,
        options: Options,
        *,
        out: Path,
        shown: Sequence[str],
    ) -> _Case:
        by_default = replace(options, convention="default")
        convention, _ = open_networks(by_default, subject.scale, subject.reduction)
        if options.metrics:
            metrics = convention.metrics(("psnr", *options.metrics))
        else:
            all_metrics = convention.metrics()
            metrics = tuple(metric for metric in all_metrics if metric.name not in _LEFT_OUT)
        return cls(
            subject=subject,
            cut=cut,
            convention=convention,
            metrics=metrics,
            taus=options.taus or DEFAULT_TAUS,
            out=out,
            shown=shown,
        )

    @property
    def methods(self) -> list[str]:
        """Names of what is measured, in the order of tables."""
        methods = [BICUBIC]
        if self.subject.encoder is not None:
            methods.append(ENCODER)
        if self.subject.flow is not None:
            methods += [f"tau {tau}" for tau in self.taus]
        return methods

    def columns(self) -> dict[str, tuple[str, str]]:
        """Heading and format by the column's name."""
        columns = {}
        for metric in self.metrics:
            columns[metric.name] = (metric.heading, _FORMS.get(metric.name, metric.form))
        return columns | _MORE

    def measure_photograph(self, files: PictureFiles) -> list[Row]:
        """A row for each crop and method; of a photograph that is shown, one crop is written."""
        photo = _centre(to_image(read_photo(files.hr)), self.cut)
        rows: list[Row] = []
        worst = float("inf")
        images: dict[str, Tensor] = {}
        for number, hr in enumerate(crops_of_photo(photo, _side(self.cut)), start=1):
            lr = round_to_8_bit(REDUCTIONS[self.subject.reduction](hr, self.subject.scale))
            picture = Picture(name=files.name, hr=hr, lr=lr, reduction=self.subject.reduction)
            drawn = self._draw_methods(lr)
            for method, (image, other) in drawn.items():
                measured = self._measure_crop(image, other, picture)
                row = {"picture": files.name, "crop": str(number), "method": method}
                rows.append({**row, **measured})
                if method == BICUBIC and measured["psnr"] < worst:
                    worst = measured["psnr"]
                    images = {PHOTOGRAPH: hr}
                    images |= {name: first for name, (first, _) in drawn.items()}
        if files.name in self.shown:
            paths = self.image_files(files.name)
            for method, image in images.items():
                write_png(paths[method], shown_pixels(image))
        return rows

    def _draw_methods(self, lr: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """For each method, its image and the one of the next seed."""
        bicubic = enlarge_bicubic(lr, self.subject.scale)
        images = {BICUBIC: (bicubic, bicubic)}
        if self.subject.encoder is not None:
            image = self.subject.encoder(lr)
            images[ENCODER] = (image, image)
        if self.subject.flow is not None:
            sample = self.subject.sampler(lr)
            for tau in self.taus:
                image = sample(tau, 0)
                images[f"tau {tau}"] = (image, image if tau.is_zero else sample(tau, 1))
        return images

    def _measure_crop(self, image: Tensor, other: Tensor, picture: Picture) -> dict[str, float]:
        row = {}
        for metric in self.metrics:
            row[metric.name] = metric.measure(image, picture, self.convention)
        row["sample_difference"] = figures.sample_difference(image, other)
        row["colour_shift"] = figures.colour_shift(image, picture.hr)
        row[NONFINITE] = float(figures.nonfinite(image))
        return row

    def average(self, rows: Sequence[Row]) -> dict[str, dict[str, float]]:
        """Means over the crops by method; of values that are not finite the sum."""
        means = {}
        for method in self.methods:
            of_method = [row for row in rows if row["method"] == method]
            means[method] = mean_of(of_method, list(self.columns()))
            means[method][NONFINITE] = sum(float(row[NONFINITE]) for row in of_method)
        return means

    def image_files(self, picture: str) -> dict[str, Path]:
        """Where a photograph's crop is written, by method."""
        paths = {}
        for method in (PHOTOGRAPH, *self.methods):
            name = re.sub(r"[^\w.]+", "-", method).strip("-")
            paths[method] = self.out / "crops" / picture / f"{name}.png"
        return paths

    def choose_crop(self, picture: str, rows: Sequence[Row]) -> ShownCrop:
        """The crop of a photograph that is shown."""
        of_picture = [row for row in rows if row["picture"] == picture]
        of_bicubic = [row for row in of_picture if row["method"] == BICUBIC]
        worst = min(of_bicubic, key=lambda row: float(row["psnr"]))["crop"]
        psnr = {}
        for row in of_picture:
            if row["crop"] == worst:
                psnr[str(row["method"])] = float(row["psnr"])
        return ShownCrop(picture=picture, images=self.image_files(picture), psnr=psnr)


def _side(cut: Cut) -> int:
    return min(SIDE, cut.centre or SIDE)


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
