"""The protocol `standard`: the field's test sets by the field's convention, as papers have them, in one table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from srflow_evaluation.bench import check_out
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.models import Models
from srflow_evaluation.options import Options
from srflow_evaluation.tables import Table
from srflow_sdk.errors import ArgumentError
from srflow_training._lpips import MISSING
from srflow_training.lpips_weights import weights_file

SETS = ("Set5", "Set14", "BSD100", "Urban100", "Kodak")
"""Their order in the table; sets of other names follow."""

NOTE = (
    "PSNR of the luma Y (BT.601, 16 to 235 of 255, not rounded), without a border of {scale} pixels; the other figures "
    "of whole RGB pictures in 8 bits; means over a set's pictures, of a sampling model over {samples} samples each. LR "
    "and HR pictures are the set's files; without LR files they are {reduction} reductions."
)


@torch.no_grad()
def standard(options: Options) -> Table:
    """Measure each set into a folder of its own, as `compare` does; return a line for each method and temperature.

    Each model stands at τ 0 and at its default, if no temperature is named. Raises: SRFlowError.
    """
    check_out(options)
    lpips = ("lpips",) if weights_file("alex") is not None else ()
    cells: dict[str, dict[str, str]] = {}
    for name, folder in _sets(options.hr).items():
        of_set = replace(
            options,
            hr=folder / "HR",
            lr=folder / "LR" if (folder / "LR").is_dir() else None,
            out=options.out / name,
            others={other: outputs / name for other, outputs in options.others.items()},
            convention="standard",
            metrics=options.metrics or ("y_psnr", *lpips),
        )
        options.progress(f"{name}:")
        models = Models.open(of_set)
        if not options.taus:
            both = {key: dict.fromkeys((LevelTaus((0.0,)), *taus)) for key, taus in models.taus.items()}
            models = replace(models, taus={key: tuple(taus) for key, taus in both.items()})
        results, rows = models.measure(of_set, measured="models", draw=lambda *_: None, sheets=0)
        results.write_summary(summary := models.summary(rows, "standard"))
        metrics = sorted(models.first.metrics, key=lambda metric: metric.name != "y_psnr")  # first
        for method, row in models.lines(summary):
            cell = " / ".join(format(row[metric.name], metric.form) for metric in metrics)
            cells.setdefault(method, {})[f"{name} ({len(models.first.pictures)})"] = cell
    columns = list(next(iter(cells.values())))
    figures = " / ".join(metric.heading for metric in metrics)
    note = NOTE.format(
        scale=models.first.subject.scale, samples=models.samples, reduction=models.first.subject.reduction
    )
    notes = [f"{figures}, ×{models.first.subject.scale}. {note}", *([] if lpips or options.metrics else [MISSING])]
    return Table(["method", *columns], [[name, *(of[key] for key in columns)] for name, of in cells.items()], notes)


def _sets(hr: Path) -> dict[str, Path]:
    """The sets in a folder, or the one that it is, by name. Raises: ArgumentError if there is none."""
    if (hr / "HR").is_dir():
        return {hr.resolve().name: hr}
    found = {folder.parent.name: folder.parent for folder in sorted(hr.glob("*/HR")) if folder.is_dir()}
    if not found:
        raise ArgumentError(f"--hr {hr} has no SET/HR with photographs: make it by benchmarks/standard_sets.py")
    return {name: found[name] for name in (*SETS, *found) if name in found}
