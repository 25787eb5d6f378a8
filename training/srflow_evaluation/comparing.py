"""The protocols `compare` and `encoder-init`: models and other methods side by side.

Figures 11 to 13 and table 1 of the publication's supplement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srflow_evaluation.bench import DIVERSITY, DIVERSITY_COLUMN, MODEL
from srflow_evaluation.models import Models, Shown, caption
from srflow_evaluation.options import Options
from srflow_evaluation.pictures import Picture
from srflow_evaluation.published_results import ENCODERS, METHODS, PRETRAINED, SCRATCH
from srflow_evaluation.results import Results, Row
from srflow_evaluation.sheets import SHEETS, shown_places, write_rows
from srflow_evaluation.tables import Table
from srflow_sdk.errors import ArgumentError
from srflow_sdk.model.manifest import Reduction

CROPS = 3
"""Rows of a sheet: the most detailed crops of a picture."""

_REDUCTIONS: tuple[Reduction, ...] = ("bicubic", "bilinear")  # as a sheet groups its columns


@torch.no_grad()
def compare(options: Options) -> Table:
    """Measure and write results.csv, summary.json and sheets (a row per crop, a column per method); return the table.

    Raises: SRFlowError.
    """
    models = Models.open(options)
    results, rows = _measured(models, options)
    summary = models.summary(rows, "compare")
    results.write_summary(summary)
    return models.first.table(models.lines(summary), summary["notes"], DIVERSITY_COLUMN, published=METHODS)


@torch.no_grad()
def encoder_init(options: Options) -> Table:
    """Compare two models as :func:`compare` does, and add their difference; return the table. Raises: SRFlowError."""
    if len(options.models) != 2:
        raise ArgumentError(
            f"encoder-init compares two models, not {len(options.models)}: give --model twice, one that started from a "
            "trained encoder and one trained from scratch"
        )
    options.only_tau("encoder-init")
    models = Models.open(options)
    roles, note = _roles(models)
    results, rows = _measured(models, options)
    summary = models.summary(rows, "encoder-init")
    summary["notes"].append(note)
    forms = {**{metric.name: metric.form for metric in models.first.metrics}, DIVERSITY: ".2f"}
    by_role = sorted(summary["rows"], key=lambda row: [PRETRAINED, SCRATCH].index(roles[row["method"]]))
    summary["rows"] = [{**row, "encoder": roles[row["method"]]} for row in by_role]
    trained, scratch = by_role
    summary["difference"] = {name: trained[name] - scratch[name] for name in forms}
    summary["trained_is_better_on"] = _wins(models, rows, trained["method"], scratch["method"])
    results.write_summary(summary)
    difference = {name: f"{value:+{forms[name]}}" for name, value in summary["difference"].items()}
    wins = {name: f"{count} of {len(models.first.pictures)}" for name, count in summary["trained_is_better_on"].items()}
    lines: list[tuple[str, Mapping[str, Any]]] = [
        *summary["references"].items(),
        *(
            (f"{row['method']}, {row['encoder']}, {caption(MODEL, row['tau'])}", {**row, "published": row["encoder"]})
            for row in summary["rows"]
        ),
        ("trained − scratch", difference),
        ("the trained one is better on", wins),
    ]
    return models.first.table(lines, summary["notes"], DIVERSITY_COLUMN, published=ENCODERS)


def _roles(models: Models) -> tuple[dict[str, str], str]:
    """Which of two models started from a trained encoder, and a sentence that says how that is known.

    Raises: ArgumentError if both did, or neither.
    """
    known = {name: bench.subject.trained_encoder for name, bench in models.benches.items()}
    first, second = known
    if known[first] is None and known[second] is None:
        return {first: PRETRAINED, second: SCRATCH}, (
            "Neither file notes how its encoder started: the first --model counts as the one from a trained encoder."
        )
    if known[first] == known[second]:
        both = "from a trained encoder" if known[first] else "from scratch"
        raise ArgumentError(f"both models started {both}, as their notes say: name one of each kind")
    trained = first if known[first] or known[second] is False else second
    noted = " and ".join(name for name, found in known.items() if found is not None)
    roles = {name: PRETRAINED if name == trained else SCRATCH for name in known}
    return roles, f"{trained} started from a trained encoder, as the notes of {noted} say."


def _measured(models: Models, options: Options) -> tuple[Results, list[Row]]:
    return models.measure(options, measured="models", draw=_draw_sheet, sheets=SHEETS)


def _wins(models: Models, rows: Sequence[Row], one: str, other: str) -> dict[str, int]:
    """On how many pictures one model is better than another, by metric."""
    pairs = list(zip(*([row for row in rows if row["method"] == name] for name in (one, other)), strict=True))
    found = {}
    for metric in models.first.metrics:
        sign = 1 if metric.better == "higher" else -1
        found[metric.name] = sum(sign * (float(a[metric.name]) - float(b[metric.name])) > 0 for a, b in pairs)
    return found


def _draw_sheet(path: Path, pictures: Mapping[str, Picture], shown: Sequence[Shown]) -> None:
    """Draw figures 11 to 13: a row for each crop; in columns each reduction with its methods, and the photograph."""
    picture = next(iter(pictures.values()))
    groups: dict[str, list[Shown]] = {}
    for one in shown:
        of_bilinear = one.name in one.bench.bilinear
        marked = one._replace(name=f"{one.name} (bilinear LR)") if of_bilinear else one
        groups.setdefault("bilinear" if of_bilinear else one.bench.subject.reduction, []).append(marked)
    cells: list[tuple[str, Tensor]] = []
    for name in _REDUCTIONS:
        if members := groups.get(name):
            lr = pictures[name].lr if name in pictures else shown[0].bench.cut.reduced(picture.hr, name)
            cells += [("LR" if len(groups) == 1 else f"LR, {name}", lr), *(one.cell for one in members)]
    cells.append(("HR", picture.hr))
    title = f"{picture.name}, ×{picture.hr.shape[2] // picture.lr.shape[2]}; figures are of the whole picture"
    write_rows(path, title, cells, shown_places(picture.hr, CROPS))
