"""The protocols `calibrate` and `coverage`: how wide intervals must be to hold what they promise.

Conformal risk control (arXiv 2208.02814), by photograph. A value's score is its distance from the
mean in deviations.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from srflow_evaluation.damaged import damaged_lr, parse_damages
from srflow_evaluation.damages import Damage
from srflow_evaluation.models import open_subject
from srflow_evaluation.options import Options
from srflow_evaluation.output import Table
from srflow_evaluation.pictures import Cut, PictureFiles, picture_files, read_picture, to_array
from srflow_sdk import Upscaler
from srflow_sdk.errors import ArgumentError, BundleError
from srflow_sdk.model.manifest import Intervals, Manifest
from srflow_sdk.system.local_files import write_atomically

Array = npt.NDArray[np.float64]

SAMPLES = (4, 8, 16)
COVERAGE = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
CLASSES = (1.0, 2.0, 4.0)
FLOOR = 1.0  # /255: a deviation of 0 is no certainty
LEAST = 40  # photographs that a calibration needs

# the coverage that tables are about; photographs below the other are counted
_SHOWN = 0.9
_BAD = 0.8
_CROP = 256
# factors to choose from
_GRID = np.array([0.0, *(float(f"{value:.3g}") for value in np.geomspace(0.1, 256, 800))])


def calibrate(options: Options) -> Table:
    """Write a bundle's intervals into its manifest, as few photographs allow; return the table.

    Raises:
        SRFlowError.
    """
    return _measure_bundle(options, write=True)


def coverage(options: Options) -> Table:
    """Return the table of what a bundle's intervals hold. Raises: SRFlowError."""
    return _measure_bundle(options, write=False)


