"""The bench that all protocols share: the model, the photographs, the metrics and the methods to compare with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from srflow_evaluation.convention import Convention, Metric, mixed_scales, perceptual_metric
from srflow_evaluation.devices import check_device, from_cpu
from srflow_evaluation.flows import LevelTaus, PaddedFlow
from srflow_evaluation.hashing import file_sha256
from srflow_evaluation.options import Options
from srflow_evaluation.pictures import Cut, Picture, PictureFiles, picture_files
from srflow_evaluation.published_results import PUBLISHED, Published
from srflow_evaluation.references import open_references
from srflow_evaluation.results import Row, mean_of
from srflow_evaluation.subjects import TILE, Sampler, Subject, open_subject
from srflow_evaluation.tables import Table
from srflow_sdk._version import __version__
from srflow_sdk.errors import ArgumentError
from srflow_sdk.system.local_files import real_path
from srflow_training import figures
from srflow_training._lpips import LPIPS, MISSING
from srflow_training._vgg16 import VGG16Features
from srflow_training.data._images import size_of
from srflow_training.lpips_weights import weights_file

_NONE: Mapping[str, tuple[str, str]] = {}
NONFINITE = "nonfinite"
"""Column of results.csv: values of a flow's pictures that are not finite."""

MODEL = "model"
"""The model's name in the column `method` of results.csv, where there is only one."""

DIVERSITY = "diversity"
DIVERSITY_COLUMN = {DIVERSITY: ("diversity, /255", ".2f")}
"""The column of tables: heading and format."""

VARIANCE = "variance"
VARIANCE_COLUMN = {VARIANCE: ("variance, /255²", ".1f")}
"""Likewise."""

