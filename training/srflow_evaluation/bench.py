"""The runner that the protocols share: pictures × methods × metrics → rows, means and tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from srflow_evaluation.metrics import Convention, Metric, perceptual_metric
from srflow_evaluation.models import (
    TILE,
    Method,
    PaddedFlow,
    Subject,
    check_device,
    open_references,
    open_subject,
)
from srflow_evaluation.options import LevelTaus, Options
from srflow_evaluation.output import Cell, Line, Table, sheets_of, table_of
from srflow_evaluation.pictures import Cut, Picture, PictureFiles, picture_files, read_picture
from srflow_evaluation.results import Results, Row, mean_of
from srflow_sdk._version import __version__
from srflow_sdk.errors import ArgumentError
from srflow_sdk.model.manifest import Reduction
from srflow_sdk.system.local_files import file_sha256, real_path
from srflow_training import figures
from srflow_training.data import size_of
from srflow_training.lpips import LPIPS, MISSING
from srflow_training.lpips_weights import weights_file

NONFINITE = "nonfinite"
"""Column of results.csv: values of a method's pictures that are not finite."""

MODEL = "model"
"""The model's name in the column `method` of results.csv, where there is only one."""

DIVERSITY = "diversity"
VARIANCE = "variance"
SPREAD = {DIVERSITY: ("diversity, /255", ".2f"), VARIANCE: ("variance, /255²", ".1f")}
"""How samples differ: heading and format of the columns."""

DIVERSITY_COLUMN = {DIVERSITY: SPREAD[DIVERSITY]}

SAMPLES = 3
"""Samples of a picture if `--samples` is not given, where several models stand side by side."""

