"""Choose a bundle's default temperature on many kinds of content: the protocol `default-tau` of `srflow-eval`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from srflow_sdk import Bundle, Upscaler
from srflow_sdk._drawing.auto_tau import REACH, texture
from srflow_sdk._system.atomic import write_atomically
from srflow_sdk.errors import ImageError
from srflow_training import figures
from srflow_training._lpips import MISSING
from srflow_training.data import image_files
from srflow_training.evaluation import crops_of
from srflow_training.evaluation.crop_report import Networks
from srflow_training.evaluation.devices import Device, check_device
from srflow_training.evaluation.tables import markdown_table
from srflow_training.resampling import REDUCTIONS, enlarge_bicubic, round_to_8_bit

TAUS = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Temperatures that are tried."""

KEPT = 0.85
"""Share of the gain over bicubic interpolation that the default temperature keeps, on every kind and measure."""

_METHODS = [(0.0, False), *((tau, auto) for tau in TAUS[1:] for auto in (False, True))]
_CROPS_OF_A_KIND = 8
_LEAST_GAIN = 0.1  # of bicubic's error; below, a model is no better on this content and has nothing to keep
_SLACK_DB = 0.05


@dataclass(frozen=True, kw_only=True)
class Point:
    """Means over a kind's crops. error: how far from the photograph by each measure; 0 is equality.

    tau: None for bicubic interpolation. auto: whether the picture's texture scaled it.
    """

    kind: str
    tau: float | None
    auto: bool
    psnr: float
    error: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was measured and chosen. reason: one sentence for people."""

    tau: float
    auto: bool
    reason: str
    points: tuple[Point, ...]

    def __str__(self) -> str:
        return f"default tau {self.tau:g}{', auto' if self.auto else ''}: {self.reason}"


def kinds_in(folder: Path) -> dict[str, list[npt.NDArray[np.float32]]]:
    """Up to eight crops 3×256×256 in [0, 1] of each subfolder, or of the folder itself if it has none with images.

    Raises: ImageError if there is no image, or none is large enough.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder")
    kinds = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and _has_images(path)}
    return {name: _some_crops(path) for name, path in (kinds or {folder.name: folder}).items()}


def measure(
    bundle: Bundle,
    folder: Path,
    *,
    vgg16: Path | None = None,
    device: Device = "cpu",
    progress: Callable[[str], None] = lambda _: None,
) -> list[Point]:
    """Measure bicubic interpolation and the model at every temperature, fixed and "auto", on every kind of content.

    LR images are made as those that the model was trained on. vgg16: a file that :meth:`VGG16Features.open` reads.
    LPIPS is the first measure, where its weights are in the cache folder.
    Raises: ImageError, BundleError, ArgumentError.
    """
    check_device(device)
    networks = Networks.open(vgg16, device)
    if networks.lpips is None:
        progress(MISSING)
    manifest = bundle.manifest
    points = []
    kinds = kinds_in(folder)
    with Upscaler(bundle, device=device, tile=None) as upscaler:
        for done, (kind, crops) in enumerate(kinds.items()):
            progress(f"{kind}, {done + 1} of {len(kinds)} kinds, {len(crops)} crops")
            rows: dict[tuple[float | None, bool], list[dict[str, float]]] = {}
            for crop in crops:
                hr = torch.from_numpy(crop)[None]
                lr = round_to_8_bit(REDUCTIONS[manifest.reduction](hr, manifest.scale))
                bicubic = enlarge_bicubic(lr, manifest.scale)
                rows.setdefault((None, False), []).append(_figures(bicubic, hr, manifest.scale, networks))
                encoding = upscaler.encode(lr[0].permute(1, 2, 0).contiguous().numpy())
                around = ((0, 0), (REACH, REACH), (REACH, REACH))
                places = texture(np.pad(lr[0].numpy(), around, mode="edge"))
                for tau, auto in _METHODS:
                    temperature = tau * places if auto else tau
                    image = torch.from_numpy(encoding.sample(tau=temperature)).permute(2, 0, 1)[None]
                    rows.setdefault((tau, auto), []).append(_figures(image, hr, manifest.scale, networks))
            points += [_mean(kind, tau, auto, by_crop) for (tau, auto), by_crop in rows.items()]
    return points


def choose(points: Sequence[Point]) -> Choice:
    """Choose the largest temperature that keeps :data:`KEPT` of the gain over bicubic on every kind and measure.

    "auto" wins if it allows a larger one at which no kind is worse than with the same fixed temperature: by 0.05 dB of
    PSNR, or by the mean of the other measures, each relative to bicubic's error.
    """
    by_method = {(point.kind, point.tau, point.auto): point for point in points}
    kinds = sorted({point.kind for point in points})
    fixed, auto = (_largest(by_method, kinds, auto=value) for value in (False, True))
    worse = [
        kind
        for kind in kinds
        if auto and _worse(by_method[kind, auto, True], by_method[kind, auto, False], by_method[kind, None, False])
    ]
    wins = auto > fixed and not worse
    number = auto if wins else fixed
    reason = f"the largest that keeps {KEPT:.0%} of the gain over bicubic on every kind and by every measure"
    if wins:
        reason += f"; auto, because a fixed one keeps that only up to {fixed:g}"
    elif worse:
        reason += f"; not auto, which is worse than {auto:g} on {', '.join(worse)}"
    else:
        reason += "; not auto, which allows no larger one"
    return Choice(tau=number, auto=wins, reason=reason, points=tuple(points))


