"""The protocol `restore`: degraded photographs, super-resolved from their reduction, and restored.

Table 2 and figures 9 and 10 of the publication's supplement.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srflow_evaluation.bench import open_bench
from srflow_evaluation.damages import Damage, generator_of
from srflow_evaluation.models import ConditionedFlow
from srflow_evaluation.options import ZERO, LevelTaus, Options
from srflow_evaluation.output import Line, Table, shown_place, write_sheet
from srflow_evaluation.pictures import Picture, PictureFiles, to_pixels
from srflow_evaluation.results import Row
from srflow_sdk import Latents
from srflow_sdk.errors import ArgumentError, NonFiniteError
from srflow_sdk.flow.options import RestoreOptions
from srflow_sdk.flow.restoring import decide, limit_latents
from srflow_training.data import to_image

DEGRADATION = "noise:20"
"""The degradation if none is given."""

PUBLISHED_TAU = LevelTaus((0.9,))
"""The temperature of `--normalise published` if none is given; the publication does not say its
own."""

METHODS = {
    "degraded": "degraded",
    "superresolved": "super-resolved",
    "sampled": "sampled",
    "restored": "restored",
}
"""The figures of a picture, by their names in results.csv, and how tables call them."""


@torch.no_grad()
def restore(options: Options) -> Table:
    """Measure and write results.csv (a row per picture and method), summary.json and sheets; return
    the table.

    Raises:
        SRFlowError.
    """
    asked = options.only_degradation()
    if asked is not None and options.degraded is not None:
        raise ArgumentError(
            "--degraded has pictures that are degraded already: leave out --degradation, or "
            "--degraded"
        )
    degradation = Damage.parse(asked or DEGRADATION) if options.degraded is None else None
    what = "files" if degradation is None else str(degradation)
    tau, change = _choose_change(options)
    bench = open_bench(options)
    open_flow = bench.subject.both_ways()
    if taken := [name for name in METHODS if name in bench.references]:
        raise ArgumentError(
            f"a method to compare is called {taken[0]}, which is a name of this protocol: rename it"
        )
    sampled = options.sample_tau or bench.subject.default_tau
    bench.subject.check(sampled)
    taus = {"degraded": "", "superresolved": "0", "sampled": str(sampled), "restored": tau}

    def rows_of(files: PictureFiles, sheet: Path | None) -> list[Row]:
        picture = bench.read(files)
        degraded = _degrade(picture, degradation)
        lr = bench.cut.reduced(degraded, bench.subject.reduction)
        flow = open_flow(lr)
        images = {
            "degraded": degraded,
            "superresolved": flow.sample(ZERO, 0),
            "sampled": flow.sample(sampled, 0),
            "restored": _restore_latents(flow, degraded, change),
        }
        if sheet is not None:
            cells = [("LR", lr)]
            cells += [bench.cell(METHODS[name], image, picture) for name, image in images.items()]
            cells.append(("HR", picture.hr))
            shown = "degraded files" if degradation is None else what
            title = f"{picture.name}, {shown}: {bench.subject.name}"
            write_sheet(sheet, title, cells, [shown_place(picture.hr)], columns=6)
        return [
            *bench.reference_rows(picture, replace(picture, lr=lr)),
            *(bench.row(picture, name, [image], taus[name]) for name, image in images.items()),
        ]

    settings: dict[str, Any] = {"degradation": what, "normalise": options.normalise, "tau": tau}
    results, rows = bench.measure(
        options, rows_of, measured="restoration", sample_tau=str(sampled), **settings
    )
    means = {name: bench.means(rows, method=name) for name in METHODS}
    summary = bench.summary(
        "restore",
        rows,
        [{"method": name, **row} for name, row in means.items()],
        f"Degraded: {what}. Other methods and both samples are made from its reduction. "
        f"{_describe(options, tau)}",
        "LR-PSNR compares with the reduction of the photograph, not of the degraded picture.",
        **settings,
        sampled_tau=str(sampled),
        **{
            f"{metric}_{name}": value
            for name, row in means.items()
            for metric, value in row.items()
        },
    )
    results.write_summary(summary)
    captions = METHODS | {
        "sampled": f"sampled, τ {sampled}",
        "superresolved": "super-resolved, τ 0",
    }
    lines: list[Line] = [(captions[name], row) for name, row in means.items()]
    lines[1:1] = summary["references"].items()
    return bench.table(lines, summary["notes"])


def _describe(options: Options, tau: str) -> str:
    """A sentence on how pictures are restored."""
    if options.normalise == "default":
        return f"Restored: as srflow-restore does it{f' with τ {tau}' if tau else ''}."
    return (
        "Restored: latents of every channel, then of every position, get the mean and deviation of "
        f"true ones at τ {tau}, by the publication's formula. It gives no τ of restored pictures."
    )


Change = Callable[[Latents, Tensor], Latents]
"""A change of the latents of a degraded picture, 1×3×H×W in [0, 1]."""


def _restore_latents(flow: ConditionedFlow, degraded: Tensor, change: Change) -> Tensor:
    """The picture of changed latents.

    NaN where the network gives none that is finite: it is measured as a sample's.
    """
    try:
        return flow.decode(change(flow.invert(degraded), degraded))
    except NonFiniteError:
        return torch.full_like(degraded, math.nan)


def _choose_change(options: Options) -> tuple[str, Change]:
    """The temperature as text, "" for the SDK's own choice, and what is done to latents.

    Raises: ArgumentError.
    """
    tau = options.number_of("restoring")
    if options.normalise == "published":
        chosen = tau or PUBLISHED_TAU
        return str(chosen), lambda latents, _: _normalise_as_published(latents, chosen)

    def normalise_as_sdk(latents: Latents, degraded: Tensor) -> Latents:
        chosen = RestoreOptions(tau=None if tau is None else tau.by_level(list(latents.levels)))
        decision = decide(to_pixels(degraded), chosen, latents.levels)
        if decision.over is None:
            return latents
        return limit_latents(latents, decision.taus, over=decision.over)

    return "" if tau is None else str(tau), normalise_as_sdk


def _normalise_as_published(latents: Latents, tau: LevelTaus) -> Latents:
    """Normalise by the publication's formula (its sections 4.3 and 4.5): every channel, then every
    position.
    """
    taus = tau.by_level(list(latents.levels))
    return latents.normalised(taus, over="spatial").normalised(taus, over="local")


def _degrade(picture: Picture, degradation: Damage | None) -> Tensor:
    if degradation is None:
        return picture.inputs["degraded"]
    return to_image(degradation.of(to_pixels(picture.hr), generator_of(picture.name)))