PUBLISHED_CUT = 8  # pixels: the publication's test pictures have sides that are multiples of this
_PLAIN = frozenset({"model", "best"})  # what the trainer calls its files


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Models, other methods and photographs, ready to be measured.

    Attributes:
        models: by their names in tables.
        references: other methods by name, picture → image 1×3×H×W: bicubic first.
        bilinear: those of them that enlarge bilinear reductions, whatever the first model was
            trained on.
        settings: all that the figures depend on except the pictures and what the protocol adds.
        notes: sentences for the reader of the results.
    """

    models: Mapping[str, Subject]
    cut: Cut
    pictures: Sequence[PictureFiles]
    convention: Convention
    metrics: tuple[Metric, ...]
    references: Mapping[str, Method]
    settings: Mapping[str, Any]
    notes: Sequence[str]
    bilinear: frozenset[str] = frozenset()

    @property
    def subject(self) -> Subject:
        """The first model, or the only one."""
        return next(iter(self.models.values()))

    @property
    def labels(self) -> dict[str, str]:
        """A name for each model's curve, also where there is only one."""
        names = model_names([*self.models.values()], self.references)
        return dict(zip(self.models, names, strict=True))

    @property
    def names(self) -> list[str]:
        """Of the metrics."""
        return [metric.name for metric in self.metrics]

    def look_up_reduction(self, method: str) -> Reduction:
        """The reduction that a model or another method enlarges."""
        if method in self.bilinear:
            return "bilinear"
        return self.models.get(method, self.subject).reduction

    @property
    def reductions(self) -> list[Reduction]:
        """All reductions that are enlarged, bicubic first."""
        return sorted({self.look_up_reduction(name) for name in (*self.models, *self.references)})

    def read(self, files: PictureFiles, reduction: Reduction | None = None) -> Picture:
        """A picture, its LR image reduced by this reduction, or as the first model was trained."""
        return read_picture(files, self.cut, reduction or self.subject.reduction)

    def figures(self, image: Tensor, picture: Picture) -> dict[str, float]:
        """All metrics of one image."""
        measured = {}
        for metric in self.metrics:
            measured[metric.name] = metric.measure(image, picture, self.convention)
        return measured

    def row(
        self,
        picture: Picture,
        method: str,
        images: Sequence[Tensor],
        tau: LevelTaus | str = "",
        **more: str,
    ) -> Row:
        """The means of a method's images of a picture, and their number of values not finite.

        Such values count as black.

        Args:
            more: further text, before the method.
        """
        broken = float(sum(figures.nonfinite(image) for image in images))
        means = mean_of([self.figures(image, picture) for image in images], self.names)
        return {
            "picture": picture.name,
            **more,
            "method": method,
            "tau": str(tau),
            **means,
            NONFINITE: broken,
        }

    def sampled_row(
        self,
        picture: Picture,
        method: str,
        tau: LevelTaus,
        samples: Sequence[Tensor],
    ) -> Row:
        """The same of a model's samples at a temperature, and how they differ."""
        row = self.row(picture, method, samples, tau)
        row[DIVERSITY] = 0.0 if tau.is_zero else figures.diversity(samples)
        row[VARIANCE] = 0.0 if tau.is_zero else figures.variance(samples)
        return row

    def reference_rows(
        self,
        picture: Picture,
        seen: Picture | None = None,
        **more: str,
    ) -> list[Row]:
        """A row for each other method.

        Args:
            seen: what methods are given, if it is not what their images compare with.
        """
        return [
            self.row(picture, name, [method(seen or picture)], **more)
            for name, method in self.references.items()
        ]

    def means(
        self,
        rows: Sequence[Row],
        more: Iterable[str] = (),
        **chosen: str,
    ) -> dict[str, float]:
        """The means of all metrics, and of `more` columns, over rows with the chosen texts."""
        rows = [row for row in rows if all(row[name] == text for name, text in chosen.items())]
        return mean_of(rows, [*self.names, *more])

    def mean_row(self, rows: Sequence[Row], method: str, tau: LevelTaus) -> dict[str, Any]:
        """The means of a method's rows at a temperature, with `tau` as JSON has it."""
        return {"tau": tau.in_json, **self.means(rows, SPREAD, method=method, tau=str(tau))}

    def measure(
        self,
        options: Options,
        rows_of: Callable[[PictureFiles, Path | None], list[Row]],
        *,
        sheets: int = 1,
        **settings: Any,
    ) -> tuple[Results, list[Row]]:
        """Measure all pictures.

        Args:
            rows_of: a picture's files, and where its sheet is drawn (None: nowhere) → its rows.
            sheets: how many, if `--sheets` is not given.
            settings: what the figures depend on besides.
        """
        results = Results(options.out, {**self.settings, **settings})
        paths = sheets_of(results, self.pictures, options.sheets or sheets)
        measure = results.measure(
            self.pictures,
            lambda files: rows_of(files, paths.get(files.name)),
            options.progress,
        )
        return results, measure

    @property
    def title(self) -> str:
        """One line over plots."""
        models = self.subject.name if len(self.models) == 1 else ", ".join(self.models)
        count = f"{len(self.pictures)} picture{'' if len(self.pictures) == 1 else 's'}"
        return f"{models}, ×{self.subject.scale}, {count}, {self.convention.name} convention"

    def caption(self, name: str, row: Mapping[str, Any]) -> str:
        """A caption of two lines: the name, and two figures of the whole picture.

        They are PSNR and the perceptual metric, among its figures.
        """
        shown = dict.fromkeys((self.metrics[0], perceptual_metric(self.metrics)))
        return f"{name}\n{', '.join(metric.of(float(row[metric.name])) for metric in shown)}"

    def cell(self, name: str, image: Tensor, picture: Picture) -> Cell:
        """A cell of a sheet with its caption."""
        return self.caption(name, self.figures(image, picture)), image

    def table(
        self,
        lines: Sequence[Line],
        notes: Sequence[str],
        more: Mapping[str, tuple[str, str]] | None = None,
    ) -> Table:
        """A table of lines, with the convention and the notes below.

        Args:
            more: heading and format of columns that are no metrics, by their names.
        """
        columns = {metric.name: (metric.heading, metric.form) for metric in self.metrics}
        return table_of({**columns, **(more or {})}, lines, [f"{self.convention}.", *notes])

    def summary(
        self,
        protocol: str,
        rows: Sequence[Row],
        means: Sequence[Mapping[str, Any]],
        *notes: str,
        **more: Any,
    ) -> dict[str, Any]:
        """The contents of summary.json.

        Args:
            rows: those of results.csv.
            means: those of the models.
            more: its own.
        """
        broken = sum(float(row.get(NONFINITE, 0)) for row in rows)
        warning = (
            f"{broken:.0f} values of pictures are not finite (NaN or infinite): they are measured "
            "as black."
        )
        models = [
            {
                "name": name,
                "model": subject.name,
                "sha256": subject.sha256,
                "reduction": subject.reduction,
            }
            for name, subject in self.models.items()
        ]
        only = {"model": self.subject.name, "model_sha256": self.subject.sha256}
        return {
            "protocol": protocol,
            **(only if MODEL in self.models else {"models": models}),
            "scale": self.subject.scale,
            "pictures": len(self.pictures),
            "convention": str(self.convention),
            "metrics": {
                metric.name: {"heading": metric.heading, "better": metric.better}
                for metric in self.metrics
            },
            "notes": [*([warning] if broken else []), *self.notes, *notes],
            "rows": list(means),
            "references": {name: self.means(rows, method=name) for name in self.references},
            **more,
        }


