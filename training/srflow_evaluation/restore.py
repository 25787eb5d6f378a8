"""The protocol `restore`: degraded photographs, super-resolved from their reduction, and restored.

Table 2 and figures 9 and 10 of the publication's supplement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from srflow_evaluation.arrays import to_pixels
from srflow_evaluation.bench import Bench, open_bench
from srflow_evaluation.degradations import Damage, generator_of
from srflow_evaluation.flows import ConditionedFlow, LevelTaus
from srflow_evaluation.options import Options
from srflow_evaluation.pictures import Picture, PictureFiles, read_picture
from srflow_evaluation.published_results import DEGRADED, RESTORATION, RESTORED, SUPERRESOLVED
from srflow_evaluation.results import Results, Row, mean_of
from srflow_evaluation.sheets import sheets_of, shown_place, write_sheet
from srflow_evaluation.tables import Table
from srflow_sdk import Latents
from srflow_sdk.errors import ArgumentError, NonFiniteError
from srflow_sdk.flow.options import RestoreOptions
from srflow_sdk.flow.restoring import decide, limited
from srflow_training.data import to_image

DEGRADATION = "noise:20"
"""The degradation if none is given."""

PUBLISHED_TAU = LevelTaus((0.9,))
"""The temperature of `--normalise published` if none is given; the publication does not say its own."""

METHODS = {"degraded": "degraded", "superresolved": "super-resolved", "sampled": "sampled", "restored": "restored"}
"""The figures of a picture, by their names in results.csv, and how tables call them."""

_PUBLISHED = {"degraded": DEGRADED, "sampled": SUPERRESOLVED, "restored": RESTORED}  # lines of its table
_ZERO = LevelTaus((0.0,))


@torch.no_grad()
def restore(options: Options) -> Table:
    """Measure and write results.csv (a row per picture and method), summary.json and sheets; return the table.

    Raises: SRFlowError.
    """
    asked = options.only_degradation("restore")
    if asked is not None and options.degraded is not None:
        raise ArgumentError("--degraded has pictures that are degraded already: leave out --degradation, or --degraded")
    degradation = Damage.parse(asked or DEGRADATION) if options.degraded is None else None
    tau, change = _normalisation(options)
    bench = open_bench(options)
    open_flow = bench.subject.both_ways()
    if taken := [name for name in METHODS if name in bench.references]:
        raise ArgumentError(f"a method to compare is called {taken[0]}, which is a name of this protocol: rename it")
    sampled = options.sample_tau or options.default_tau(bench.subject)
    bench.subject.check(sampled)
    settings = {
        **bench.settings,
        "measured": "restoration",
        "degradation": "files" if degradation is None else str(degradation),
        "normalise": options.normalise or "default",
        "tau": tau,
        "sample_tau": str(sampled),
    }
    results = Results(options.out, settings, shard=options.shard)
    sheets = sheets_of(results, bench.pictures, options.sheets or 1)

    def rows_of(files: PictureFiles) -> list[Row]:
        picture = read_picture(files, bench.cut, bench.subject.reduction)
        degraded = _degraded(picture, degradation)
        lr = bench.cut.reduced(degraded, bench.subject.reduction)
        seen = Picture(name=picture.name, hr=picture.hr, lr=lr, others=picture.others)
        flow = open_flow(lr)
        images = {
            "superresolved": flow.sample(_ZERO, 0),
            "sampled": flow.sample(sampled, 0),
            "restored": _restored(flow, degraded, change),
        }
        taus = {"superresolved": "0", "sampled": str(sampled), "restored": tau}
        rows: list[Row] = [_row(picture, "degraded", "", bench.figures(degraded, picture))]
        for name, method in bench.references.items():
            rows.append(_row(picture, name, "", bench.figures(method(seen), picture)))
        for name, image in images.items():
            rows.append(_row(picture, name, taus[name], bench.sample_rows([image], picture)[0]))
        if files.name in sheets:
            shown = {"degraded": degraded, **images}
            cells = [("LR", lr)]
            cells += [(bench.caption(METHODS[name], image, picture), image) for name, image in shown.items()]
            cells.append(("HR", picture.hr))
            title = f"{picture.name}, {_called(degradation)}: {bench.subject.name}"
            write_sheet(sheets[files.name], title, cells, shown_place(picture.hr), columns=6)
        return rows

    rows = results.measure(bench.pictures, rows_of, options.progress)
    summary = _summary(bench, rows, settings, sampled)
    results.write_summary(summary)
    captions = {"sampled": f"sampled, τ {sampled}", "superresolved": "super-resolved, τ 0"}
    published = dict(_PUBLISHED) if str(degradation) == DEGRADATION else {}  # it is of that degradation
    if bench.published is not None and sampled.in_json != bench.published.tau:
        published.pop("sampled", None)
    lines: list[tuple[str, Mapping[str, Any]]] = [
        (captions.get(row["method"], METHODS[row["method"]]), {**row, "published": published.get(row["method"], "")})
        for row in summary["rows"]
    ]
    lines[1:1] = [(name, {**means, "published": ""}) for name, means in summary["references"].items()]
    return bench.table(lines, summary["notes"], published=RESTORATION)


Change = Callable[[Latents, Tensor], Latents]
"""A change of the latents of a degraded picture, 1×3×H×W in [0, 1]."""


def _restored(flow: ConditionedFlow, degraded: Tensor, change: Change) -> Tensor:
    """The picture of changed latents. NaN where the network gives none that is finite: it is measured as a sample's."""
    try:
        return flow.decode(change(flow.invert(degraded), degraded))
    except NonFiniteError:
        return torch.full_like(degraded, math.nan)


