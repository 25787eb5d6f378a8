"""The figures of the protocol `report` crop by crop, in a folder: resumable, with pictures to compare."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from srflow_evaluation.crop_report import SIDE, Networks, Row, crops_of_photo, headings, mean_row, measure_crop, to_json
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.pictures import Cut, PictureFiles
from srflow_evaluation.results import Results
from srflow_evaluation.results import Row as Line
from srflow_evaluation.sheets import shown_pixels
from srflow_evaluation.subjects import Subject
from srflow_sdk.errors import ImageError
from srflow_sdk.system.local_files import write_atomically
from srflow_training.data import read_photo, to_image
from srflow_training.data._images import size_of

MOST_SHOWN = 8
"""The largest number of photographs that have a crop to compare."""

PHOTOGRAPH, BICUBIC = "photograph", "bicubic"
"""Names of images to compare that are not the model's."""

_TEXT = ("picture", "crop", "method")


@dataclass(frozen=True, kw_only=True)
class ShownCrop:
    """The crop of a photograph that bicubic renders worst.

    images: PNG files by method, the photograph's own first. psnr: RGB PSNR by method, dB.
    """

    picture: str
    images: Mapping[str, Path]
    psnr: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class CropFigures:
    """Figures of a folder. rows: means over `crops` crops. notes: the convention first. names: the photographs'."""

    rows: Sequence[Row]
    crops: int
    names: Sequence[str]
    notes: Sequence[str]
    shown: Sequence[ShownCrop]


def side_of_crops(cut: Cut) -> int:
    """Pixels a side of the crops: 256, or the centre that is cut out if that is less."""
    return min(SIDE, cut.centre or SIDE)


def large_enough(pictures: Sequence[PictureFiles], cut: Cut) -> list[PictureFiles]:
    """The photographs that hold a whole crop. Raises: ImageError for a file that cannot be read."""
    return [files for files in pictures if min(size_of(files.hr)) >= side_of_crops(cut)]


def too_small(cut: Cut) -> str:
    """Say that no photograph holds a whole crop, and what to do."""
    side = side_of_crops(cut)
    return f"no photograph is at least {side}×{side} pixels: name a folder with larger ones, or a smaller --crop"


