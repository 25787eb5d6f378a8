"""The protocols `compare` and `encoder-init`: models and other methods side by side.

Figures 11 to 13 and table 1 of the publication's supplement. Each model gets LR images reduced as it was trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srflow_sdk.errors import ArgumentError
from srflow_training._published import ENCODERS, METHODS, PRETRAINED, SCRATCH
from srflow_training.evaluation.bench import DIVERSITY, DIVERSITY_COLUMN, Bench, open_benches
from srflow_training.evaluation.options import Options
from srflow_training.evaluation.pictures import Picture, PictureFiles, read_picture
from srflow_training.evaluation.results import Results, Row
from srflow_training.evaluation.sheets import CROP, WHOLE, detailed_places, sheet_paths, write_rows
from srflow_training.evaluation.subjects import LevelTaus, Subject
from srflow_training.evaluation.tables import Table

TAU = LevelTaus((0.8,))
"""The temperature if none is given."""

SAMPLES = 3
"""Samples of a picture if `--samples` is not given: figures are their means."""

CROPS = 3
"""Rows of a sheet: the most detailed crops of a picture."""

_PLAIN = frozenset({"model", "best"})  # what the trainer calls its files


@torch.no_grad()
def compare(options: Options) -> Table:
    """Measure and write results.csv, summary.json and sheets (a row per crop, a column per method); return the table.

    Raises: SRFlowError.
    """
    models = _Models.open(options)
    results = _results(models, options)
    rows = _measure(models, results, options)
    summary = _summary(models, rows, "compare")
    results.write_summary(summary)
    return models.first.table(_lines(models, summary), summary["notes"], DIVERSITY_COLUMN, published=METHODS)


@torch.no_grad()
def encoder_init(options: Options) -> Table:
    """Compare two models as :func:`compare` does, and add their difference; return the table. Raises: SRFlowError."""
    if len(options.models) != 2:
        raise ArgumentError(
            f"encoder-init compares two models, not {len(options.models)}: give --model twice, "
            "first the one that started from a trained encoder, then the one trained from scratch"
        )
    options.only_tau("encoder-init")
    models = _Models.open(options)
    results = _results(models, options)
    rows = _measure(models, results, options)
    summary = _summary(models, rows, "encoder-init")
    forms = {**{metric.name: metric.form for metric in models.first.metrics}, DIVERSITY: ".2f"}
    first, second = summary["rows"]
    summary["difference"] = {name: first[name] - second[name] for name in forms}
    summary["first_is_better_on"] = _wins(models, rows)
    results.write_summary(summary)
    difference = {name: f"{value:+{forms[name]}}" for name, value in summary["difference"].items()}
    wins = {name: f"{count} of {len(models.first.pictures)}" for name, count in summary["first_is_better_on"].items()}
    roles = [
        (f"{row['method']}, {role}, τ {_text(row['tau'])}", {**row, "published": role})
        for row, role in zip(summary["rows"], (PRETRAINED, SCRATCH), strict=True)
    ]
    others = list(summary["references"].items())
    lines = [*others, *roles, ("first − second", difference), ("first is better on", wins)]
    return models.first.table(lines, summary["notes"], DIVERSITY_COLUMN, published=ENCODERS)


@dataclass(frozen=True, kw_only=True)
class _Models:
    """The models by their names in tables; the first's bench also has the other methods."""

    benches: Mapping[str, Bench]
    taus: Sequence[LevelTaus]
    samples: int

    @classmethod
    def open(cls, options: Options) -> _Models:
        samples = options.sample_count(SAMPLES, "diversity is a standard deviation")
        benches = open_benches(options)
        names = model_names([bench.subject for bench in benches], taken=benches[0].references)
        taus = tuple(options.taus) or (TAU,)
        return cls(benches=dict(zip(names, benches, strict=True)), taus=taus, samples=samples)

    @property
    def first(self) -> Bench:
        return next(iter(self.benches.values()))

    @property
    def reductions(self) -> list[str]:
        return list(dict.fromkeys(bench.subject.reduction for bench in self.benches.values()))


def _results(models: _Models, options: Options) -> Results:
    settings = {
        **models.first.settings,
        "measured": "models",
        "models": [[name, bench.subject.sha256] for name, bench in models.benches.items()],
        "taus": [str(tau) for tau in models.taus],
        "samples": models.samples,
    }
    return Results(options.out, settings)


