"""The protocols `tau-sweep` and `perception-distortion`: every metric over the temperature.

Figures 2 to 6 of the publication's supplement: one picture over τ as a sheet, the metrics over τ, and the same points
in the plane of perception and distortion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from srflow_training._published import METHODS
from srflow_training.evaluation.bench import DIVERSITY, DIVERSITY_COLUMN, MODEL, Bench, open_bench
from srflow_training.evaluation.convention import perceptual_metric
from srflow_training.evaluation.options import Options
from srflow_training.evaluation.pictures import Picture, PictureFiles, read_picture
from srflow_training.evaluation.plots import write_lines, write_plane
from srflow_training.evaluation.results import Results, Row
from srflow_training.evaluation.sheets import detailed_place, write_sheet
from srflow_training.evaluation.subjects import LevelTaus
from srflow_training.evaluation.tables import Table

TAUS = tuple(LevelTaus((tau,)) for tau in (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0))
"""Temperatures if none are given."""

SAMPLES = 3
"""Samples of a picture at each temperature if `--samples` is not given: figures are their means."""


@torch.no_grad()
def tau_sweep(options: Options) -> Table:
    """Measure and write results.csv, summary.json, tau_sweep.png and sheet.png; return the table."""
    bench, summary = _measured(options)
    rows, references = summary["rows"], summary["references"]
    numbers = [row for row in rows if isinstance(row["tau"], float)]
    headings = _headings(bench)
    curves = {name: ([row["tau"] for row in numbers], [row[name] for row in numbers]) for name in headings if numbers}
    if curves:
        write_lines(options.out / "tau_sweep.png", bench.title, "τ", curves, references, headings)
    return _table(bench, summary)


@torch.no_grad()
def perception_distortion(options: Options) -> Table:
    """Measure as :func:`tau_sweep` does, and draw perception_distortion.png; return the table.

    The two share a folder in a report, so summary.json is the same: its protocol is tau-sweep.
    """
    bench, summary = _measured(options)
    perception, distortion = perceptual_metric(bench.metrics), bench.metrics[0]
    points = [(_caption(row["tau"]), row[distortion.name], row[perception.name]) for row in summary["rows"]]
    references = {
        name: (means[distortion.name], means[perception.name]) for name, means in summary["references"].items()
    }
    labels = (f"distortion: {distortion.heading}", f"perception: {perception.heading}")
    write_plane(options.out / "perception_distortion.png", bench.title, labels, points, references)
    return _table(bench, summary)


def _measured(options: Options) -> tuple[Bench, dict[str, Any]]:
    samples = options.sample_count(SAMPLES, "diversity is a standard deviation")
    taus = tuple(options.taus) or TAUS
    bench = open_bench(options)
    settings = {**bench.settings, "measured": "tau", "taus": [str(tau) for tau in taus], "samples": samples}
    results = Results(options.out, settings)
    sheet = options.out / "sheet.png"

    def rows_of(files: PictureFiles) -> list[Row]:
        picture = read_picture(files, bench.cut, bench.subject.reduction)
        sample = bench.sampler(picture.lr)
        rows, images = bench.reference_rows(picture), []
        for tau in taus:
            drawn = [sample(tau, seed) for seed in range(1 if tau.is_zero else samples)]
            images.append(drawn[0])
            rows.append(bench.sampled_row(picture, MODEL, tau, drawn))
        if files is bench.pictures[0]:
            _draw_sheet(bench, picture, taus, images, options)
        return rows

    if not sheet.is_file():
        results.forget(bench.pictures[0].name)  # its picture is drawn where it is measured
    rows = results.measure(bench.pictures, rows_of, options.progress)
    means = [bench.mean_row(rows, MODEL, tau) for tau in taus]
    summary = bench.summary("tau-sweep", rows, means)
    results.write_summary({**summary, "samples": samples})
    return bench, summary


def _draw_sheet(
    bench: Bench, picture: Picture, taus: Sequence[LevelTaus], images: Sequence[Tensor], options: Options
) -> None:
    """Draw figure 2: one picture over τ, between the input and the photograph."""
    shown = [*((name, method(picture)) for name, method in bench.references.items())]
    shown += [(f"τ {tau}", image) for tau, image in zip(taus, images, strict=True)]
    captioned = [(bench.caption(name, image, picture), image) for name, image in shown]
    cells = [("LR", picture.lr), *captioned, ("HR", picture.hr)]
    write_sheet(options.out / "sheet.png", f"{picture.name}: {bench.subject.name}", cells, detailed_place(picture.hr))


def _headings(bench: Bench) -> dict[str, str]:
    return {**{metric.name: metric.heading for metric in bench.metrics}, DIVERSITY: DIVERSITY_COLUMN[DIVERSITY][0]}


def _table(bench: Bench, summary: dict[str, Any]) -> Table:
    lines = [*summary["references"].items(), *((_caption(row["tau"]), row) for row in summary["rows"])]
    return bench.table(lines, summary["notes"], DIVERSITY_COLUMN, published=METHODS)


def _caption(tau: float | str) -> str:
    return f"τ {tau:g}" if isinstance(tau, float) else f"τ {tau}"
