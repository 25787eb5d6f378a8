"""The protocols that draw samples: over τ, the best of n, all of them, and models side by side.

Tables and figures of the publication and its supplement: the main tables, table 1, figures 2 to 8
and 11 to 17; the challenge "Learning the super-resolution space" (NTIRE 2021); and the field's test
sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srflow_evaluation.bench import (
    DIVERSITY,
    DIVERSITY_COLUMN,
    MODEL,
    SAMPLES,
    SPREAD,
    VARIANCE,
    Bench,
    Sampled,
    check_output_folder,
    label_at,
    measure_models,
    model_names,
    open_bench,
)
from srflow_evaluation.metrics import Metric, perceptual_metric
from srflow_evaluation.models import Subject
from srflow_evaluation.options import ZERO, LevelTaus, Options
from srflow_evaluation.output import (
    SHEETS,
    Cell,
    Line,
    Panel,
    Table,
    choose_place,
    choose_places,
    heat_map,
    write_plot,
    write_sheet,
)
from srflow_evaluation.pictures import Picture, PictureFiles
from srflow_evaluation.results import Row
from srflow_sdk.errors import ArgumentError, MissingExtraError
from srflow_training import figures
from srflow_training.lpips import MISSING
from srflow_training.lpips_weights import HOW, weights_file

TAUS = tuple(LevelTaus((tau,)) for tau in (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0))
"""Temperatures if none are given."""


@torch.no_grad()
def tau_sweep(options: Options) -> Table:
    """Measure and write results.csv, summary.json, sheets and both plots; return the table.

    tau_sweep.png has the metrics over the temperature, perception_distortion.png each temperature
    as a point, if there are metrics of both kinds. Bicubic is in neither: it lies far from the
    others and would flatten every curve.

    Raises:
        SRFlowError.
    """
    bench = open_bench(options, several=True)
    sweep = measure_models(
        bench,
        options,
        lambda _: TAUS,
        _draw_over_tau,
        protocol="tau-sweep",
        measured="tau",
        sheets=1,
    )
    sweep.results.write_summary(sweep.summary)
    rows = sweep.summary["rows"]
    of_models = {
        label: [row for row in rows if row["method"] == model]
        for model, label in bench.labels.items()
    }
    others = _plotted_references(sweep.summary)
    _plot_over_tau(options, bench, of_models, others)
    _plot_plane(options, bench, of_models, others)
    return bench.table(sweep.lines(), sweep.summary["notes"], SPREAD)


_RowsByModel = Mapping[str, Sequence[Mapping[str, Any]]]
_Means = Mapping[str, Mapping[str, float]]


def _plot_over_tau(options: Options, bench: Bench, of_models: _RowsByModel, others: _Means) -> None:
    """Write tau_sweep.png."""
    perception = perceptual_metric(bench.metrics)
    headings = {metric.name: metric.heading for metric in bench.metrics}
    headings[VARIANCE] = f"diversity: {SPREAD[VARIANCE][0]}"
    chosen = dict.fromkeys(("psnr", "ssim", perception.name, VARIANCE, *options.metrics))
    panels = []
    for name in chosen:
        if name not in headings:
            continue
        curves = {}
        for label, rows in of_models.items():
            of_one_tau = [row for row in rows if isinstance(row["tau"], float)]
            curves[label] = [(row["tau"], row[name]) for row in of_one_tau]
        if any(curves.values()):
            lines = {other: means[name] for other, means in others.items() if name in means}
            panels.append(Panel(headings[name], "τ", curves=curves, lines=lines))
    if panels:
        write_plot(options.out / "tau_sweep.png", bench.title, panels)


def _plot_plane(options: Options, bench: Bench, of_models: _RowsByModel, others: _Means) -> None:
    """Write perception_distortion.png, if there are metrics of both kinds."""
    perception = perceptual_metric(bench.metrics)
    distortion = bench.metrics[0]
    if distortion.name != "psnr" or perception == distortion:
        return
    points = {}
    for name, means in others.items():
        points[name] = (means[distortion.name], means[perception.name])
    curves = {}
    for label, rows in of_models.items():
        curves[label] = [
            (row[distortion.name], row[perception.name], label_at(MODEL, row["tau"]))
            for row in rows
        ]
    panel = Panel(
        title="",
        x=f"distortion: {distortion.heading}",
        y=f"perception: {perception.heading}",
        curves=curves,
        points=points,
    )
    write_plot(options.out / "perception_distortion.png", bench.title, [panel])


def _plotted_references(summary: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """The means of other methods that plots show."""
    return {name: means for name, means in summary["references"].items() if name != "bicubic"}


def _draw_over_tau(bench: Bench, path: Path, picture: Picture, cells: Sequence[Cell]) -> None:
    """Draw figure 2: a picture over τ, between the input and the photograph."""
    title = f"{picture.name}: {', '.join(model_names([*bench.models.values()], ()))}"
    write_sheet(path, title, [*cells, ("HR", picture.hr)], [choose_place(picture.hr)], columns=5)


BEST_TAU = LevelTaus((0.8,))
"""The temperature if none is given."""

BEST_SAMPLES = 10
"""The largest n if `--samples` is not given."""


@torch.no_grad()
def best_of_n(options: Options) -> Table:
    """Measure and write results.csv (a row per sample), summary.json, best_of_n.png and sheets.

    Return the table.

    Raises:
        SRFlowError.
    """
    count = options.sample_count(BEST_SAMPLES, "best-of-n compares samples")
    tau = options.sampling_tau(BEST_TAU)
    bench = open_bench(options)

    def rows_of(files: PictureFiles, sheet: Path | None) -> list[Row]:
        picture = bench.read(files)
        sample = bench.subject.sampler(picture.lr)
        rows = []
        images = []
        for seed in range(count):
            image = sample(tau, seed)
            rows.append(bench.row(picture, MODEL, [image], tau, sample=str(seed)))
            if sheet is not None:
                images.append(image)
        if sheet is not None:
            _draw_best(bench, sheet, picture, rows, images)
        return [*bench.reference_rows(picture, sample=""), *rows]

    results, rows = bench.measure(options, rows_of, measured="samples", tau=str(tau), samples=count)
    means = _best_means(bench, rows, count)
    summary = bench.summary("best-of-n", rows, means, tau=str(tau))
    results.write_summary(summary)
    title = f"best of n samples at τ {tau}, whole pictures against HR\n{bench.title}"
    panels = _plot_best(options, bench, means, _plotted_references(summary))
    write_plot(options.out / "best_of_n.png", title, panels)
    lines: list[Line] = [(f"best of {row['n']}", row) for row in means]
    return bench.table([*summary["references"].items(), *lines], summary["notes"])


def _plot_best(
    options: Options,
    bench: Bench,
    means: Sequence[Mapping[str, Any]],
    others: _Means,
) -> list[Panel]:
    """A panel for each metric: its best over n."""
    perception = perceptual_metric(bench.metrics)
    chosen = {"psnr", "ssim", perception.name, "lr_psnr", *options.metrics}
    panels = []
    for metric in bench.metrics:
        if metric.name not in chosen:
            continue
        panel = Panel(
            title=f"{metric.heading}\nof the sample best by it",
            x="n",
            curves={bench.labels[MODEL]: [(row["n"], row[metric.name]) for row in means]},
            lines={name: of_method[metric.name] for name, of_method in others.items()},
            first_tick=1,
        )
        panels.append(panel)
    return panels


def _draw_best(
    bench: Bench,
    path: Path,
    picture: Picture,
    rows: Sequence[Row],
    images: Sequence[Tensor],
) -> None:
    """Draw figure 7: for each n, the best of the first n samples."""
    metric = perceptual_metric(bench.metrics)
    better = _choose_better(metric)
    cells = [("LR", picture.lr)]
    for n in range(1, len(rows) + 1):
        winner = better(rows[:n], key=lambda row: float(row[metric.name]))
        sample = int(winner["sample"])
        figure = metric.of(float(winner[metric.name]))
        cells.append((f"best of {n}: sample {sample}\n{figure}", images[sample]))
    cells.append(("HR", picture.hr))
    title = f"{picture.name}, best by {metric.heading} of the whole picture: {bench.subject.name}"
    write_sheet(path, title, cells, [choose_place(picture.hr)], columns=6)


def _best_means(bench: Bench, rows: Sequence[Row], count: int) -> list[dict[str, Any]]:
    """For each n, and each metric, the mean over pictures of the best of the first n samples."""
    by_sample: list[list[Row]] = [
        [row for row in rows if row["sample"] == str(seed)] for seed in range(count)
    ]
    means: list[dict[str, Any]] = [{"n": n} for n in range(1, count + 1)]
    for metric in bench.metrics:
        choose = _choose_better(metric)
        best = [float(row[metric.name]) for row in by_sample[0]]
        for line, of_pictures in zip(means, by_sample, strict=True):
            best = [
                choose(old, float(row[metric.name]))
                for old, row in zip(best, of_pictures, strict=True)
            ]
            line[metric.name] = sum(best) / len(best)
    return means


def _choose_better(metric: Metric) -> Any:
    """The function that chooses the better of two figures, `max` or `min`."""
    return max if metric.better == "higher" else min


DEVIATION_SAMPLES = 8
"""Samples of a picture if `--samples` is not given."""

_COMMON = 0.995  # the share of deviations that the map shows below its brightest colour


@torch.no_grad()
def random_samples(options: Options) -> Table:
    """Measure and write results.csv (a row per picture and method), summary.json and sheets.

    Return the table.

    Raises:
        SRFlowError.
    """
    count = options.sample_count(DEVIATION_SAMPLES, "the deviation of samples is shown")
    bench = open_bench(options)
    tau = options.sampling_tau(bench.subject.default_tau)

    def rows_of(files: PictureFiles, sheet: Path | None) -> list[Row]:
        picture = bench.read(files)
        sample = bench.subject.sampler(picture.lr)
        drawn = [sample(tau, seed) for seed in range(count)]
        if sheet is not None:
            _draw_deviation(bench, sheet, picture, tau, drawn)
        return [*bench.reference_rows(picture), bench.sampled_row(picture, MODEL, tau, drawn)]

    results, rows = bench.measure(
        options,
        rows_of,
        sheets=SHEETS,
        measured="deviation",
        tau=str(tau),
        samples=count,
    )
    of_model = [row for row in rows if row["method"] == MODEL]
    spread = sorted((float(row[DIVERSITY]), str(row["picture"])) for row in of_model)
    least, sure = spread[0]
    most, unsure = spread[-1]
    extremes = (
        f"The samples of {unsure} differ most (diversity {most:.2f}/255), those of {sure} least "
        f"({least:.2f}/255)."
    )
    mean = bench.mean_row(rows, MODEL, tau)
    summary = bench.summary("samples", rows, [mean], extremes, samples=count)
    results.write_summary(summary)
    lines = [*summary["references"].items(), (f"τ {tau}, mean of {count} samples", mean)]
    return bench.table(lines, summary["notes"], DIVERSITY_COLUMN)


def _draw_deviation(
    bench: Bench,
    path: Path,
    picture: Picture,
    tau: LevelTaus,
    samples: Sequence[Tensor],
) -> None:
    """Draw the input, other methods, the photograph and the deviation; below them the samples."""
    place = choose_place(picture.hr)
    deviation = figures.deviation_map(samples)
    shown = deviation[..., place[0], place[1]]
    common = float(shown.flatten().quantile(_COMMON))
    top = max(1, math.ceil(common))
    scale = f"deviation: black 0, yellow {top}/255\nmean here {float(shown.mean()):.1f}"
    cells = [("LR", picture.lr)]
    for name, method in bench.references.items():
        cells.append(bench.cell(name, method(picture), picture))
    cells += [("HR", picture.hr), (scale, heat_map(deviation, top))]
    across = len(cells)
    cells += [bench.cell(f"sample {seed}", image, picture) for seed, image in enumerate(samples)]
    subject = bench.subject
    title = f"{picture.name}, {len(samples)} samples at τ {tau}, ×{subject.scale}: {subject.name}"
    write_sheet(path, title, cells, [place], columns=across)


CROPS = 3
"""Rows of a sheet: the most detailed crops of a picture."""

PRETRAINED = "from a trained encoder"
SCRATCH = "from scratch"


@torch.no_grad()
def compare(options: Options) -> Table:
    """Measure and write results.csv, summary.json and sheets (a row per crop, a column per method).

    Return the table.

    Raises:
        SRFlowError.
    """
    bench = open_bench(options, several=True, alone="", mixed=True)
    sampled = _measure_side_by_side(options, bench, "compare")
    sampled.results.write_summary(sampled.summary)
    return bench.table(sampled.lines(), sampled.summary["notes"], DIVERSITY_COLUMN)


@torch.no_grad()
def encoder_init(options: Options) -> Table:
    """Compare two models as :func:`compare` does, and add their difference; return the table.

    A model whose file does not note where its encoder came from has no label, and then there is no
    difference.

    Raises:
        SRFlowError.
    """
    if len(options.models) != 2:
        raise ArgumentError(
            f"encoder-init compares two models, not {len(options.models)}: give --model twice, one "
            "that started from a trained encoder and one trained from scratch"
        )
    options.only_tau()
    bench = open_bench(options, several=True, alone="")
    roles = _roles(bench.models)
    sampled = _measure_side_by_side(options, bench, "encoder-init")
    summary = sampled.summary
    summary["rows"].sort(key=lambda row: roles.get(row["method"], "") == SCRATCH)
    lines: list[Line] = [*summary["references"].items()]
    for row in summary["rows"]:
        labels = [row["method"]]
        if row["method"] in roles:
            row["encoder"] = roles[row["method"]]
            labels.append(row["encoder"])
        labels.append(label_at(MODEL, row["tau"]))
        lines.append((", ".join(labels), row))
    unknown = [name for name in bench.models if name not in roles]
    if unknown:
        summary["notes"].append(
            f"No file notes where the encoder of {' and '.join(unknown)} came from, so no "
            "difference is stated. Checkpoints of srflow-train note it."
        )
    else:
        lines += _compare_with_scratch(sampled)
    sampled.results.write_summary(summary)
    return bench.table(lines, summary["notes"], DIVERSITY_COLUMN)


def _compare_with_scratch(sampled: Sampled) -> list[Line]:
    """Add to the summary what a trained encoder gains, and return its lines of the table."""
    bench = sampled.bench
    summary = sampled.summary
    trained, scratch = summary["rows"]
    forms = {metric.name: metric.form for metric in bench.metrics}
    forms[DIVERSITY] = ".2f"
    gains = {name: trained[name] - scratch[name] for name in forms}
    wins = _count_wins(sampled, trained["method"], scratch["method"])
    summary |= {"difference": gains, "trained_is_better_on": wins}
    differences = {name: f"{gain:+{forms[name]}}" for name, gain in gains.items()}
    counts = {name: f"{count} of {len(bench.pictures)}" for name, count in wins.items()}
    return [("trained − scratch", differences), ("the trained one is better on", counts)]


def _measure_side_by_side(options: Options, bench: Bench, protocol: str) -> Sampled:
    return measure_models(
        bench,
        options,
        lambda subject: [subject.default_tau],
        _draw_side_by_side,
        protocol=protocol,
        sheets=SHEETS,
    )


def _roles(models: Mapping[str, Subject]) -> dict[str, str]:
    """How the encoders of two models began, of those whose files note it.

    Raises: ArgumentError if both began alike.
    """
    roles = {}
    for name, subject in models.items():
        if subject.started_from is not None:
            roles[name] = PRETRAINED if subject.started_from else SCRATCH
    if len(roles) == 2 and len(set(roles.values())) == 1:
        raise ArgumentError(
            f"both models started {min(roles.values())}, as their notes say: name one of each kind"
        )
    return roles


def _count_wins(sampled: Sampled, one: str, other: str) -> dict[str, int]:
    """On how many pictures one model is better than another, by metric."""
    rows = [row for row in sampled.rows if row["method"] == one]
    others = [row for row in sampled.rows if row["method"] == other]
    wins = {}
    for metric in sampled.bench.metrics:
        sign = 1 if metric.better == "higher" else -1
        wins[metric.name] = 0
        for row, against in zip(rows, others, strict=True):
            gain = float(row[metric.name]) - float(against[metric.name])
            wins[metric.name] += sign * gain > 0
    return wins


def _draw_side_by_side(bench: Bench, path: Path, picture: Picture, cells: Sequence[Cell]) -> None:
    """Draw figures 11 to 13: a row for each crop, with LR images, methods and the photograph."""
    title = f"{picture.name}, ×{bench.subject.scale}; figures are of the whole picture"
    write_sheet(path, title, [*cells, ("HR", picture.hr)], choose_places(picture.hr, CROPS))


NTIRE_TAU = LevelTaus((0.9,))
"""The temperature if none is given: the publication's for DIV2K, the challenge's photographs."""

NTIRE_SAMPLES = 10
"""The challenge's number of samples."""

