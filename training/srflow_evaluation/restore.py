"""The protocol `restore`: degraded photographs, super-resolved from their reduction and restored.

Table 2 and figures 9 and 10 of the publication's supplement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srflow_evaluation.bench import Bench, open_bench
from srflow_evaluation.damages import Damage, generator_of
from srflow_evaluation.models import ConditionedFlow, OpenFlow
from srflow_evaluation.options import ZERO, LevelTaus, Options
from srflow_evaluation.output import Line, Table, choose_place, write_sheet
from srflow_evaluation.pictures import Picture, PictureFiles
from srflow_evaluation.results import Row
from srflow_sdk import Latents
from srflow_sdk.errors import ArgumentError, NonFiniteError
from srflow_sdk.flow.options import RestoreOptions
from srflow_sdk.flow.restoring import decide, limit_latents
from srflow_training.data import to_image, to_pixels

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


Change = Callable[[Latents, Tensor], Latents]
"""A change of the latents of a degraded picture, 1×3×H×W in [0, 1]."""


@torch.no_grad()
def restore(options: Options) -> Table:
    """Measure and write results.csv (a row per picture and method), summary.json and sheets.

    Returns:
        The table.

    Raises:
        SRFlowError.
    """
    case = _Case.open(options)
    bench = case.bench
    what = "files" if case.degradation is None else str(case.degradation)
    tau = case.taus["restored"]
    sampled = case.taus["sampled"]
    settings: dict[str, Any] = {"degradation": what, "normalise": options.normalise, "tau": tau}
    results, rows = bench.measure(
        options,
        case.measure_picture,
        measured="restoration",
        sample_tau=sampled,
        **settings,
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
        sampled_tau=sampled,
    )
    results.write_summary(summary)
    captions = METHODS | {
        "sampled": f"sampled, τ {sampled}",
        "superresolved": "super-resolved, τ 0",
    }
    lines: list[Line] = [(captions[name], row) for name, row in means.items()]
    lines[1:1] = summary["references"].items()
    return bench.table(lines, summary["notes"])


@dataclass(frozen=True, kw_only=True)
class _Case:
    """What is measured of each picture.

    Attributes:
        degradation: None if the pictures are files that are degraded already.
        change: what restores latents.
        taus: temperatures by method, as text.
    """

    bench: Bench
    open_flow: OpenFlow
    degradation: Damage | None
    change: Change
    sample_tau: LevelTaus
    taus: Mapping[str, str]

    @classmethod
    def open(cls, options: Options) -> _Case:
        """Raises: SRFlowError."""
        asked = options.require_one_degradation()
        if asked is not None and options.degraded is not None:
            raise ArgumentError(
                "--degraded has pictures that are degraded already: leave out --degradation, or "
                "--degraded"
            )
        degradation = Damage.parse(asked or DEGRADATION) if options.degraded is None else None
        tau, change = _choose_normalisation(options)
        bench = open_bench(options)
        open_flow = bench.subject.both_ways()
        taken = [name for name in METHODS if name in bench.references]
        if taken:
            raise ArgumentError(
                f"a method to compare is called {taken[0]}, which is a name of this protocol: "
                "rename it"
            )
        sample_tau = options.sample_tau or bench.subject.default_tau
        bench.subject.check(sample_tau)
        return cls(
            bench=bench,
            open_flow=open_flow,
            degradation=degradation,
            change=change,
            sample_tau=sample_tau,
            taus={
                "degraded": "",
                "superresolved": "0",
                "sampled": str(sample_tau),
                "restored": tau,
            },
        )

    def measure_picture(self, files: PictureFiles, sheet: Path | None) -> list[Row]:
        """The rows of a picture: other methods, which see the reduced degraded one, and METHODS."""
        bench = self.bench
        picture = bench.read(files)
        degraded = _degrade(picture, self.degradation)
        lr = bench.cut.reduce(degraded, bench.subject.reduction)
        flow = self.open_flow(lr)
        images = {
            "degraded": degraded,
            "superresolved": flow.sample(ZERO, 0),
            "sampled": flow.sample(self.sample_tau, 0),
            "restored": _restore_latents(flow, degraded, self.change),
        }
        if sheet is not None:
            cells = [("LR", lr)]
            cells += [bench.cell(METHODS[name], image, picture) for name, image in images.items()]
            cells.append(("HR", picture.hr))
            shown = "degraded files" if self.degradation is None else str(self.degradation)
            title = f"{picture.name}, {shown}: {bench.subject.name}"
            write_sheet(sheet, title, cells, [choose_place(picture.hr)], columns=6)
        rows = bench.reference_rows(picture, replace(picture, lr=lr))
        for name, image in images.items():
            rows.append(bench.row(picture, name, [image], self.taus[name]))
        return rows


def _describe(options: Options, tau: str) -> str:
    """A sentence on how pictures are restored."""
    if options.normalise == "default":
        return f"Restored: as srflow-restore does it{f' with τ {tau}' if tau else ''}."
    return (
        "Restored: latents of every channel, then of every position, get the mean and deviation of "
        f"true ones at τ {tau}, by the publication's formula. It gives no τ of restored pictures."
    )


def _restore_latents(flow: ConditionedFlow, degraded: Tensor, change: Change) -> Tensor:
    """The picture of changed latents.

    NaN where the network gives none that is finite: it is measured as a sample's.
    """
    try:
        return flow.decode(change(flow.invert(degraded), degraded))
    except NonFiniteError:
        return torch.full_like(degraded, math.nan)


def _choose_normalisation(options: Options) -> tuple[str, Change]:
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
    """Normalise every channel, then every position (the publication's sections 4.3 and 4.5)."""
    taus = tau.by_level(list(latents.levels))
    return latents.normalised(taus, over="spatial").normalised(taus, over="local")


def _degrade(picture: Picture, degradation: Damage | None) -> Tensor:
    if degradation is None:
        return picture.inputs["degraded"]
    return to_image(degradation.of(to_pixels(picture.hr), generator_of(picture.name)))