Draw = Callable[[Bench, Path, Picture, Sequence[Cell]], None]
"""Draws a sheet: where, the picture, and its cells: for each reduction the LR image, and what was
made of it."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Models at temperatures, beside other methods, as they were measured.

    Attributes:
        summary: what stands in summary.json.
    """

    bench: Bench
    results: Results
    rows: Sequence[Row]
    summary: dict[str, Any]

    def lines(self) -> list[Line]:
        """The table's lines: the other methods, then the models at their temperatures."""
        models = [(label_at(row["method"], row["tau"]), row) for row in self.summary["rows"]]
        return [*self.summary["references"].items(), *models]


def measure_models(
    bench: Bench,
    options: Options,
    default: Callable[[Subject], Iterable[LevelTaus]],
    draw: Draw,
    *,
    protocol: str,
    measured: str = "models",
    sheets: int = 0,
) -> Sampled:
    """Measure the samples of all models.

    The summary is not written.

    Args:
        default: a model's temperatures if none are named.
        measured: what, for settings.json.

    Raises:
        SRFlowError.
    """
    count = options.sample_count(SAMPLES, "diversity is a standard deviation")
    taus = {
        name: tuple(dict.fromkeys(options.taus or default(subject)))
        for name, subject in bench.models.items()
    }

    def rows_of(files: PictureFiles, sheet: Path | None) -> list[Row]:
        rows = list[Row]()
        cells = list[Cell]()
        for reduction in bench.reductions:
            picture = bench.read(files, reduction)
            cells.append(("LR" if len(bench.reductions) == 1 else f"LR, {reduction}", picture.lr))
            for row, image in _enlarge(bench, picture, taus, count):
                rows.append(row)
                if sheet is not None:
                    name = str(row["method"])
                    if name in bench.models:
                        name = label_at(name, str(row["tau"]))
                    cells.append(bench.cell(name, image, picture))
        if sheet is not None:
            draw(bench, sheet, picture, cells)
        return rows

    results, rows = bench.measure(
        options,
        rows_of,
        sheets=sheets,
        measured=measured,
        models=[[name, subject.sha256] for name, subject in bench.models.items()],
        taus={name: [str(tau) for tau in of] for name, of in taus.items()},
        samples=count,
    )
    means = [
        {"method": name, **bench.mean_row(rows, name, tau)}
        for name in bench.models
        for tau in taus[name]
    ]
    summary = bench.summary(protocol, rows, means, samples=count)
    return Sampled(bench=bench, results=results, rows=rows, summary=summary)