def write(bundle: Bundle, choice: Choice) -> Bundle:
    """Write the choice into the bundle's manifest, which changes the model's sha256. Raises: BundleError, OSError."""
    provenance = {**bundle.manifest.provenance, "default_tau": choice.reason}
    manifest = dataclasses.replace(bundle.manifest, default_tau=choice.tau, auto_tau=choice.auto, provenance=provenance)
    write_atomically(bundle.path / "manifest.json", manifest.to_json().encode())
    return Bundle.open(bundle.path)


def to_json(choice: Choice) -> list[dict[str, Any]]:
    """What was measured, JSON-ready."""
    return [dataclasses.asdict(point) for point in choice.points]


def markdown(choice: Choice) -> str:
    """The figures around the choice as a Markdown table: a row for each kind; bicubic, 0, the choice and the next τ."""
    near = [tau for tau in TAUS if tau > 0 and tau >= choice.tau][:2]
    methods: list[tuple[float | None, bool]] = [(None, False), (0.0, False)]
    methods += [(tau, auto) for tau in near for auto in (False, True)]
    cells = {(point.kind, point.tau, point.auto): _cell(point) for point in choice.points}
    kinds = dict.fromkeys(point.kind for point in choice.points)
    rows = [[kind, *(cells[kind, tau, auto] for tau, auto in methods)] for kind in kinds]
    return markdown_table(["kind", *("bicubic" if tau is None else _named(tau, auto) for tau, auto in methods)], rows)


def columns(choice: Choice) -> str:
    """What stands in a cell of the table, as a sentence."""
    return f"RGB PSNR in dB, {', '.join(choice.points[0].error)}; lower is better but for the first."


def _named(tau: float, auto: bool) -> str:
    return f"{'auto' if auto else 'tau'} {tau:g}"


def _cell(point: Point) -> str:
    return ", ".join([f"{point.psnr:.2f}", *(f"{error:.4f}" for error in point.error.values())])


def _has_images(folder: Path) -> bool:
    try:
        return bool(image_files(folder))
    except ImageError:
        return False


def _some_crops(folder: Path) -> list[npt.NDArray[np.float32]]:
    crops = crops_of(folder)
    chosen = np.unique(np.linspace(0, len(crops) - 1, _CROPS_OF_A_KIND).round().astype(int))
    return [crops[number][0].numpy() for number in chosen]


def _largest(points: Mapping[tuple[str, float | None, bool], Point], kinds: Sequence[str], *, auto: bool) -> float:
    """The largest temperature that keeps the gain; 0 if none does."""

    def keeps(tau: float) -> bool:
        return all(
            _kept(points[kind, tau, auto and tau > 0].error[name], points, kind, name)
            for kind in kinds
            for name in points[kind, None, False].error
        )

    return max((tau for tau in TAUS if keeps(tau)), default=0.0)


def _kept(error: float, points: Mapping[tuple[str, float | None, bool], Point], kind: str, name: str) -> bool:
    bicubic = points[kind, None, False].error[name]
    least = min(points[kind, method[0], method[1]].error[name] for method in _METHODS)
    gain = bicubic - least
    return gain < _LEAST_GAIN * bicubic or bicubic - error >= KEPT * gain


def _worse(one: Point, other: Point, bicubic: Point) -> bool:
    def relative(point: Point) -> float:
        return sum(
            point.error[name] / max(bicubic.error[name], 1e-4) for name in point.error
        )  # flat areas have no error

    return one.psnr < other.psnr - _SLACK_DB or relative(one) > relative(other)


def _figures(image: Tensor, hr: Tensor, scale: int, networks: Networks) -> dict[str, float]:
    row = {"psnr": figures.psnr(image, hr, border=scale)}
    if networks.lpips is not None:
        row["LPIPS"] = figures.lpips(networks.lpips, image, hr)
    row |= {"GMSD": figures.gmsd(image, hr), "1 - HaarPSI": 1 - figures.haarpsi(image, hr)}
    if networks.vgg16 is not None:
        row["VGG16 feature distance"] = figures.vgg16_distance(networks.vgg16, image, hr)
    return row


def _mean(kind: str, tau: float | None, auto: bool, by_crop: Sequence[Mapping[str, float]]) -> Point:
    means = {name: float(np.mean([row[name] for row in by_crop])) for name in by_crop[0]}
    return Point(kind=kind, tau=tau, auto=auto, psnr=means.pop("psnr"), error=means)