def _normalisation(options: Options) -> tuple[str, Change]:
    """The temperature as text, "" for the SDK's own choice, and what is done to latents. Raises: ArgumentError."""
    tau = options.only_tau("restore")
    if tau is not None and not tau.values:
        raise ArgumentError("--tau auto is for samples; restoring limits latents to a number: give it, or leave it out")
    if options.normalise == "published":
        chosen = tau or PUBLISHED_TAU
        return str(chosen), lambda latents, _: _published(latents, chosen)

    def as_the_sdk(latents: Latents, degraded: Tensor) -> Latents:
        chosen = RestoreOptions(tau=None if tau is None else _by_level(latents, tau))
        decision = decide(to_pixels(degraded), chosen, latents.levels)
        return latents if decision.over is None else limited(latents, decision.taus, over=decision.over)

    return "" if tau is None else str(tau), as_the_sdk


def _published(latents: Latents, tau: LevelTaus) -> Latents:
    """Normalise by the publication's formula (its sections 4.3 and 4.5): every channel, then every position."""
    taus = _by_level(latents, tau)
    return latents.normalised(taus, over="spatial").normalised(taus, over="local")


def _by_level(latents: Latents, tau: LevelTaus) -> dict[int, float]:
    return {level: tau.at(level) for level in latents.levels}


def _degraded(picture: Picture, degradation: Damage | None) -> Tensor:
    if degradation is None:
        return picture.inputs["degraded"]
    return to_image(degradation.of(to_pixels(picture.hr), generator_of(picture.name)))


def _called(degradation: Damage | None) -> str:
    return "degraded files" if degradation is None else str(degradation)


def _row(picture: Picture, method: str, tau: str, figures: Mapping[str, str | float]) -> Row:
    return {"picture": picture.name, "method": method, "tau": tau, **figures}


def _summary(bench: Bench, rows: Sequence[Row], settings: Mapping[str, Any], sampled: LevelTaus) -> dict[str, Any]:
    """Means by method, as rows and as flat names such as psnr_restored."""
    names = [metric.name for metric in bench.metrics]
    means = {key: mean_of([row for row in rows if row["method"] == key], names) for key in METHODS}
    published = settings["normalise"] == "published"
    how = (
        f"Restored: latents of every channel, then of every position, get the mean and deviation of true ones at τ "
        f"{settings['tau']}, by the publication's formula. It gives no τ of restored pictures."
        if published
        else "Restored: as srflow-restore does it" + (f" with τ {settings['tau']}." if settings["tau"] else ".")
    )
    summary = bench.summary("restore", rows, [{"method": key, **found} for key, found in means.items()])
    what = "files" if settings["degradation"] == "files" else settings["degradation"]
    notes = [
        *summary["notes"],
        f"Degraded: {what}. Other methods and both samples are made from its reduction. {how}",
        "LR-PSNR compares with the reduction of the photograph, not of the degraded picture.",
    ]
    flat = {f"{name}_{key}": value for key, found in means.items() for name, value in found.items()}
    chosen = {name: settings[name] for name in ("degradation", "normalise", "tau")}
    return {**summary, "notes": notes, **chosen, "sampled_tau": str(sampled), **flat}