PUBLISHED_CUT = 8  # pixels: the publication's test pictures have sides that are multiples of this


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A flow and photographs, ready to be measured.

    sampler: LR image → the flow's sampler.
    references: other methods by name, picture → image 1×3×H×W: bicubic first. settings: all that the figures depend on
    except the pictures and what the protocol adds. notes: sentences for the reader of the results. published: figures
    to compare with, if they are comparable. bilinear: references whose LR-PSNR is of the bilinear reduction.
    """

    subject: Subject
    sampler: Callable[[Tensor], Sampler]
    cut: Cut
    pictures: Sequence[PictureFiles]
    convention: Convention
    metrics: tuple[Metric, ...]
    references: Mapping[str, Callable[[Picture], Tensor]]
    settings: Mapping[str, Any]
    notes: Sequence[str]
    published: Published | None = None
    bilinear: frozenset[str] = frozenset()

    def figures(self, image: Tensor, picture: Picture) -> dict[str, float]:
        """All metrics of one image."""
        return {metric.name: metric.measure(image, picture) for metric in self.metrics}

    def reference_rows(self, picture: Picture) -> list[Row]:
        """A row for each other method."""
        return [
            {"picture": picture.name, "method": name, "tau": "", **self._of_reference(name, method(picture), picture)}
            for name, method in self.references.items()
        ]

    def _of_reference(self, name: str, image: Tensor, picture: Picture) -> dict[str, float]:
        found = self.figures(image, picture)
        if name in self.bilinear and "lr_psnr" in found:
            lr = self.cut.reduced(picture.hr, "bilinear")
            found["lr_psnr"] = replace(self.convention, reduction="bilinear").lr_psnr(image, lr)
        return found

    def reference_means(self, rows: Sequence[Row]) -> dict[str, dict[str, float]]:
        """For each other method, the means of its rows."""
        names = [metric.name for metric in self.metrics]
        return {key: mean_of([row for row in rows if row["method"] == key], names) for key in self.references}

    def sampled_row(self, picture: Picture, method: str, tau: LevelTaus, samples: Sequence[Tensor]) -> Row:
        """The row of a picture's samples at a temperature: the means of all metrics, and the diversity."""
        of_samples = self.sample_rows(samples, picture)
        means = mean_of(of_samples, [metric.name for metric in self.metrics])
        spread = {DIVERSITY: figures.diversity, VARIANCE: figures.variance}
        broken = sum(float(row[NONFINITE]) for row in of_samples)
        return {
            "picture": picture.name,
            "method": method,
            "tau": str(tau),
            **means,
            **{name: 0.0 if tau.is_zero else figure(samples) for name, figure in spread.items()},
            NONFINITE: broken,
        }

    def mean_row(self, rows: Sequence[Row], method: str, tau: LevelTaus) -> dict[str, Any]:
        """The means of a method's rows at a temperature, with `tau`: a number, or text if levels have their own."""
        chosen = [row for row in rows if row["method"] == method and row["tau"] == str(tau)]
        return {"tau": tau.in_json, **mean_of(chosen, [*(metric.name for metric in self.metrics), DIVERSITY, VARIANCE])}

    def sample_rows(self, images: Sequence[Tensor], picture: Picture) -> list[Row]:
        """All metrics of each sample, and how many of its values are not finite, which count as black."""
        return [{**self.figures(image, picture), NONFINITE: float(figures.nonfinite(image))} for image in images]

    @property
    def title(self) -> str:
        """One line over plots."""
        return self.title_of(self.subject.name)

    def title_of(self, models: str) -> str:
        """One line over plots of models."""
        count = f"{len(self.pictures)} picture{'' if len(self.pictures) == 1 else 's'}"
        return f"{models}, ×{self.subject.scale}, {count}, {self.convention.name} convention"

    def caption(self, name: str, image: Tensor, picture: Picture) -> str:
        """A caption of two lines: the name; PSNR and the perceptual metric of the whole picture."""
        shown = dict.fromkeys((self.metrics[0], perceptual_metric(self.metrics)))
        return f"{name}\n{', '.join(metric.of(metric.measure(image, picture)) for metric in shown)}"

    def table(
        self,
        lines: Sequence[tuple[str, Mapping[str, Any]]],
        notes: Sequence[str],
        more: Mapping[str, tuple[str, str]] = _NONE,
        *,
        published: str = "",
    ) -> Table:
        """A table of lines, each a name and its figures (or text), with the convention and the notes below.

        more: heading and format of columns that are no metrics, by their names. published: the published table whose
        figures stand in columns of their own, beside the measured ones: a method's by its name, SRFlow's for a flow's
        line, which has its `tau`, and others' for a line that names them in `published`.
        """
        columns = {**{metric.name: (metric.heading, metric.form) for metric in self.metrics}, **more}
        known = [
            {} if self.published is None else self.published.line(published, row.get("published", name), row.get("tau"))
            for name, row in lines
        ]
        headings, cells = ["method"], [[name] for name, _ in lines]
        for key, (heading, form) in columns.items():
            headings.append(heading)
            beside = any(key in figures_of for figures_of in known)
            if beside:
                headings.append(f"{heading.split(',')[0].rstrip(' ↑↓')} published")
            for (_, row), figures_of, line in zip(lines, known, cells, strict=True):
                line.append(_cell(row.get(key, ""), form))
                if beside:
                    line.append(figures_of.get(key, ""))
        return Table(headings, cells, [f"{self.convention}.", *notes])

    def summary(self, protocol: str, rows: Sequence[Row], means: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The contents of summary.json. rows: those of results.csv. means: those of the model."""
        broken = sum(float(row.get(NONFINITE, 0)) for row in rows)
        warning = f"{broken:.0f} values of pictures are not finite (NaN or infinite): they are measured as black."
        return {
            "protocol": protocol,
            "model": self.subject.name,
            "model_sha256": self.subject.sha256,
            "scale": self.subject.scale,
            "pictures": len(self.pictures),
            "convention": str(self.convention),
            "metrics": {metric.name: {"heading": metric.heading, "better": metric.better} for metric in self.metrics},
            "notes": [*([warning] if broken else []), *self.notes],
            "rows": list(means),
            "references": self.reference_means(rows),
            **({} if self.published is None else {"published": self.published.tables}),
        }


def check_out(options: Options) -> None:
    """Raises: ArgumentError if the results would lie among the photographs."""
    if real_path(options.out).is_relative_to(real_path(options.hr)):
        raise ArgumentError(f"-o {options.out} is inside --hr, whose pictures are measured: name a folder elsewhere")


def network_digests(options: Options) -> dict[str, str | None]:
    """The sha256 of the files of metrics that are networks; None: not measured."""
    files = {"lpips": weights_file("alex"), "vgg16": options.vgg16}
    return {name: None if path is None else file_sha256(path) for name, path in files.items()}


def open_flow(options: Options) -> Subject:
    """Open the only model. Raises: SRFlowError if it is no flow, or cannot have the temperatures, or the results would
    lie among the photographs.
    """
    check_out(options)
    subject = open_subject(options.model, tile=TILE, device=options.device)
    _check_models(options, [subject])
    return subject


def open_bench(options: Options) -> Bench:
    """Open all that is named, for one model. Raises: SRFlowError for what is missing, unreadable or does not fit."""
    check_device(options.device)
    return _open(options, [open_subject(options.model, tile=TILE, device=options.device)])[0]


def open_benches(options: Options) -> list[Bench]:
    """Open a bench for each model, over the same pixels; the other methods belong to the first. Raises: SRFlowError."""
    check_device(options.device)
    models = options.models or (None,)
    return _open(options, [open_subject(model, tile=TILE, device=options.device) for model in models])


def _open(options: Options, subjects: Sequence[Subject]) -> list[Bench]:
    check_out(options)
    subject = subjects[0]
    _check_models(options, subjects)
    references, notes, digests, multiple = open_references(options, subject.scale)
    multiple = subject.scale * math.lcm(multiple, *(other.multiple for other in subjects))
    if options.convention != "default":
        truncating = options.convention == "published"
        subjects = [_padding(other, truncating=truncating) for other in subjects]
        if options.centre is None:
            multiple = math.lcm(PUBLISHED_CUT if truncating else 1, subject.scale)
    in_passes = options.convention == "published"
    cut = Cut(scale=subject.scale, multiple=multiple, centre=options.centre, in_passes=in_passes)
    pictures = picture_files(
        options.hr, lr=options.lr, others=dict(options.others), cut=cut, most=options.most, inputs=options.inputs
    )
    sizes = [size_of(files.hr) for files in pictures]
    notes += mixed_scales([cut.window(*size) for size in sizes])
    lpips = LPIPS.for_measuring(options.device)
    missing = [MISSING] if lpips is None else []
    if not figures.has_flip():
        missing.append("FLIP is not measured, because flip-evaluator is not installed: pip install flip-evaluator.")
    if options.metrics:
        missing = []  # nothing else was asked for
    vgg16 = None if options.vgg16 is None else from_cpu(VGG16Features.open(options.vgg16).to(options.device))
    published, remarks = _published(options, subject, sizes)
    benches = []
    for number, other in enumerate(subjects):
        convention = Convention(name=options.convention, scale=other.scale, reduction=other.reduction)
        metrics = convention.metrics(vgg16=vgg16, lpips=lpips, only=options.metrics)
        settings = {
            "version": __version__,
            "model": other.sha256,
            "convention": options.convention,
            "metrics": [metric.name for metric in metrics],
            "crop": options.centre,
            "lr": "files" if options.lr is not None else other.reduction,
            "references": digests,
            "others": list(options.others),
            "bilinear": sorted(options.bilinear),
            "device": options.device,
            **network_digests(options),
        }
        benches.append(
            Bench(
                subject=other,
                sampler=_flow_of(other),
                cut=cut,
                pictures=pictures,
                convention=convention,
                metrics=metrics,
                references={} if number else references,
                settings=settings,
                notes=[] if number else [*notes, *missing, *remarks],
                published=published,
                bilinear=frozenset(options.bilinear),
            )
        )
    return benches


def _padding(subject: Subject, *, truncating: bool) -> Subject:
    """The flow with LR images of any size."""
    flow = subject.flow
    assert flow is not None  # for the type checker: an RRDB was refused before
    return replace(
        subject,
        multiple=1,
        flow=lambda lr: PaddedFlow(flow, lr, multiple=subject.multiple, scale=subject.scale, truncating=truncating),
    )


def _flow_of(subject: Subject) -> Callable[[Tensor], Sampler]:
    """The flow of a model: LR image → its sampler. Raises: ArgumentError for an RRDB."""
    if subject.condition is None:
        raise ArgumentError(
            f"{subject.name} is an RRDB, which has one answer and no temperature: name a flow with --model, "
            "and this file with --reference"
        )
    return subject.condition


def _check_models(options: Options, subjects: Sequence[Subject]) -> None:
    """Check that they are flows that can be measured side by side. Raises: ArgumentError."""
    first = subjects[0]
    for subject in subjects:
        _flow_of(subject)
        for tau in options.taus:
            subject.check(tau)
        if subject.scale != first.scale:
            raise ArgumentError(
                f"{subject.name} enlarges ×{subject.scale}, {first.name} ×{first.scale}: compare models of one scale"
            )
    if options.lr is not None and len({subject.reduction for subject in subjects}) > 1:
        raise ArgumentError(
            "the models were trained on different reductions, and --lr is one: leave it out, and each gets its own"
        )


def _published(
    options: Options, subject: Subject, sizes: Sequence[tuple[int, int]]
) -> tuple[Published | None, list[str]]:
    """The published figures that were asked for, if they are comparable, and a sentence on them."""
    if options.published is None:
        return None, []
    found = PUBLISHED[options.published]
    differences = found.differences(
        convention=options.convention,
        scale=subject.scale,
        reduction=subject.reduction if options.lr is None else "bicubic",
        centre=options.centre,
        sizes=sizes,
    )
    if differences:
        return None, [
            f"The published figures ({options.published}) are left out, because this measurement is not comparable: "
            f"{'; '.join(differences)}."
        ]
    notes = [f"Published: means over {found.what}, samples of SRFlow at τ {found.tau:g}; here: over {len(sizes)}."]
    if not found.pictures or found.side:
        notes.append(
            f"Published figures compare only if {found.what} are measured; srflow-eval does not have those, and cannot "
            "check that these are they."
        )
    return found, notes


def _cell(value: float | str, form: str) -> str:
    return value if isinstance(value, str) else format(value, form)