def measure_crops(
    subject: Subject,
    pictures: Sequence[PictureFiles],
    cut: Cut,
    taus: Sequence[LevelTaus],
    *,
    networks: Networks,
    metrics: Sequence[str],
    out: Path,
    settings: Mapping[str, Any],
    progress: Callable[[str], None],
) -> CropFigures:
    """Measure bicubic and the model on all whole crops; write results.csv, summary.json and crops/ into `out`.

    Crops have 256 pixels a side, or `cut.centre` if that is less. metrics: as for
    :func:`report`. settings: all that `out` depends on besides.
    Raises: ImageError if no photograph is that large, ArgumentError if `out` holds something else.
    """
    side = side_of_crops(cut)
    measured = large_enough(pictures, cut)
    if not measured:
        raise ImageError(too_small(cut))
    shown = {measured[number * len(measured) // MOST_SHOWN].name for number in range(MOST_SHOWN)}
    shown = {files.name for files in measured} if len(measured) <= MOST_SHOWN else shown
    levels = [str(tau) for tau in taus]
    results = Results(out, {**settings, "measured": "crops", "side": side, "taus": levels})

    def rows_of(files: PictureFiles) -> list[Line]:
        photo = to_image(read_photo(files.hr))
        rows, columns = cut.window(*photo.shape[2:])
        photo = photo if cut.centre is None else photo[..., rows, columns]
        lines: list[Line] = []
        worst, images = float("inf"), dict[str, Tensor]()
        for number, hr in enumerate(crops_of_photo(photo, side), start=1):
            of_crop = measure_crop(subject, hr, taus, networks, metrics)
            for method, (_, figures) in of_crop.items():
                lines.append({"picture": files.name, "crop": str(number), "method": method, **_as_floats(figures)})
            if of_crop[BICUBIC][1]["psnr"] < worst:
                worst = of_crop[BICUBIC][1]["psnr"]
                images = {PHOTOGRAPH: hr, **{method: image for method, (image, _) in of_crop.items()}}
        if files.name in shown:
            for method, image in images.items():
                _write_png(_image_file(out, files.name, method), image)
        return lines

    methods = _methods(subject, taus)
    for files in measured:
        if files.name in shown and not all(_image_file(out, files.name, method).is_file() for method in methods):
            results.forget(files.name)  # its crop is drawn where it is measured
    lines = results.measure(measured, rows_of, progress)
    by_method: dict[str, list[Mapping[str, float]]] = {}
    for line in lines:
        by_method.setdefault(str(line["method"]), []).append(_as_floats(line))
    means = [mean_row(method, figures) for method, figures in by_method.items()]
    found = CropFigures(
        rows=means,
        crops=len(lines) // len(by_method),
        names=[files.name for files in measured],
        notes=[
            _convention(subject, side),
            *_left_out(len(pictures) - len(measured), side),
            *networks.missing(side, metrics),
        ],
        shown=[_shown(out, files.name, lines, methods) for files in measured if files.name in shown],
    )
    results.write_summary(
        {
            "protocol": "report",
            "model": subject.name,
            "model_sha256": subject.sha256,
            "scale": subject.scale,
            "pictures": len(measured),
            "crops": found.crops,
            "convention": found.notes[0],
            "metrics": headings(means),
            "notes": found.notes[1:],
            "rows": to_json(means),
        }
    )
    return found


def _methods(subject: Subject, taus: Sequence[LevelTaus]) -> list[str]:
    encoder = [] if subject.encoder is None else ["encoder (L1)"]
    return [PHOTOGRAPH, BICUBIC, *encoder, *(f"tau {tau}" for tau in taus if subject.condition is not None)]


def _as_floats(line: Mapping[str, str | float]) -> dict[str, float]:
    """The figures of a line, all as they are read from results.csv again: the same bytes however a run was stopped."""
    return {name: float(value) for name, value in line.items() if name not in _TEXT}


def _shown(out: Path, picture: str, lines: Sequence[Line], methods: Sequence[str]) -> ShownCrop:
    of_picture = [line for line in lines if line["picture"] == picture]
    of_bicubic = [line for line in of_picture if line["method"] == BICUBIC]
    worst = min(of_bicubic, key=lambda line: float(line["psnr"]))["crop"]
    return ShownCrop(
        picture=picture,
        images={method: _image_file(out, picture, method) for method in methods},
        psnr={str(line["method"]): float(line["psnr"]) for line in of_picture if line["crop"] == worst},
    )


def _image_file(out: Path, picture: str, method: str) -> Path:
    name = re.sub(r"[^\w.]+", "-", method).strip("-")
    return out / "crops" / picture / f"{name}.png"


def _write_png(path: Path, image: Tensor) -> None:
    content = io.BytesIO()
    shown: Image.Image = shown_pixels(image)
    shown.save(content, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())


def _left_out(count: int, side: int) -> list[str]:
    """A sentence on photographs without a crop, if there are any."""
    if not count:
        return []
    which = "1 photograph is" if count == 1 else f"{count} photographs are"
    return [f"{which} smaller than {side}×{side} pixels and not among these figures."]


def _convention(subject: Subject, side: int) -> str:
    return (
        f"Convention: means over all whole {side}×{side} crops, of 8-bit RGB. LR images are the {subject.reduction} "
        f"reduction of the crops. PSNR over the three channels, Y-PSNR of BT.601 luma, SSIM with a Gaussian "
        f"11×11 window (σ 1.5) for each channel, averaged, all without a border of {subject.scale} pixels; LR-PSNR of "
        f"the {subject.reduction} reduction, rounded to 8 bits, without a border of 1 LR pixel; the others of whole "
        "crops. Difference of two samples: mean absolute, seeds 0 and 1. Colour shift: between the means of channels."
    )