WORST = "lr_psnr_worst"
"""Column: the smallest LR-PSNR of a picture's samples; in summary.json the smallest of all."""

_NTIRE_NOTE = (
    "{} is the diversity score, 0 to 100, mean over pictures: how much closer, in percent, the "
    "photograph would be than the best sample, if each pixel could be taken from the sample that "
    "is best there. The worst LR-PSNR is of all samples of all pictures; the other figures are "
    "means over samples."
)
_NOT_LPIPS = (
    " The challenge computed {} by the spatial LPIPS (AlexNet), whose weights are not on this "
    "machine; by FLIP it is not comparable with published scores."
)


@torch.no_grad()
def ntire21(options: Options) -> Table:
    """Measure and write results.csv (a row per picture and method), summary.json and sheets.

    Return the table.

    Raises:
        SRFlowError.
    """
    # more than 15 locals: the score's name follows from what measures it
    count = options.sample_count(NTIRE_SAMPLES, "the diversity score compares samples")
    tau = options.sampling_tau(NTIRE_TAU)
    if options.metrics and "lr_psnr" not in options.metrics:
        raise ArgumentError("ntire21 is about LR-PSNR: add lr_psnr to --metrics")
    bench = open_bench(options)
    heading, distance = _choose_distance(bench)
    score = f"diversity_score_{heading.lower()}"
    measure_lr_psnr = next(metric for metric in bench.metrics if metric.name == "lr_psnr").measure

    def rows_of(files: PictureFiles, sheet: Path | None) -> list[Row]:
        picture = bench.read(files)
        sample = bench.subject.sampler(picture.lr)
        images = [sample(tau, seed) for seed in range(count)]
        if sheet is not None:
            _draw_samples(bench, sheet, picture, images)
        lr_psnrs = [measure_lr_psnr(image, picture, bench.convention) for image in images]
        distances = [distance(image, picture.hr) for image in images]
        row = bench.row(picture, MODEL, images, tau)
        row[WORST] = min(lr_psnrs)
        row[score] = figures.space_diversity(distances)
        row[DIVERSITY] = figures.diversity(images)
        return [*bench.reference_rows(picture), row]

    results, rows = bench.measure(options, rows_of, measured="ntire21", tau=str(tau), samples=count)
    worst = min(float(row[WORST]) for row in rows if row["method"] == MODEL)
    means = bench.means(rows, [DIVERSITY, score], method=MODEL)
    line = {"tau": tau.in_json, **means, WORST: worst}
    symbol = f"S{str(count).translate(str.maketrans('0123456789', '₀₁₂₃₄₅₆₇₈₉'))}"
    note = _NTIRE_NOTE.format(symbol)
    if heading != "LPIPS":
        note += _NOT_LPIPS.format(symbol)
    more = {"tau": tau.in_json, "samples": count, "diversity_scores": {score: heading}}
    summary = bench.summary("ntire21", rows, [line], note, **more)
    results.write_summary(summary)
    columns = {
        WORST: ("worst LR-PSNR, dB ↑", ".2f"),
        score: (f"{symbol} by {heading} ↑", ".2f"),
        **DIVERSITY_COLUMN,
    }
    lines = [*summary["references"].items(), (f"τ {tau}", line)]
    return bench.table(lines, summary["notes"], columns)


