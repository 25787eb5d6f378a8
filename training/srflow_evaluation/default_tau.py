"""The protocol `default-tau`: choose a bundle's temperature on many kinds of content."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from srflow_evaluation.bench import open_networks
from srflow_evaluation.crops import crops_of
from srflow_evaluation.damages import Damage, generator_of
from srflow_evaluation.metrics import Convention
from srflow_evaluation.models import check_device
from srflow_evaluation.options import Options
from srflow_evaluation.output import markdown_table
from srflow_evaluation.pictures import Cut, to_array, to_tensor
from srflow_sdk import Bundle, Upscaler
from srflow_sdk.drawing.temperature import REACH, texture
from srflow_sdk.errors import ArgumentError, ImageError, MissingExtraError
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.system.local_files import write_atomically
from srflow_training import figures
from srflow_training.data import image_files, to_image, to_pixels
from srflow_training.lpips_weights import HOW
from srflow_training.resampling import REDUCTIONS, enlarge_bicubic, round_to_8_bit

TAUS = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 1.0)
"""Temperatures that are tried."""

LEAST_LR_PSNR = 45.0
"""Consistency with the LR image, in dB, that a default keeps on every kind of content, or nearly
what 0 has there."""

MOST_SPECKS = 5.0
"""Specks in 10,000 pixels (:func:`figures.specks`), beyond those at 0, that a default may draw in
any crop."""

DAMAGES = ("jpeg:60", "jpeg:85", "noise:5", "noise:8+jpeg:85")
"""The damages of LR images, crop by crop in turn, for a model that removes damage."""

FIGURES = {
    "psnr": ("RGB PSNR in dB", ".2f"),
    "lpips": ("LPIPS", ".4f"),
    "lr_psnr": ("LR-PSNR in dB", ".1f"),
    "specks": ("specks in 10,000 pixels", ".1f"),
    "gmsd": ("GMSD", ".4f"),
    "haarpsi": ("1 - HaarPSI", ".4f"),
}
"""What is measured, in the order of a cell: what it is, and its format."""

_Method = tuple[float | None, bool]  # a temperature, or bicubic; whether texture scales it
_METHODS = [(0.0, False), *((tau, auto) for tau in TAUS[1:] for auto in (False, True))]
_CROPS_OF_A_KIND = 12
# dB below what a kind has at 0, where that is hardly more than LEAST_LR_PSNR, or less
_LR_PSNR_SLACK = 2.0
# nobody sees this difference; flat areas have hardly any error in bicubic
_LPIPS_SLACK = 0.005


@dataclass(frozen=True, kw_only=True)
class Point:
    """A kind of content at a temperature.

    Attributes:
        tau: None for bicubic interpolation.
        auto: whether the picture's texture scaled it.
        figures: means over the crops by the names of FIGURES; of specks the most of any crop,
            beyond those at 0.
    """

    kind: str
    tau: float | None
    auto: bool
    figures: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A chosen temperature, with its measurements.

    Attributes:
        reason: one sentence for people.
    """

    tau: float
    auto: bool
    reason: str
    points: tuple[Point, ...]

    def __str__(self) -> str:
        return f"default tau {self.tau:g}{', auto' if self.auto else ''}: {self.reason}"


def default_tau(options: Options) -> str:
    """Choose a bundle's temperature and write it into its manifest, or into another bundle's.

    Returns what is printed.

    Raises:
        SRFlowError.
    """
    model = options.model
    if model is None:
        raise ArgumentError("default-tau changes a bundle: name it with --model BUNDLE")
    bundle = Bundle.open(model)
    target = options.output or bundle.path
    if options.output is not None and target.exists():
        raise ArgumentError(f"-o {target} already exists: name another bundle, or delete it")
    if options.smoothed:
        manifest = dataclasses.replace(bundle.manifest, smoothed=True)
        bundle = dataclasses.replace(bundle, manifest=manifest)
    points = measure(bundle, options)
    choice = choose(points, removes_damage=bundle.manifest.removes_damage)
    if not options.dry_run:
        write(bundle, choice, target)
    names = ", ".join(name for name, _ in FIGURES.values())
    written = f"{model}, not changed" if options.dry_run else str(options.output or model)
    return (
        f"{markdown(choice)}\n\n{names}; of those in dB more is better, else less.\n{written}: "
        f"{choice}"
    )