def _enlarge(
    bench: Bench,
    picture: Picture,
    taus: Mapping[str, Sequence[LevelTaus]],
    count: int,
) -> Iterator[tuple[Row, Tensor]]:
    """Yield row and image of each method that enlarges the picture's reduction, models last."""
    for name, method in bench.references.items():
        if bench.look_up_reduction(name) == picture.reduction:
            image = method(picture)
            yield bench.row(picture, name, [image]), image
    for name, subject in bench.models.items():
        if subject.reduction == picture.reduction:
            sample = subject.sampler(picture.lr)
            for tau in taus[name]:
                drawn = [sample(tau, seed) for seed in range(1 if tau.is_zero else count)]
                yield bench.sampled_row(picture, name, tau, drawn), drawn[0]


def label_at(name: str, tau: LevelTaus | float | str) -> str:
    """A model at a temperature; one that is alone needs no name."""
    of_tau = f"τ {tau:g}" if isinstance(tau, float) else f"τ {tau}"
    return of_tau if name == MODEL else f"{name}, {of_tau}"


def model_names(subjects: Sequence[Subject], taken: Iterable[str]) -> list[str]:
    """A short name for each model: its file's, or its folder's.

    Where these are not unique, it is its path.

    Raises:
        ArgumentError.
    """
    paths = [Path(subject.name) for subject in subjects]
    short = [
        path.parent.name if path.stem in _PLAIN and path.parent.name else path.stem
        for path in paths
    ]
    counts = Counter([*short, *taken])
    names = [
        name if counts[name] == 1 else subject.name
        for name, subject in zip(short, subjects, strict=True)
    ]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ArgumentError(f"--model names {twice[0]} twice: name different models")
    return names


def check_output_folder(options: Options) -> None:
    """Raises: ArgumentError if the results would lie among the photographs."""
    if real_path(options.out).is_relative_to(real_path(options.hr)):
        raise ArgumentError(
            f"-o {options.out} is inside --hr, whose pictures are measured: name a folder elsewhere"
        )


def open_networks(
    options: Options,
    scale: int,
    reduction: Reduction,
) -> tuple[Convention, dict[str, str | None]]:
    """The convention, with the networks that metrics need, and the sha256 of their files.

    None: not measured.
    """
    convention = Convention(
        name=options.convention,
        scale=scale,
        reduction=reduction,
        lpips=LPIPS.for_measuring(options.device),
    )
    file = weights_file("alex")
    return convention, {"lpips": None if file is None else file_sha256(file)}


def open_bench(
    options: Options,
    *,
    several: bool = False,
    alone: str = MODEL,
    mixed: bool = False,
) -> Bench:
    """Open all that is named: the only model, or `several`.

    Args:
        alone: the name of a model that is the only one; empty: its own.
        mixed: models may have been trained on different reductions.

    Raises:
        SRFlowError: for what is missing or does not fit.
    """
    check_device(options.device)
    check_output_folder(options)
    models = (options.models or (None,)) if several else (options.model,)
    subjects = [open_subject(model, tile=TILE, device=options.device) for model in models]
    _check_models(options, subjects, mixed=mixed)
    reductions = {subject.reduction for subject in subjects}
    if options.lr is not None and (len(reductions) > 1 or options.bilinear):
        raise ArgumentError(
            f"--lr {options.lr} is of one reduction, and the methods enlarge several: leave it out"
        )
    first = subjects[0]
    references, notes, digests, multiple = open_references(options, first.scale)
    names = [alone] if alone and len(subjects) == 1 else model_names(subjects, references)
    cut = _choose_cut(options, subjects, multiple)
    if options.convention != "default":
        subjects = [_pad_inputs(subject, truncating=cut.in_passes) for subject in subjects]
    pictures = picture_files(
        options.hr,
        lr=options.lr,
        others=options.others,
        cut=cut,
        most=options.most,
        inputs=options.inputs,
    )
    notes += _note_ms_ssim_scales(cut, [size_of(files.hr) for files in pictures])
    convention, networks = open_networks(options, first.scale, first.reduction)
    metrics = convention.metrics(options.metrics)
    if not options.metrics:
        notes += _missing_metrics(convention)
    bench = Bench(
        models=dict(zip(names, subjects, strict=True)),
        cut=cut,
        pictures=pictures,
        convention=convention,
        metrics=metrics,
        references=references,
        settings={
            **_list_settings(options, first),
            "metrics": [metric.name for metric in metrics],
            "references": digests,
            **networks,
        },
        notes=notes,
        bilinear=frozenset(options.bilinear),
    )
    if len(bench.reductions) == 1:
        return bench
    return replace(bench, notes=[*bench.notes, _reductions_note(bench)])