def _measure_bundle(options: Options, *, write: bool) -> Table:
    upscaler = open_subject(options.model, device=options.device).upscaler
    if upscaler is None or (options.model is None and write):
        raise ArgumentError("intervals are a bundle's: name it with --model BUNDLE")
    manifest = upscaler.bundle.manifest
    path = upscaler.bundle.path / "manifest.json"
    if manifest.default_tau == 0:
        raise ArgumentError(
            f"{upscaler.bundle.path}: its default temperature is 0, where all samples are the same "
            "and have no intervals: choose another by srflow-eval default-tau"
        )
    cut = cut_of(manifest, options.centre or _CROP)
    files = picture_files(options.hr, cut=cut)
    if write and len(files) < LEAST:
        raise ArgumentError(
            f"--hr has {len(files)} photographs; a calibration needs at least {LEAST}"
        )
    damages = parse_damages(options.degradations) if options.degradations else ()
    scores = measure(upscaler, files, cut, options.progress, damages)
    if not write:
        return table_of(scores, manifest.intervals)
    chosen = choose(scores)
    # so that nothing else changes
    content = json.loads(path.read_bytes())
    content["intervals"] = asdict(chosen)
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
    return table_of(scores, chosen)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Shares of a photograph's values, by class.

    Attributes:
        n: number of samples.
        shares: of values in the class.
        missed: by factor, of those beyond the interval.
        plain: of those in the interval that a normal distribution gives.
    """

    name: str
    n: int
    shares: Array
    missed: Array
    plain: Array

    def measure_held(self, intervals: Intervals) -> Array:
        """Measure the share of values that intervals of 0.9 hold, by class.

        Raises:
            BundleError: if their classes are others than here.
        """
        if (intervals.classes, intervals.floor) != (CLASSES, FLOOR):
            raise BundleError(
                "the intervals are those of another SDK: run srflow-eval calibrate again"
            )
        factors = intervals.factors_of(self.n, _SHOWN)
        places = np.searchsorted(_GRID * (1 - 1e-6), factors, side="right") - 1
        missed = self.missed[np.arange(len(places)), places]
        return np.asarray(self.shares - missed)


def scores_of(
    name: str,
    samples: npt.NDArray[np.float32],
    truth: npt.NDArray[np.float32],
) -> Scores:
    """Compare samples, n×H×W×3 in [0, 1], with the photograph."""
    pictures = np.clip(samples, 0, 1)
    error = np.abs(truth - pictures.mean(axis=0, dtype=np.float64)) * 255
    deviation = pictures.std(axis=0, ddof=1, dtype=np.float64) * 255
    classes = np.digitize(deviation, CLASSES)
    count = len(CLASSES) + 1
    scores = error / (deviation + FLOOR)
    values = []
    missed = []
    for number in range(count):
        of_class = np.sort(scores[classes == number])
        values.append(len(of_class))
        missed.append(len(of_class) - np.searchsorted(of_class, _GRID, side="right"))
    inside = error <= NormalDist().inv_cdf((1 + _SHOWN) / 2) * deviation
    return Scores(
        name=name,
        n=len(samples),
        shares=np.array(values) / error.size,
        missed=np.array(missed) / error.size,
        plain=np.bincount(classes[inside], minlength=count) / error.size,
    )


def cut_of(manifest: Manifest, centre: int) -> Cut:
    """How photographs are cut: to their centres."""
    return Cut(
        scale=manifest.scale,
        multiple=manifest.scale * manifest.size_multiple,
        centre=centre,
    )


def measure(
    upscaler: Upscaler,
    files: Sequence[PictureFiles],
    cut: Cut,
    progress: Callable[[str], None],
    damages: Sequence[Damage] = (),
) -> list[list[Scores]]:
    """Draw each photograph's centre at the default temperature, and compare it.

    Args:
        damages: each photograph's input gets one of them, by turns.

    Returns:
        For each number of :data:`SAMPLES`, the photographs' scores.

    Raises:
        ImageError.
    """
    manifest = upscaler.bundle.manifest
    damages = damages or [Damage(())]
    scores: list[list[Scores]] = [[] for _ in SAMPLES]
    for number, file in enumerate(files):
        picture = read_picture(file, cut, manifest.reduction)
        damage = damages[number % len(damages)]
        progress(f"intervals: {picture.name}, {number + 1} of {len(files)}, {damage}")
        lr = to_array(damaged_lr(picture, damage))
        truth = to_array(picture.hr)
        encoding = upscaler.encode(lr)
        samples: npt.NDArray[np.float32] = np.stack(encoding.samples(max(SAMPLES)))
        for of_count, n in zip(scores, SAMPLES, strict=True):
            of_count.append(scores_of(picture.name, samples[:n], truth))
    return scores


def least_factor(missed: Array, shares: Array, coverage: float) -> int:
    """The place of the smallest factor of a class with which photographs hold their share.

    With one more photograph, of an average share and missed everywhere, the mean must still hold:
    exact for a single class (theorem 1 there).

    Args:
        missed: photographs × factors, ascending; shares of all of a photograph's values.
        shares: by photograph, likewise.
    """
    average = shares.mean()
    allowed = (1 - coverage) * (shares.sum() + average)
    return int(np.argmax(missed.sum(axis=0) + average <= allowed))


def choose(scores: Sequence[Sequence[Scores]]) -> Intervals:
    """Choose the factors, for each coverage that so many photographs can show."""
    count = len(scores[0])
    coverage = tuple(each for each in COVERAGE if (1 - each) * (count + 1) > 1 + 1e-9)
    tables = []
    for photographs in scores:
        missed = np.array([each.missed for each in photographs])
        shares = np.array([each.shares for each in photographs])
        # nothing is known of a class: all classes have the same factor
        if not shares.any(axis=0).all():
            missed[:] = missed.sum(axis=1, keepdims=True)
            shares[:] = 1
        places = [
            [least_factor(missed[:, k], shares[:, k], each) for each in coverage]
            for k in range(len(shares[0]))
        ]
        ascending = np.maximum.accumulate(places, axis=1)
        tables.append(tuple(tuple(_GRID[row].tolist()) for row in ascending))
    return Intervals(
        floor=FLOOR,
        classes=CLASSES,
        samples=SAMPLES,
        coverage=coverage,
        factors=tuple(tables),
        photographs=count,
    )


def _rows_of(photographs: Sequence[Scores], intervals: Intervals | None) -> Iterator[list[str]]:
    """The table's rows of one number of samples."""
    folders = [each.name.rpartition("/")[0] for each in photographs]
    kinds = np.array([folder or "photographs" for folder in folders])
    shares = np.array([each.shares for each in photographs])
    held = [np.array([each.plain for each in photographs])]
    if intervals is not None:
        held.append(np.array([each.measure_held(intervals) for each in photographs]))
    parts = [(kind, kinds == kind, slice(None)) for kind in sorted(set(kinds))]
    edges = (0.0, *CLASSES, 255.0)
    for place in range(len(CLASSES) + 1):
        what = f"deviation {edges[place]:g} to {edges[place + 1]:g}"
        parts.append((what, kinds == kinds, slice(place, place + 1)))
    for what, chosen, classes in parts:
        size = shares[:, classes].sum(axis=1)
        chosen = chosen & (size > 0)
        row = [f"{what}, {photographs[0].n} samples", str(chosen.sum())]
        for of_side in held if chosen.any() else ():
            share = of_side[chosen, classes].sum(axis=1) / size[chosen]
            row += [f"{share.mean():.3f}", str((share < _BAD).sum())]
        yield row


def table_of(scores: Sequence[Sequence[Scores]], intervals: Intervals | None) -> Table:
    """Tell what intervals of 0.9 hold before and after the calibration.

    Rows: kinds of content, then classes of texture, for each number of samples.
    """
    below = f"below {_BAD:g}"
    headings = ["values", "photographs", "before", below, "after", below]
    rows = []
    for photographs in scores:
        for row in _rows_of(photographs, intervals):
            rows.append(row + [""] * (len(headings) - len(row)))
    note = (
        f"What intervals of {_SHOWN:g} hold at the default temperature: the mean over photographs, "
        f"and how many hold less than {_BAD:g}. Before: as normally distributed samples would; "
        "after: as calibrated. Deviations: /255."
    )
    return Table(headings, rows, [note], title="Intervals")
