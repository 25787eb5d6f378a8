"""The protocols `tau-sweep` and `perception-distortion`: every metric over the temperature, of one model or several.

Figures 2 to 6 of the publication's supplement: one picture over τ as a sheet, the metrics over τ, and the same points
in the plane of perception and distortion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from srflow_evaluation.bench import DIVERSITY_COLUMN, MODEL, VARIANCE, VARIANCE_COLUMN
from srflow_evaluation.convention import perceptual_metric
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.models import Models, Shown, caption, model_names
from srflow_evaluation.options import Options
from srflow_evaluation.pictures import Picture
from srflow_evaluation.plots import write_lines, write_plane
from srflow_evaluation.published_results import METHODS
from srflow_evaluation.sheets import shown_place, write_sheet
from srflow_evaluation.tables import Table
from srflow_sdk.errors import ArgumentError

TAUS = tuple(LevelTaus((tau,)) for tau in (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0))
"""Temperatures if none are given."""

_SPREAD = {**DIVERSITY_COLUMN, **VARIANCE_COLUMN}  # how samples differ


@torch.no_grad()
def tau_sweep(options: Options) -> Table:
    """Measure and write results.csv, summary.json, tau_sweep.png and sheets; return the table. Raises: SRFlowError."""
    models, summary = _measured(options)
    headings = {metric.name: metric.heading for metric in models.first.metrics}
    headings |= {name: heading for name, (heading, _) in _SPREAD.items()}
    chosen = {"psnr", perceptual_metric(models.first.metrics).name, "lr_psnr", VARIANCE, *options.metrics}
    curves = {}
    for name in headings:
        of_models = {models.labels[called]: _numbers(summary, called, name) for called in models.benches}
        of_models = {label: points for label, points in of_models.items() if points[0]}
        if of_models and (options.figure == "all" or name in chosen):
            curves[name] = of_models
    if curves:
        path = options.out / "tau_sweep.png"
        write_lines(path, models.title, "τ", curves, _references(summary, options), headings)
    return _table(models, summary)


@torch.no_grad()
def perception_distortion(options: Options) -> Table:
    """Measure as :func:`tau_sweep` does, and draw perception_distortion.png; return the table. Raises: SRFlowError.

    The two share a folder in a report, so summary.json is the same: its protocol is tau-sweep.
    """
    if options.metrics and ("psnr" not in options.metrics or len(options.metrics) < 2):
        raise ArgumentError("perception-distortion draws a metric over PSNR: name both, such as --metrics psnr,lpips")
    models, summary = _measured(options)
    perception, distortion = perceptual_metric(models.first.metrics), models.first.metrics[0]
    curves = {
        models.labels[called]: [
            (caption(MODEL, row["tau"]), row[distortion.name], row[perception.name])
            for row in summary["rows"]
            if row["method"] == called
        ]
        for called in models.benches
    }
    references = {
        name: (means[distortion.name], means[perception.name]) for name, means in _references(summary, options).items()
    }
    labels = (f"distortion: {distortion.heading}", f"perception: {perception.heading}")
    write_plane(options.out / "perception_distortion.png", models.title, labels, curves, references)
    return _table(models, summary)


def _measured(options: Options) -> tuple[Models, dict[str, Any]]:
    models = Models.open(options, TAUS, alone=MODEL)
    results, rows = models.measure(options, measured="tau", draw=_draw_sheet, sheets=1)
    summary = models.summary(rows, "tau-sweep")
    results.write_summary(summary)
    return models, summary


def _references(summary: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """Those that a plot shows: bicubic lies far from the others and would flatten every curve."""
    found = summary["references"].items()
    return {name: means for name, means in found if name != "bicubic" or options.figure == "all"}


def _numbers(summary: Mapping[str, Any], called: str, name: str) -> tuple[list[float], list[float]]:
    """A model's figures over τ, without temperatures that are no numbers."""
    rows = [row for row in summary["rows"] if row["method"] == called and isinstance(row["tau"], float)]
    return [row["tau"] for row in rows], [row[name] for row in rows]


def _draw_sheet(path: Path, pictures: Mapping[str, Picture], shown: Sequence[Shown]) -> None:
    """Draw figure 2: a picture over τ, between the input and the photograph."""
    picture = next(iter(pictures.values()))
    cells = [("LR", picture.lr), *(one.cell for one in shown), ("HR", picture.hr)]
    subjects = {one.bench.subject.name: one.bench.subject for one in shown}
    title = f"{picture.name}: {', '.join(model_names(list(subjects.values()), {}))}"
    write_sheet(path, title, cells, shown_place(picture.hr))


def _table(models: Models, summary: dict[str, Any]) -> Table:
    return models.first.table(models.lines(summary), summary["notes"], _SPREAD, published=METHODS)
