"""The protocol `ntire21`: the figures of the challenge "Learning the super-resolution space" (NTIRE 2021).

A method gives 10 samples of each LR image. They should be close to the photograph by LPIPS, reduce to the LR image
(LR-PSNR), and differ in a useful way: the diversity score S₁₀ says how much closer the photograph would be if each
place could be taken from the sample that is best there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from srflow_evaluation.bench import DIVERSITY, DIVERSITY_COLUMN, MODEL, NONFINITE, Bench, open_bench
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.options import Options
from srflow_evaluation.pictures import Picture, PictureFiles, read_picture
from srflow_evaluation.published_results import S10, SPACE
from srflow_evaluation.results import Results, Row, mean_of
from srflow_evaluation.sheets import sheets_of, shown_place, write_sheet
from srflow_evaluation.tables import Table
from srflow_sdk.errors import ArgumentError, MissingExtraError
from srflow_training import figures
from srflow_training._lpips import LPIPS
from srflow_training.lpips_weights import HOW

TAU = LevelTaus((0.9,))
"""The temperature if none is given: the publication's for DIV2K, the challenge's photographs."""

SAMPLES = 10
"""The challenge's number of samples."""

WORST = "lr_psnr_worst"
"""Column: the smallest LR-PSNR of a picture's samples; in summary.json the smallest of all."""

DistanceMap = Callable[[Tensor, Tensor], Tensor]
"""Image, reference → their distance at each pixel, 1×1×H×W."""


@torch.no_grad()
def ntire21(options: Options) -> Table:
    """Measure and write results.csv (a row per picture and method), summary.json and sheets; return the table.

    Raises: SRFlowError.
    """
    count = options.sample_count(SAMPLES, "the diversity score compares samples")
    tau = options.sampling_tau("ntire21", TAU)
    if options.metrics and "lr_psnr" not in options.metrics:
        raise ArgumentError("ntire21 is about LR-PSNR: add lr_psnr to --metrics")
    bench = _comparable(open_bench(options), count)
    maps = _distance_maps(options)
    scores = {f"diversity_score_{name}": heading for name, (heading, _) in maps.items()}
    settings = {**bench.settings, "measured": "ntire21", "tau": str(tau), "samples": count}
    results = Results(options.out, settings, shard=options.shard)
    sheets = sheets_of(results, bench.pictures, options.sheets or 1)

    def rows_of(files: PictureFiles) -> list[Row]:
        picture = read_picture(files, bench.cut, bench.subject.reduction)
        sample = bench.sampler(picture.lr)
        images = [sample(tau, seed) for seed in range(count)]
        if files.name in sheets:
            _draw_sheet(sheets[files.name], bench, picture, images)
        return [*bench.reference_rows(picture), _row(bench, picture, images, maps, tau)]

    rows = results.measure(bench.pictures, rows_of, options.progress)
    of_model = [row for row in rows if row["method"] == MODEL]
    names = [*(metric.name for metric in bench.metrics), DIVERSITY, *scores]
    means = {**mean_of(of_model, names), WORST: min(float(row[WORST]) for row in of_model)}
    line = {"tau": tau.in_json, **means}
    summary = bench.summary("ntire21", rows, [line])
    notes = [*summary["notes"], _sentence(count, list(scores.values()))]
    results.write_summary({**summary, "notes": notes, "tau": tau.in_json, "samples": count, "diversity_scores": scores})
    columns = {
        WORST: ("worst LR-PSNR, dB ↑", ".2f"),
        **{name: (f"S{_subscript(count)} by {heading} ↑", ".2f") for name, heading in scores.items()},
        **DIVERSITY_COLUMN,
    }
    lines = [*summary["references"].items(), (f"τ {tau}", line)]
    return bench.table(lines, notes, columns, published=SPACE)


def _comparable(bench: Bench, count: int) -> Bench:
    """Leave out the published diversity score unless as many samples are compared."""
    if bench.published is None or count == SAMPLES:
        return bench
    note = f"The published diversity score is left out: it is of {SAMPLES} samples, and this of {count}."
    return replace(bench, published=bench.published.without(S10), notes=[*bench.notes, note])


def _row(
    bench: Bench,
    picture: Picture,
    images: Sequence[Tensor],
    maps: Mapping[str, tuple[str, DistanceMap]],
    tau: LevelTaus,
) -> Row:
    of_samples = bench.sample_rows(images, picture)
    names = [metric.name for metric in bench.metrics]
    scores = {
        f"diversity_score_{name}": figures.space_diversity([distance(image, picture.hr) for image in images])
        for name, (_, distance) in maps.items()
    }
    return {
        "picture": picture.name,
        "method": MODEL,
        "tau": str(tau),
        **mean_of(of_samples, names),
        WORST: min(float(row["lr_psnr"]) for row in of_samples),
        **scores,
        DIVERSITY: figures.diversity(images),
        NONFINITE: sum(float(row[NONFINITE]) for row in of_samples),
    }


def _distance_maps(options: Options) -> dict[str, tuple[str, DistanceMap]]:
    """By the column's end, the distance's name and function: spatial LPIPS, or FLIP where its weights are not there.

    Raises: MissingExtraError if neither is there.
    """
    network = LPIPS.for_measuring(options.device)
    if network is not None:
        return {"lpips": ("LPIPS", partial(figures.lpips_map, network))}
    if not figures.has_flip():
        raise MissingExtraError(
            f"ntire21 needs a distance at each pixel, and neither LPIPS nor FLIP is at hand: {HOW}, "
            "or pip install flip-evaluator"
        )
    return {"flip": ("FLIP", figures.flip_map)}


def _sentence(count: int, headings: Sequence[str]) -> str:
    score = f"S{_subscript(count)}"
    text = (
        f"{score} is the diversity score, 0 to 100, mean over pictures: how much closer, in percent, the photograph "
        "would be than the best sample, if each pixel could be taken from the sample that is best there. The worst "
        "LR-PSNR is of all samples of all pictures; the other figures are means over samples."
    )
    if headings == ["FLIP"]:
        text += (
            f" The challenge computed {score} by the spatial LPIPS (AlexNet), whose weights are not on this machine; "
            "by FLIP it is not comparable with published scores."
        )
    return text


def _subscript(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def _draw_sheet(path: Path, bench: Bench, picture: Picture, images: Sequence[Tensor]) -> None:
    captioned = [(bench.caption(f"sample {number}", image, picture), image) for number, image in enumerate(images)]
    title = f"{picture.name}, samples: {bench.subject.name}"
    write_sheet(path, title, [("LR", picture.lr), *captioned, ("HR", picture.hr)], shown_place(picture.hr), columns=6)
