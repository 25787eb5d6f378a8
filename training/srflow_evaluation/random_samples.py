"""The protocol `samples`: random samples of each picture, with the map of their deviation.

Figures 14 to 17 of the publication's supplement. The deviation shows where the LR image leaves much open.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srflow_evaluation.bench import DIVERSITY, DIVERSITY_COLUMN, MODEL, Bench, open_bench
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.options import Options
from srflow_evaluation.pictures import Picture, PictureFiles, read_picture
from srflow_evaluation.published_results import METHODS
from srflow_evaluation.results import Results, Row
from srflow_evaluation.sheets import SHEETS, heat_map, sheets_of, shown_place, write_sheet
from srflow_evaluation.tables import Table
from srflow_training import figures

SAMPLES = 8
"""Samples of a picture if `--samples` is not given."""

_COMMON = 0.995  # the share of deviations that the map shows below its brightest colour


@torch.no_grad()
def random_samples(options: Options) -> Table:
    """Measure and write results.csv (a row per picture and method), summary.json and sheets; return the table.

    The first pictures get a sheet each. Raises: SRFlowError.
    """
    count = options.sample_count(SAMPLES, "the deviation of samples is shown")
    bench = open_bench(options)
    tau = options.sampling_tau("samples", options.default_tau(bench.subject))
    settings = {**bench.settings, "measured": "deviation", "tau": str(tau), "samples": count}
    results = Results(options.out, settings, shard=options.shard)
    sheets = sheets_of(results, bench.pictures, options.sheets or SHEETS)

    def rows_of(files: PictureFiles) -> list[Row]:
        picture = read_picture(files, bench.cut, bench.subject.reduction)
        sample = bench.sampler(picture.lr)
        drawn = [sample(tau, seed) for seed in range(count)]
        row = bench.sampled_row(picture, MODEL, tau, drawn)
        if files.name in sheets:
            _draw_sheet(sheets[files.name], bench, picture, tau, drawn)
        return [*bench.reference_rows(picture), row]

    rows = results.measure(bench.pictures, rows_of, options.progress)
    summary = bench.summary("samples", rows, [bench.mean_row(rows, MODEL, tau)])
    summary["notes"] = [*summary["notes"], _extremes(rows)]
    results.write_summary({**summary, "samples": count})
    lines: list[tuple[str, Mapping[str, Any]]] = [*summary["references"].items()]
    lines.append((f"τ {tau}, mean of {count} samples", summary["rows"][0]))
    return bench.table(lines, summary["notes"], DIVERSITY_COLUMN, published=METHODS)


def _extremes(rows: Sequence[Row]) -> str:
    """A sentence on the pictures whose samples differ most and least."""
    found = sorted((float(row[DIVERSITY]), str(row["picture"])) for row in rows if row["method"] == MODEL)
    (least, fewest), (most, widest) = found[0], found[-1]
    return f"The samples of {widest} differ most (diversity {most:.2f}/255), those of {fewest} least ({least:.2f}/255)."


def _draw_sheet(path: Path, bench: Bench, picture: Picture, tau: LevelTaus, samples: Sequence[Tensor]) -> None:
    """Draw a figure like 14 to 17: the input, other methods, the photograph and the deviation; then the samples."""
    rows, columns = place = shown_place(picture.hr)
    deviation = figures.deviation_map(samples)
    shown = deviation[..., rows, columns]
    top = max(1, math.ceil(float(shown.flatten().quantile(_COMMON))))
    scale = f"deviation: black 0, yellow {top}/255\nmean here {float(shown.mean()):.1f}"
    methods = [(name, method(picture)) for name, method in bench.references.items()]
    cells = [
        ("LR", picture.lr),
        *((bench.caption(name, image, picture), image) for name, image in methods),
        ("HR", picture.hr),
        (scale, heat_map(deviation, top)),
    ]
    across = len(cells)
    cells += [(bench.caption(f"sample {seed}", image, picture), image) for seed, image in enumerate(samples)]
    title = f"{picture.name}, {len(samples)} samples at τ {tau}, ×{bench.subject.scale}: {bench.subject.name}"
    write_sheet(path, title, cells, place, columns=across)