def _draw_samples(bench: Bench, path: Path, picture: Picture, samples: Sequence[Tensor]) -> None:
    cells = [("LR", picture.lr)]
    cells += [bench.cell(f"sample {seed}", image, picture) for seed, image in enumerate(samples)]
    cells.append(("HR", picture.hr))
    title = f"{picture.name}, samples: {bench.subject.name}"
    write_sheet(path, title, cells, [choose_place(picture.hr)], columns=6)


def _choose_distance(bench: Bench) -> tuple[str, Callable[[Tensor, Tensor], Tensor]]:
    """A distance at each pixel, 1×1×H×W, and its name: spatial LPIPS, or FLIP without its weights.

    Raises: MissingExtraError if neither is there.
    """
    if bench.convention.lpips is not None:
        return "LPIPS", partial(figures.lpips_map, bench.convention.lpips)
    if not figures.has_flip():
        raise MissingExtraError(
            "ntire21 needs a distance at each pixel, and neither LPIPS nor FLIP is at hand: "
            f"{HOW}, or pip install flip-evaluator"
        )
    return "FLIP", figures.flip_map


SETS = ("Set5", "Set14", "BSD100", "Urban100", "Kodak")
"""Their order in the table; sets of other names follow."""

NOTE = (
    "PSNR of the luma Y (BT.601, 16 to 235 of 255, not rounded), without a border of {scale} "
    "pixels; the other figures of whole RGB pictures in 8 bits; means over a set's pictures, of a "
    "sampling model over {samples} samples each. LR and HR pictures are the set's files; without "
    "LR files they are {reduction} reductions."
)