def kinds_in(folder: Path, cut: Cut) -> dict[str, list[Tensor]]:
    """Up to twelve crops 1×3×256×256 in [0, 1] of each subfolder with images, or of the folder.

    Args:
        cut: of photographs, if it has a centre: see :func:`crops_of`.

    Raises:
        ImageError: if there is no image, or none is large enough.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder")
    kinds = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and _has_images(path):
            kinds[path.name] = path
    if not kinds:
        kinds[folder.name] = folder
    return {name: _some_crops(path, cut) for name, path in kinds.items()}


def measure(bundle: Bundle, options: Options) -> list[Point]:
    """Measure bicubic and the model at every temperature, fixed and "auto", on every kind.

    LR images are made as those that the model was trained on; of one that removes damage they have
    :data:`DAMAGES`.

    Raises:
        ImageError.
        BundleError.
        ArgumentError.
        MissingExtraError: if LPIPS's weights are not on this machine.
    """
    check_device(options.device)
    manifest = bundle.manifest
    convention, _ = open_networks(options, manifest.scale, manifest.reduction)
    if convention.lpips is None:
        raise MissingExtraError(
            f"the default temperature is chosen by LPIPS, whose weights are missing: {HOW}"
        )
    points: list[Point] = []
    multiple = manifest.scale * manifest.size_multiple
    cut = Cut(scale=manifest.scale, multiple=multiple, centre=options.centre)
    kinds = kinds_in(options.hr, cut)
    with Upscaler(bundle, device=options.device, tile=None) as upscaler:
        for done, (kind, crops) in enumerate(kinds.items(), start=1):
            options.progress(f"{kind}, {done} of {len(kinds)} kinds, {len(crops)} crops")
            points += _measure_kind(upscaler, convention, kind, crops)
    return points


def _measure_kind(
    upscaler: Upscaler,
    convention: Convention,
    kind: str,
    crops: Sequence[Tensor],
) -> list[Point]:
    rows: dict[_Method, list[dict[str, float]]] = {}
    for number, hr in enumerate(crops):
        damage = DAMAGES[number % len(DAMAGES)]
        lr = _reduce(upscaler.bundle.manifest, hr, f"{kind}/{number}", damage)
        for method, image in _draw_methods(upscaler, lr):
            rows.setdefault(method, []).append(_figures(image, hr, lr, convention))
    return _average(kind, rows)


def _reduce(manifest: Manifest, hr: Tensor, name: str, damage: str) -> Tensor:
    """The LR image of a crop, damaged for a model that removes damage."""
    lr = round_to_8_bit(REDUCTIONS[manifest.reduction](hr, manifest.scale))
    if not manifest.removes_damage:
        return lr
    return to_image(Damage.parse(damage).of(to_pixels(lr), generator_of(name)))


def _draw_methods(upscaler: Upscaler, lr: Tensor) -> Iterator[tuple[_Method, Tensor]]:
    """Yield bicubic's image, and the model's at every temperature."""
    yield (None, False), enlarge_bicubic(lr, upscaler.scale)
    encoding = upscaler.encode(to_array(lr))
    around = ((0, 0), (REACH, REACH), (REACH, REACH))
    places = texture(np.pad(lr[0].numpy(), around, mode="edge"))
    for tau, auto in _METHODS:
        image = encoding.sample(tau=tau * places if auto else tau)
        yield (tau, auto), to_tensor(image)


def choose(points: Sequence[Point], *, removes_damage: bool = False) -> Choice:
    """Choose the temperature, fixed or "auto", with the least LPIPS, averaged over the kinds.

    Of equals, "auto" is chosen.

    On every kind it must be no worse than bicubic, or than 0, by LPIPS, draw at most
    :data:`MOST_SPECKS`, and keep :data:`LEAST_LR_PSNR`, or all but two decibels of what 0 has.

    Args:
        removes_damage: of the model; its pictures need not be consistent with the input.
    """
    by_kind: dict[str, dict[_Method, Point]] = {}
    for point in points:
        by_kind.setdefault(point.kind, {})[point.tau, point.auto] = point

    def lpips(method: tuple[float, bool]) -> float:
        return float(np.mean([kind[method].figures["lpips"] for kind in by_kind.values()]))

    def preference(method: tuple[float, bool]) -> float:
        return lpips(method) - _LPIPS_SLACK * method[1]

    consistent = not removes_damage
    objections = {}
    for method in _METHODS:
        of_kinds = {name: _objection(kind, *method, consistent) for name, kind in by_kind.items()}
        objections[method] = ", ".join(f"{why} on {name}" for name, why in of_kinds.items() if why)
    allowed = [method for method in _METHODS if not objections[method]]
    tau, auto = min(allowed, key=preference)
    reason = (
        f"the least LPIPS, {lpips((tau, auto)):.4f} on average, where 0 has "
        f"{lpips((0.0, False)):.4f}; of temperatures that draw at most {MOST_SPECKS:g} specks in "
        "10,000 pixels and are no worse than bicubic by LPIPS on any kind"
    )
    if consistent:
        reason += f", and keep {LEAST_LR_PSNR:g} dB of LR-PSNR, or nearly what 0 has"
    least = min(_METHODS, key=lpips)
    if lpips(least) < lpips((tau, auto)):
        why = objections[least] or "auto is preferred where nobody sees the difference"
        reason += f"; {_point_label(*least)} has {lpips(least):.4f}, but was left out: {why}"
    return Choice(tau=tau, auto=auto, reason=reason, points=tuple(points))


def write(bundle: Bundle, choice: Choice, target: Path) -> Bundle:
    """Write the choice into the bundle's manifest, without the former one's intervals.

    The model's sha256 changes.

    Args:
        target: the bundle's own folder, or that of a copy, which gets the choice instead.

    Raises:
        BundleError.
        OSError.
    """
    manifest = dataclasses.replace(
        bundle.manifest,
        default_tau=choice.tau,
        auto_tau=choice.auto,
        intervals=None,
        provenance={**bundle.manifest.provenance, "default_tau": choice.reason},
    )
    content = manifest.to_json().encode()
    if target == bundle.path:
        write_atomically(target / "manifest.json", content)
        return Bundle.open(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as staged:
        copy = shutil.copytree(bundle.path, Path(staged, "bundle"))
        write_atomically(copy / "manifest.json", content)
        copy.rename(target)
    return Bundle.open(target)


def markdown(choice: Choice) -> str:
    """The figures around the choice as a Markdown table, a row for each kind.

    Columns: bicubic, 0, the choice and the next τ.
    """
    near = list(TAUS[-2:])
    if choice.tau < TAUS[-1]:
        near = [tau for tau in TAUS if tau > 0 and tau >= choice.tau][:2]
    methods: list[_Method] = [(None, False), (0.0, False)]
    methods += [(tau, auto) for tau in near for auto in (False, True)]
    cells = {}
    for point in choice.points:
        figures_of = [f"{point.figures[name]:{form}}" for name, (_, form) in FIGURES.items()]
        cells[point.kind, point.tau, point.auto] = ", ".join(figures_of)
    kinds = dict.fromkeys(point.kind for point in choice.points)
    rows = [[kind, *(cells[kind, tau, auto] for tau, auto in methods)] for kind in kinds]
    headings = ["bicubic" if tau is None else _point_label(tau, auto) for tau, auto in methods]
    return markdown_table(["kind", *headings], rows)


def _point_label(tau: float, auto: bool) -> str:
    return f"{'auto' if auto else 'tau'} {tau:g}"


def _has_images(folder: Path) -> bool:
    try:
        return bool(image_files(folder))
    except ImageError:
        return False


def _some_crops(folder: Path, cut: Cut) -> list[Tensor]:
    crops = crops_of(folder, cut)
    places = np.linspace(0, len(crops) - 1, _CROPS_OF_A_KIND)
    chosen = np.unique(places.round().astype(int))
    return [crops[number] for number in chosen]


def _objection(kind: Mapping[_Method, Point], tau: float, auto: bool, consistent: bool) -> str:
    """Why a temperature is not allowed on a kind of content, with its figure; "" if it is."""
    own = kind[tau, auto].figures
    zero = kind[0.0, False].figures
    bicubic = kind[None, False].figures
    if own["specks"] > MOST_SPECKS:
        return f"{own['specks']:.1f} specks"
    least_lr_psnr = min(LEAST_LR_PSNR, zero["lr_psnr"] - _LR_PSNR_SLACK)
    if consistent and own["lr_psnr"] < least_lr_psnr:
        return f"LR-PSNR of {own['lr_psnr']:.1f} dB"
    most_lpips = max(bicubic["lpips"] + _LPIPS_SLACK, zero["lpips"])
    if own["lpips"] > most_lpips:
        return f"LPIPS of {own['lpips']:.4f}"
    return ""


def _figures(image: Tensor, hr: Tensor, lr: Tensor, convention: Convention) -> dict[str, float]:
    assert convention.lpips is not None  # measure() has refused to begin without it
    return {
        "psnr": figures.psnr(image, hr, border=convention.border),
        "lpips": figures.lpips(convention.lpips, image, hr),
        "lr_psnr": figures.lr_psnr(image, lr, reduction=convention.reduction),
        "specks": figures.specks(image, hr),
        "gmsd": figures.gmsd(image, hr),
        "haarpsi": 1 - figures.haarpsi(image, hr),
    }


def _average(kind: str, rows: Mapping[_Method, Sequence[Mapping[str, float]]]) -> list[Point]:
    """Means over the crops of a kind; of specks the most of any crop, beyond those at 0."""
    points = []
    for (tau, auto), by_crop in rows.items():
        means = {name: float(np.mean([row[name] for row in by_crop])) for name in FIGURES}
        specks = [
            row["specks"] - at_zero["specks"]
            for row, at_zero in zip(by_crop, rows[0.0, False], strict=True)
        ]
        means["specks"] = max(specks)
        points.append(Point(kind=kind, tau=tau, auto=auto, figures=means))
    return points