def _list_settings(options: Options, subject: Subject) -> dict[str, Any]:
    """What figures depend on besides the pictures, the metrics and the methods' files."""
    return {
        "version": __version__,
        "model": subject.sha256,
        "convention": options.convention,
        "crop": options.centre,
        "lr": "files" if options.lr is not None else subject.reduction,
        "others": list(options.others),
        "bilinear": sorted(options.bilinear),
        "device": options.device,
    }


def _choose_cut(options: Options, subjects: Sequence[Subject], multiple: int) -> Cut:
    """How photographs are cut, so that all networks take them.

    Args:
        multiple: what other methods need LR sides to be multiples of.
    """
    scale = subjects[0].scale
    in_passes = options.convention == "published"
    multiple = scale * math.lcm(multiple, *(subject.multiple for subject in subjects))
    if options.convention != "default" and options.centre is None:
        multiple = math.lcm(PUBLISHED_CUT if in_passes else 1, scale)
    return Cut(scale=scale, multiple=multiple, centre=options.centre, in_passes=in_passes)


def _missing_metrics(convention: Convention) -> list[str]:
    """A sentence for each metric that cannot be measured on this machine."""
    notes = [MISSING] if convention.lpips is None else []
    if not figures.has_flip():
        notes.append(
            "FLIP is not measured, because flip-evaluator is not installed: pip install "
            "flip-evaluator."
        )
    return notes


def _reductions_note(bench: Bench) -> str:
    """A sentence that says which methods enlarge which reductions."""
    methods = {
        reduction: [
            name
            for name in (*bench.references, *bench.models)
            if bench.look_up_reduction(name) == reduction
        ]
        for reduction in bench.reductions
    }
    told = "; ".join(f"{reduction} for {', '.join(names)}" for reduction, names in methods.items())
    return f"Each method has LR images, and LR-PSNR, of the reduction that it enlarges: {told}."


def _note_ms_ssim_scales(cut: Cut, sizes: Sequence[tuple[int, int]]) -> list[str]:
    """A sentence if MS-SSIM has not the same number of scales for all pictures."""
    windows = [cut.window(*size) for size in sizes]
    counts = {
        figures.ms_ssim_scales(rows.stop - rows.start, columns.stop - columns.start)
        for rows, columns in windows
    }
    if len(counts) == 1:
        return []
    return [
        f"The pictures' sizes differ, so that MS-SSIM has {min(counts)} scales for some and "
        f"{max(counts)} for others: compare its mean only with means over the same pictures."
    ]


def _pad_inputs(subject: Subject, *, truncating: bool) -> Subject:
    """A flow that takes LR images of any size."""
    flow = subject.flow
    assert flow is not None  # for the type checker: an RRDB was refused before
    scale = subject.scale
    multiple = subject.multiple
    return replace(
        subject,
        flow=lambda lr: PaddedFlow(flow, lr, multiple=multiple, scale=scale, truncating=truncating),
    )


def _check_models(options: Options, subjects: Sequence[Subject], *, mixed: bool) -> None:
    """Check that they are flows that can be measured side by side. Raises: ArgumentError."""
    first = subjects[0]
    for subject in subjects:
        if subject.flow is None:
            raise ArgumentError(
                f"{subject.name} is an RRDB, which has one answer and no temperature: name a flow "
                "with --model, and this file with --reference"
            )
        for tau in options.taus:
            subject.check(tau)
        if subject.scale != first.scale:
            raise ArgumentError(
                f"{subject.name} enlarges ×{subject.scale}, {first.name} ×{first.scale}: compare "
                "models of one scale"
            )
        if subject.reduction != first.reduction and not mixed:
            raise ArgumentError(
                f"{first.name} was trained on {first.reduction} reductions, {subject.name} on "
                f"{subject.reduction} ones: measure them one by one"
            )