@torch.no_grad()
def standard(options: Options) -> Table:
    """Measure each set into a folder of its own, as `compare` does.

    Return a line for each method and temperature.

    Each model stands at τ 0 and at its default, if no temperature is named.

    Raises:
        SRFlowError.
    """
    check_output_folder(options)
    lpips = ("lpips",) if weights_file("alex") is not None else ()
    columns = []
    rows: dict[str, list[str]] = {}
    for name, folder in _find_sets(options.hr).items():
        of_set = replace(
            options,
            hr=folder / "HR",
            lr=folder / "LR" if (folder / "LR").is_dir() else None,
            output=options.out / name,
            others={other: outputs / name for other, outputs in options.others.items()},
            convention="standard",
            metrics=options.metrics or ("y_psnr", *lpips),
        )
        options.progress(f"{name}:")
        bench = open_bench(of_set, several=True, alone="")
        sampled = measure_models(
            bench,
            of_set,
            lambda subject: (ZERO, subject.default_tau),
            lambda *_: None,
            protocol="standard",
        )
        sampled.results.write_summary(sampled.summary)
        columns.append(f"{name} ({len(bench.pictures)})")
        metrics = sorted(bench.metrics, key=lambda metric: metric.name != "y_psnr")  # first
        for method, means in sampled.lines():
            cell = " / ".join(format(means[metric.name], metric.form) for metric in metrics)
            rows.setdefault(method, [method]).append(cell)
    headings = " / ".join(metric.heading for metric in metrics)
    note = NOTE.format(
        scale=bench.subject.scale,
        samples=options.samples or SAMPLES,
        reduction=bench.subject.reduction,
    )
    notes = [f"{headings}, ×{bench.subject.scale}. {note}"]
    if not lpips and not options.metrics:
        notes.append(MISSING)
    return Table(["method", *columns], [*rows.values()], notes)


def _find_sets(hr: Path) -> dict[str, Path]:
    """The sets in a folder, or the one that it is, by name. Raises: ArgumentError for none."""
    if (hr / "HR").is_dir():
        return {hr.resolve().name: hr}
    sets = {}
    for folder in sorted(hr.glob("*/HR")):
        if folder.is_dir():
            sets[folder.parent.name] = folder.parent
    if not sets:
        raise ArgumentError(
            f"--hr {hr} has no SET/HR with photographs: make it by benchmarks/standard_sets.py"
        )
    return {name: sets[name] for name in (*SETS, *sets) if name in sets}
