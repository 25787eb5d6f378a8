"""The protocol `best-of-n`: how good the best of the first n samples is, by each metric.

Figures 7 and 8 of the publication's supplement. The best is chosen with the photograph at hand, for each metric and
picture: an upper bound for any way to choose without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srflow_evaluation.bench import MODEL, Bench, open_bench
from srflow_evaluation.convention import Metric, perceptual_metric
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.models import model_names
from srflow_evaluation.options import Options
from srflow_evaluation.pictures import Picture, PictureFiles, read_picture
from srflow_evaluation.plots import write_lines
from srflow_evaluation.published_results import METHODS
from srflow_evaluation.results import Results, Row
from srflow_evaluation.sheets import sheets_of, shown_place, write_sheet
from srflow_evaluation.tables import Table

TAU = LevelTaus((0.8,))
"""The temperature if none is given."""

SAMPLES = 10
"""The largest n if `--samples` is not given."""


@torch.no_grad()
def best_of_n(options: Options) -> Table:
    """Measure and write results.csv (a row per sample), summary.json, best_of_n.png and sheets; return the table.

    Raises: SRFlowError.
    """
    count = options.sample_count(SAMPLES, "best-of-n compares samples")
    tau = options.sampling_tau("best-of-n", TAU)
    bench = open_bench(options)
    settings = {**bench.settings, "measured": "samples", "tau": str(tau), "samples": count}
    results = Results(options.out, settings, shard=options.shard)
    sheets = sheets_of(results, bench.pictures, options.sheets or 1)

    def rows_of(files: PictureFiles) -> list[Row]:
        picture = read_picture(files, bench.cut, bench.subject.reduction)
        sample = bench.sampler(picture.lr)
        rows: list[Row] = [{"sample": "", **row} for row in bench.reference_rows(picture)]
        images: list[Tensor] = []
        for seed in range(count):
            image = sample(tau, seed)
            rows.append(
                {
                    "sample": str(seed),
                    "picture": picture.name,
                    "method": MODEL,
                    "tau": str(tau),
                    **bench.sample_rows([image], picture)[0],
                }
            )
            if files.name in sheets:
                images.append(image)
        if images:
            of_model = [row for row in rows if row["method"] == MODEL]
            _draw_sheet(sheets[files.name], bench, picture, images, of_model)
        return rows

    rows = results.measure(bench.pictures, rows_of, options.progress)
    means = _best_means(bench, rows, count)
    summary = bench.summary("best-of-n", rows, means)
    references = summary["references"]
    results.write_summary({**summary, "tau": str(tau)})
    of_all = options.figure == "all"
    chosen = {"psnr", "ssim", perceptual_metric(bench.metrics).name, "lr_psnr", *options.metrics}
    plotted = [metric for metric in bench.metrics if of_all or metric.name in chosen]
    headings = {metric.name: f"{metric.heading}\nof the sample best by it" for metric in plotted}
    numbers, (label,) = [float(row["n"]) for row in means], model_names([bench.subject], references)
    curves = {name: {label: (numbers, [row[name] for row in means])} for name in headings}
    title = f"best of n samples at τ {tau}, whole pictures against HR\n{bench.title}"
    path = options.out / "best_of_n.png"
    write_lines(path, title, "n", curves, references if of_all else {}, headings, first_tick=1)
    lines: list[tuple[str, dict[str, Any]]] = [*references.items(), *((f"best of {row['n']}", row) for row in means)]
    lines[len(references)][1]["tau"] = tau.values[0] if len(tau.values) == 1 else str(tau)  # no choice: a plain sample
    return bench.table(lines, summary["notes"], published=METHODS)


def _best_means(bench: Bench, rows: Sequence[Row], count: int) -> list[dict[str, float]]:
    """For each n, and each metric, the mean over pictures of the best of the first n samples."""
    by_sample: dict[int, list[Row]] = {n: [] for n in range(count)}
    for row in rows:
        if row["method"] == MODEL:
            by_sample[int(row["sample"])].append(row)  # the pictures are in the same order in each
    means: list[dict[str, float]] = [{"n": n} for n in range(1, count + 1)]
    for metric in bench.metrics:
        choose = _better(metric)
        best = [float(row[metric.name]) for row in by_sample[0]]
        for n, line in enumerate(means):
            best = [choose(old, float(row[metric.name])) for old, row in zip(best, by_sample[n], strict=True)]
            line[metric.name] = sum(best) / len(best)
    return means


def _best(rows: Sequence[Row], metric: Metric) -> Row:
    best: Row = _better(metric)(rows, key=lambda row: float(row[metric.name]))
    return best


def _better(metric: Metric) -> Any:
    """The function that chooses the better of two figures, `max` or `min`."""
    return max if metric.better == "higher" else min


def _draw_sheet(path: Path, bench: Bench, picture: Picture, images: Sequence[Tensor], rows: Sequence[Row]) -> None:
    """Draw figure 7: for each n, the best of the first n samples by the perceptual metric."""
    metric = perceptual_metric(bench.metrics)
    cells = [("LR", picture.lr)]
    for n in range(1, len(images) + 1):
        winner = _best(rows[:n], metric)
        caption = f"best of {n}: sample {winner['sample']}\n{metric.of(float(winner[metric.name]))}"
        cells.append((caption, images[int(winner["sample"])]))
    cells.append(("HR", picture.hr))
    title = f"{picture.name}, best by {metric.heading} of the whole picture: {bench.subject.name}"
    write_sheet(path, title, cells, shown_place(picture.hr), columns=6)
