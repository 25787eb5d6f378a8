"""What all protocols share: the model, the photographs, the metrics and the methods to compare with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from srflow_sdk._version import __version__
from srflow_sdk.errors import ArgumentError
from srflow_training import figures
from srflow_training._vgg16 import VGG16Features
from srflow_training.checkpoints import load_encoder
from srflow_training.evaluation.convention import Convention, ConventionName, Metric, perceptual_metric
from srflow_training.evaluation.hashing import file_sha256
from srflow_training.evaluation.lpips_networks import backbone_files, open_lpips
from srflow_training.evaluation.pictures import Cut, Picture, PictureFiles, picture_files
from srflow_training.evaluation.results import Row, mean_of
from srflow_training.evaluation.subjects import LevelTaus, Sampler, Subject, open_subject
from srflow_training.evaluation.tables import Table
from srflow_training.resampling import enlarge_bicubic

_NONE: Mapping[str, tuple[str, str]] = {}
NONFINITE = "nonfinite"
"""Column of results.csv: values of samples that are not finite."""

_TILE = 192  # LR pixels; fixed, so that a bundle's figures do not depend on the free memory


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for. models: none is the embedded one. centre: `--crop`. most: `--pictures`."""

    models: Sequence[str] = ()
    hr: Path
    out: Path
    lr: Path | None = None
    references: Sequence[Path] = ()
    others: Mapping[str, Path]
    convention: ConventionName = "default"
    taus: Sequence[LevelTaus] = ()
    samples: int | None = None
    centre: int | None = None
    most: int | None = None
    vgg16: Path | None = None
    lpips_backbones: Sequence[Path] = ()
    progress: Callable[[str], None] = lambda _: None

    @property
    def model(self) -> str | None:
        """The only model. Raises: ArgumentError if several are named."""
        if len(self.models) > 1:
            raise ArgumentError(f"this protocol measures one model, not {len(self.models)}: give --model once")
        return self.models[0] if self.models else None


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A flow and photographs, ready to be measured.

    sampler: LR image → the flow's sampler.
    references: other methods by name, picture → image 1×3×H×W: bicubic first. settings: all that the figures depend on
    except the pictures and what the protocol adds. notes: sentences for the reader of the results.
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

    def figures(self, image: Tensor, picture: Picture) -> dict[str, float]:
        """All metrics of one image."""
        return {metric.name: metric.measure(image, picture) for metric in self.metrics}

    def reference_rows(self, picture: Picture) -> list[Row]:
        """A row for each other method."""
        return [
            {"picture": picture.name, "method": name, "tau": "", **self.figures(method(picture), picture)}
            for name, method in self.references.items()
        ]

    def reference_means(self, rows: Sequence[Row]) -> dict[str, dict[str, float]]:
        """For each other method, the means of its rows."""
        names = [metric.name for metric in self.metrics]
        return {key: mean_of([row for row in rows if row["method"] == key], names) for key in self.references}

    def sample_rows(self, images: Sequence[Tensor], picture: Picture) -> list[Row]:
        """All metrics of each sample, and how many of its values are not finite, which count as black."""
        return [{**self.figures(image, picture), NONFINITE: float(figures.nonfinite(image))} for image in images]

    @property
    def title(self) -> str:
        """One line over plots."""
        count = f"{len(self.pictures)} picture{'' if len(self.pictures) == 1 else 's'}"
        return f"{self.subject.name}, ×{self.subject.scale}, {count}, {self.convention.name} convention"

    def caption(self, name: str, image: Tensor, picture: Picture) -> str:
        """A caption of two lines: the name; PSNR and the perceptual metric of the whole picture."""
        shown = (self.metrics[0], perceptual_metric(self.metrics))
        return f"{name}\n{', '.join(metric.of(metric.measure(image, picture)) for metric in shown)}"

    def table(
        self,
        lines: Sequence[tuple[str, Mapping[str, Any]]],
        notes: Sequence[str],
        more: Mapping[str, tuple[str, str]] = _NONE,
    ) -> Table:
        """A table of lines, each a name and its figures, with the convention and the notes below.

        more: heading and format of columns that are no metrics, by their names.
        """
        columns = {**{metric.name: (metric.heading, metric.form) for metric in self.metrics}, **more}
        cells = [
            [name, *(format(row[key], form) if key in row else "" for key, (_, form) in columns.items())]
            for name, row in lines
        ]
        return Table(["method", *(heading for heading, _ in columns.values())], cells, [f"{self.convention}.", *notes])

    def summary(self, protocol: str, rows: Sequence[Row], means: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What summary.json holds. rows: those of results.csv. means: those of the model."""
        broken = sum(float(row.get(NONFINITE, 0)) for row in rows)
        warning = f"{broken:.0f} values of samples are not finite (NaN or infinite): they are measured as black."
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
        }


def open_bench(options: Options) -> Bench:
    """Open all that is named. Raises: SRFlowError for what is missing, unreadable or does not fit together."""
    if options.out.resolve().is_relative_to(options.hr.resolve()):
        raise ArgumentError(f"-o {options.out} is inside --hr, whose pictures are measured: name a folder elsewhere")
    subject = open_subject(options.model, tile=_TILE)
    if subject.condition is None:
        raise ArgumentError(
            f"{subject.name} is an RRDB, which has one answer and no temperature: name a flow with --model, "
            "and this file with --reference"
        )
    for tau in options.taus:
        subject.check(tau)
    references: dict[str, Callable[[Picture], Tensor]] = {
        "bicubic": lambda picture: enlarge_bicubic(picture.lr, subject.scale)
    }
    notes = []
    if subject.encoder is None:
        notes.append("A bundle has no image head: there is no line for its RRDB (name a checkpoint to have one).")
    else:
        encoder = subject.encoder
        notes.append(
            "RRDB: the image head of the checkpoint's own encoder. If the flow's training changed that encoder, "
            "its head no longer fits it: name the encoder that it started from with --reference."
        )
        references["RRDB"] = lambda picture: encoder(picture.lr)
    multiple, digests = subject.multiple, {}
    for path in options.references:
        network = load_encoder(path)
        if network.scale != subject.scale:
            raise ArgumentError(f"--reference {path} enlarges ×{network.scale}, the model ×{subject.scale}")
        name = _new_name(path.stem, references)
        references[name] = lambda picture, network=network: network(picture.lr)  # type: ignore[misc]
        multiple, digests[name] = max(multiple, network.unshuffle), file_sha256(path)
    for name in options.others:
        references[_new_name(name, references)] = lambda picture, name=name: picture.others[name]  # type: ignore[misc]
    cut = Cut(scale=subject.scale, multiple=subject.scale * multiple, centre=options.centre)
    pictures = picture_files(options.hr, lr=options.lr, others=dict(options.others), cut=cut, most=options.most)
    backbones, missing = backbone_files(options.lpips_backbones)
    lpips = open_lpips(backbones)
    notes += missing
    if not figures.has_flip():
        notes.append("FLIP is not measured, because flip-evaluator is not installed: pip install flip-evaluator.")
    convention = Convention(name=options.convention, scale=subject.scale, reduction=subject.reduction)
    vgg16 = VGG16Features.open(options.vgg16) if options.vgg16 is not None else None
    metrics = convention.metrics(vgg16=vgg16, lpips=lpips)
    settings = {
        "version": __version__,
        "model": subject.sha256,
        "convention": options.convention,
        "metrics": [metric.name for metric in metrics],
        "crop": options.centre,
        "lr": "files" if options.lr is not None else subject.reduction,
        "references": digests,
        "others": list(options.others),
        "lpips": [file_sha256(path) for path in backbones],
        "vgg16": None if options.vgg16 is None else file_sha256(options.vgg16),
    }
    return Bench(
        subject=subject,
        sampler=subject.condition,
        cut=cut,
        pictures=pictures,
        convention=convention,
        metrics=metrics,
        references=references,
        settings=settings,
        notes=notes,
    )


def parse_others(texts: Sequence[str]) -> dict[str, Path]:
    """Parse NAME=DIR. Raises: ArgumentError."""
    found: dict[str, Path] = {}
    for text in texts:
        match = re.fullmatch(r"([^=]+)=(.+)", text)
        if match is None:
            raise ArgumentError(f"--other is {text!r}; it must be NAME=DIR, e.g. --other ESRGAN=outputs/esrgan")
        if match[1] in found:
            raise ArgumentError(f"--other names {match[1]} twice: give each folder a name of its own")
        found[match[1]] = Path(match[2])
    return found


def _new_name(name: str, taken: Mapping[str, object]) -> str:
    if name in taken:
        raise ArgumentError(f"two methods are called {name}: rename one (--other NAME=DIR, or the file of --reference)")
    return name
