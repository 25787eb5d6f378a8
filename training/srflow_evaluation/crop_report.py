"""The table of the protocol `report`: a model on 256×256 crops, next to bicubic interpolation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from srflow_evaluation.devices import from_cpu
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.subjects import Subject, open_subject
from srflow_evaluation.tables import Table
from srflow_sdk.errors import ImageError
from srflow_sdk.model.manifest import Reduction
from srflow_training import figures
from srflow_training._lpips import LPIPS, MISSING
from srflow_training._vgg16 import VGG16Features
from srflow_training.data import image_files, read_photo, to_image
from srflow_training.resampling import REDUCTIONS, enlarge_bicubic, round_to_8_bit

SIDE = 256
"""Pixels a side of a crop if nothing else is asked for."""

_ALWAYS = ("psnr", "sample_difference", "colour_shift", "nonfinite")
"""Figures that are measured whatever was asked for."""

DEFAULT_TAUS = tuple(LevelTaus((tau,)) for tau in (0.0, 0.5, 0.8, 0.9, 1.0))


@dataclass(frozen=True, kw_only=True)
class Row:
    """Means over all crops for one method, as :mod:`srflow_training.figures` defines them.

    None: not asked for, or what it needs is not here. psnr, ssim: RGB, y_psnr: luma; all without a border of `scale`
    pixels. lpips, gmsd, vgg16_feature_distance: lower is better. haarpsi: higher is better. lr_psnr: of the reduced
    output against the LR input, dB. sample_difference, colour_shift: /255. nonfinite: total over all crops; a bundle's
    runtime raises instead.
    """

    method: str
    psnr: float
    lpips: float | None = None
    y_psnr: float | None = None
    ssim: float | None = None
    gmsd: float | None = None
    haarpsi: float | None = None
    vgg16_feature_distance: float | None = None
    lr_psnr: float | None = None
    sample_difference: float
    colour_shift: float
    nonfinite: int


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The metrics that are networks; None: not measured."""

    lpips: LPIPS | None = None
    vgg16: figures.Features | None = None

    @classmethod
    def open(cls, vgg16: Path | None, device: str = "cpu") -> Networks:
        """Open LPIPS's from the cache folder, and `vgg16` as :meth:`VGG16Features.open` does. Raises: SRFlowError."""
        return cls(
            lpips=LPIPS.for_measuring(device),
            vgg16=None if vgg16 is None else from_cpu(VGG16Features.open(vgg16).to(device)),
        )

    def missing(self, side: int, metrics: Sequence[str]) -> list[str]:
        """Sentences on what is not measured of crops, unless only some metrics were asked for."""
        if metrics:
            return []
        return [] if self.lpips is not None else [MISSING]


def crops_of(folder: Path) -> list[Tensor]:
    """Cut a folder's photographs into whole 256×256 crops, centred as a grid: 1×3×256×256 in [0, 1].

    Raises: ImageError if the folder has no image of that size.
    """
    crops = [crop for path in image_files(folder) for crop in crops_of_photo(to_image(read_photo(path)), SIDE)]
    if not crops:
        raise ImageError(f"{folder}: no image is at least {SIDE}×{SIDE} pixels: name a folder with larger ones")
    return crops