def _measure(models: _Models, results: Results, options: Options) -> list[Row]:
    first = models.first
    sheets = sheet_paths(options.out, first.pictures)

    def rows_of(files: PictureFiles) -> list[Row]:
        pictures: dict[str, Picture] = {
            bench.subject.reduction: read_picture(files, bench.cut, bench.subject.reduction)
            for bench in models.benches.values()
        }
        picture = pictures[first.subject.reduction]
        rows, images = first.reference_rows(picture), []
        for name, bench in models.benches.items():
            own = pictures[bench.subject.reduction]
            sample = bench.sampler(own.lr)
            for tau in models.taus:
                drawn = [sample(tau, seed) for seed in range(1 if tau.is_zero else models.samples)]
                rows.append(bench.sampled_row(own, name, tau, drawn))
                images.append((bench, f"{name}, τ {tau}", drawn[0], own))
        if files.name in sheets:
            others = [(first, name, method(picture), picture) for name, method in first.references.items()]
            _draw_sheet(sheets[files.name], pictures, [*others, *images])
        return rows

    for name, path in sheets.items():
        if not path.is_file():
            results.forget(name)  # its pictures are drawn where they are measured
    return results.measure(first.pictures, rows_of, options.progress)


def _summary(models: _Models, rows: Sequence[Row], protocol: str) -> dict[str, Any]:
    """The first model's summary, with all models in it."""
    means = [
        {"method": name, **bench.mean_row(rows, name, tau)}
        for name, bench in models.benches.items()
        for tau in models.taus
    ]
    summary = models.first.summary(protocol, rows, means)
    for key in ("model", "model_sha256"):
        del summary[key]
    subjects = [(name, bench.subject) for name, bench in models.benches.items()]
    summary["models"] = [
        {"name": name, "model": subject.name, "sha256": subject.sha256, "reduction": subject.reduction}
        for name, subject in subjects
    ]
    summary["samples"] = models.samples
    if len(models.reductions) > 1:
        each = "; ".join(
            f"{reduction} for {', '.join(name for name, subject in subjects if subject.reduction == reduction)}"
            for reduction in models.reductions
        )
        summary["notes"].append(
            f"Each model gets LR images reduced as it was trained, and its LR-PSNR is against those: {each}. "
            f"The other methods get {models.first.subject.reduction} ones."
        )
    return summary


def _lines(models: _Models, summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The table's lines; that of a network for bilinear reductions has no published figures beside it."""
    lines = list(summary["references"].items())
    for row in summary["rows"]:
        bilinear = models.benches[row["method"]].subject.reduction != "bicubic"
        lines.append((f"{row['method']}, τ {_text(row['tau'])}", {**row, **({"published": ""} if bilinear else {})}))
    return lines


def _text(tau: float | str) -> str:
    return f"{tau:g}" if isinstance(tau, float) else tau


def _wins(models: _Models, rows: Sequence[Row]) -> dict[str, int]:
    """On how many pictures the first of two models is better, by metric."""
    ones, others = ([row for row in rows if row["method"] == name] for name in models.benches)
    found = {}
    for metric in models.first.metrics:
        sign = 1 if metric.better == "higher" else -1
        gains = [
            sign * (float(one[metric.name]) - float(other[metric.name]))
            for one, other in zip(ones, others, strict=True)
        ]
        found[metric.name] = sum(gain > 0 for gain in gains)
    return found


def _draw_sheet(
    path: Path, pictures: Mapping[str, Picture], shown: Sequence[tuple[Bench, str, Tensor, Picture]]
) -> None:
    """Draw figures 11 to 13: a row for each crop; LR, the methods and the photograph in columns.

    pictures: by reduction. shown: whose metrics, caption, image, and the picture it was made from.
    """
    picture = next(iter(pictures.values()))
    lrs = [("LR" if len(pictures) == 1 else f"LR, {name}", found.lr) for name, found in pictures.items()]
    methods = [(bench.caption(caption, image, own), image) for bench, caption, image, own in shown]
    cells = [*lrs, *methods, ("HR", picture.hr)]
    side = WHOLE if max(picture.hr.shape[2:]) <= WHOLE else CROP
    title = f"{picture.name}, ×{picture.hr.shape[2] // picture.lr.shape[2]}; figures are of the whole picture"
    write_rows(path, title, cells, detailed_places(picture.hr, CROPS, side))


def model_names(subjects: Sequence[Subject], taken: Mapping[str, object]) -> list[str]:
    """A short name for each model: its file's, or its folder's; its path where these are not unique.

    Where the models were trained on different reductions, names say on which. Raises: ArgumentError.
    """
    paths = [Path(subject.name) for subject in subjects]
    short = [path.parent.name if path.stem in _PLAIN and path.parent.name else path.stem for path in paths]
    counts = Counter([*short, *taken])
    names = [name if counts[name] == 1 else subject.name for name, subject in zip(short, subjects, strict=True)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ArgumentError(f"--model names {twice[0]} twice: name different models")
    if len({subject.reduction for subject in subjects}) == 1:
        return names
    return [f"{name} ({subject.reduction} LR)" for name, subject in zip(names, subjects, strict=True)]