def crops_of_photo(photo: Tensor, side: int) -> list[Tensor]:
    """Cut an image 1×3×H×W into whole crops of `side` pixels, centred as a grid, row by row; none if it is smaller."""
    starts = [range(size % side // 2, size - side + 1, side) for size in photo.shape[2:]]
    return [photo[..., top : top + side, left : left + side] for top in starts[0] for left in starts[1]]


def report(
    model: str | None,
    folder: Path,
    taus: Sequence[LevelTaus] = DEFAULT_TAUS,
    *,
    vgg16: Path | None = None,
    metrics: Sequence[str] = (),
    device: str = "cpu",
    progress: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Measure bicubic, the encoder's own image (checkpoints only) and the model at every τ (not an RRDB), seed 0.

    LR images are made by the reduction that the model was trained for (else MATLAB's bicubic), and rounded to 8 bits.
    vgg16: a file that :meth:`VGG16Features.open` reads. metrics: those to measure besides PSNR; all if empty.
    Raises: ImageError, BundleError, CheckpointError, DeviceError, ArgumentError for τ that the model does not take.
    """
    crops = crops_of(folder)
    subject = open_subject(model, device=device)
    for tau in taus:
        subject.check(tau)
    networks = Networks.open(vgg16, device)
    for note in networks.missing(SIDE, metrics):
        progress(note)
    rows: dict[str, list[dict[str, float]]] = {}
    for number, hr in enumerate(crops, start=1):
        progress(f"crop {number} of {len(crops)}")
        for method, (_, measured) in measure_crop(subject, hr, taus, networks, metrics).items():
            rows.setdefault(method, []).append(measured)
    return [mean_row(method, by_crop) for method, by_crop in rows.items()]


@torch.no_grad()
def measure_crop(
    subject: Subject, hr: Tensor, taus: Sequence[LevelTaus], networks: Networks, metrics: Sequence[str] = ()
) -> dict[str, tuple[Tensor, dict[str, float]]]:
    """For each method, its image of a crop 1×3×H×W, and the figures by the names of :class:`Row`."""
    lr = round_to_8_bit(REDUCTIONS[subject.reduction](hr, subject.scale))
    return {
        method: (image, _figures(image, other, hr, lr, subject.reduction, networks, metrics))
        for method, (image, other) in _images(subject, lr, taus).items()
    }


def _images(subject: Subject, lr: Tensor, taus: Sequence[LevelTaus]) -> dict[str, tuple[Tensor, Tensor]]:
    """For each method, its image and the one of the next seed."""
    bicubic = enlarge_bicubic(lr, subject.scale)
    images = {"bicubic": (bicubic, bicubic)}
    if subject.encoder is not None:
        image = subject.encoder(lr)
        images["encoder (L1)"] = (image, image)
    if subject.condition is not None:
        sample = subject.condition(lr)
        for tau in taus:
            image = sample(tau, 0)
            images[f"tau {tau}"] = (image, image if tau.is_zero else sample(tau, 1))
    return images


def _figures(
    image: Tensor,
    other: Tensor,
    hr: Tensor,
    lr: Tensor,
    reduction: Reduction,
    networks: Networks,
    metrics: Sequence[str],
) -> dict[str, float]:
    border = hr.shape[2] // lr.shape[2]
    lpips, vgg16 = networks.lpips, networks.vgg16
    found: dict[str, Callable[[], float]] = {
        "psnr": lambda: figures.psnr(image, hr, border=border),
        "y_psnr": lambda: figures.y_psnr(image, hr, border=border),
        "ssim": lambda: figures.ssim(image, hr, border=border),
        "gmsd": lambda: figures.gmsd(image, hr),
        "haarpsi": lambda: figures.haarpsi(image, hr),
        "lr_psnr": lambda: figures.lr_psnr(image, lr, reduction=reduction),
        "sample_difference": lambda: figures.sample_difference(image, other),
        "colour_shift": lambda: figures.colour_shift(image, hr),
        "nonfinite": lambda: figures.nonfinite(image),
    }
    if lpips is not None:
        found["lpips"] = lambda: figures.lpips(lpips, image, hr)
    if vgg16 is not None:
        found["vgg16_feature_distance"] = lambda: figures.vgg16_distance(vgg16, image, hr)
    return {name: figure() for name, figure in found.items() if not metrics or name in (*_ALWAYS, *metrics)}


def mean_row(method: str, by_crop: Sequence[Mapping[str, float]]) -> Row:
    """The means of a method's figures over crops, and the sum of `nonfinite`."""
    means: dict[str, Any] = {name: float(np.mean([row[name] for row in by_crop])) for name in by_crop[0]}
    return Row(method=method, **{**means, "nonfinite": int(sum(row["nonfinite"] for row in by_crop))})


_COLUMNS = (
    ("psnr", "PSNR, dB ↑", ".2f"),
    ("lpips", "LPIPS ↓", ".4f"),
    ("y_psnr", "Y-PSNR, dB ↑", ".2f"),
    ("ssim", "SSIM ↑", ".4f"),
    ("gmsd", "GMSD ↓", ".4f"),
    ("haarpsi", "HaarPSI ↑", ".3f"),
    ("vgg16_feature_distance", "VGG16 feature distance ↓", ".4f"),
    ("lr_psnr", "LR-PSNR, dB ↑", ".1f"),
    ("sample_difference", "difference of two samples, /255", ".1f"),
    ("colour_shift", "colour shift, /255", ".2f"),
    ("nonfinite", "not finite", "d"),
)


def headings(rows: Sequence[Row]) -> dict[str, str]:
    """Headings of the figures that were measured, by their names."""
    return {name: heading for name, heading, _ in _COLUMNS if getattr(rows[0], name) is not None}


def shown_method(method: str) -> str:
    """The name of a method as tables and the page write it: τ 0.8 for tau 0.8."""
    return f"τ {method.removeprefix('tau ')}" if method.startswith("tau ") else method


def table(rows: Sequence[Row], notes: Sequence[str] = ()) -> Table:
    """A line for each method; a figure that was not measured has no column."""
    columns = headings(rows)
    cells = [
        [shown_method(row.method), *(format(getattr(row, name), form) for name, _, form in _COLUMNS if name in columns)]
        for row in rows
    ]
    return Table(["method", *columns.values()], cells, notes)


def markdown(rows: Sequence[Row]) -> str:
    """Format the rows as a Markdown table; a figure that was not measured has no column."""
    return str(table(rows))


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Make the rows JSON-ready; a figure that was not measured has no entry."""
    return [{name: value for name, value in asdict(row).items() if value is not None} for row in rows]
