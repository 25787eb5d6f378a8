"""One flow or several over the same pixels, at temperatures, beside other methods: measured, with sheets.

What `tau-sweep`, `perception-distortion`, `compare` and `encoder-init` share. Each model gets LR images reduced as it
was trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from srflow_evaluation.bench import MODEL, Bench, open_benches
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.options import Options
from srflow_evaluation.pictures import Picture, PictureFiles, read_picture
from srflow_evaluation.results import Results, Row
from srflow_evaluation.sheets import sheets_of
from srflow_evaluation.subjects import Subject
from srflow_sdk.errors import ArgumentError

SAMPLES = 3
"""Samples of a picture if `--samples` is not given: figures are their means."""

_PLAIN = frozenset({"model", "best"})  # what the trainer calls its files


class Shown(NamedTuple):
    """A cell of a sheet: whose metrics its caption has, its name, and the picture that the image was made of."""

    bench: Bench
    name: str
    image: Tensor
    picture: Picture

    @property
    def cell(self) -> tuple[str, Tensor]:
        """Caption and image."""
        return self.bench.caption(self.name, self.image, self.picture), self.image


Draw = Callable[[Path, Mapping[str, Picture], Sequence[Shown]], None]
"""Draws a sheet: where, the picture by reduction, and what methods and models made of it."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """The models by their names in tables; the first's bench also has the other methods. taus: by model."""

    benches: Mapping[str, Bench]
    taus: Mapping[str, Sequence[LevelTaus]]
    samples: int

    @classmethod
    def open(cls, options: Options, taus: Sequence[LevelTaus] = (), *, alone: str = "") -> Models:
        """Open the models. taus: if none are named; each model's default if empty. alone: the name of a single model.

        Raises: SRFlowError.
        """
        samples = options.sample_count(SAMPLES, "diversity is a standard deviation")
        benches = open_benches(options)
        names = (
            [alone] if alone and len(benches) == 1 else model_names([b.subject for b in benches], benches[0].references)
        )
        of_model = [options.taus or taus or (options.default_tau(bench.subject),) for bench in benches]
        return cls(
            benches=dict(zip(names, benches, strict=True)),
            taus=dict(zip(names, of_model, strict=True)),
            samples=samples,
        )

    @property
    def first(self) -> Bench:
        """The first model's bench."""
        return next(iter(self.benches.values()))

    @property
    def labels(self) -> dict[str, str]:
        """A name for each model's curve, also where there is only one."""
        names = model_names([bench.subject for bench in self.benches.values()], self.first.references)
        return dict(zip(self.benches, names, strict=True))

    @property
    def title(self) -> str:
        """One line over plots."""
        return self.first.title_of(self.first.subject.name if len(self.benches) == 1 else ", ".join(self.benches))

    def measure(self, options: Options, *, measured: str, draw: Draw, sheets: int) -> tuple[Results, list[Row]]:
        """Measure all pictures. measured: what, for settings.json. sheets: how many, if `--sheets` is not given."""
        first = self.first
        settings = {
            **first.settings,
            "measured": measured,
            "models": [[name, bench.subject.sha256] for name, bench in self.benches.items()],
            "taus": {name: [str(tau) for tau in taus] for name, taus in self.taus.items()},
            "samples": self.samples,
        }
        results = Results(options.out, settings, shard=options.shard)
        paths = sheets_of(results, first.pictures, options.sheets or sheets)

        def rows_of(files: PictureFiles) -> list[Row]:
            pictures: dict[str, Picture] = {
                bench.subject.reduction: read_picture(files, bench.cut, bench.subject.reduction)
                for bench in self.benches.values()
            }
            picture = pictures[first.subject.reduction]
            rows, shown = first.reference_rows(picture), []
            for name, bench in self.benches.items():
                own = pictures[bench.subject.reduction]
                sample = bench.sampler(own.lr)
                for tau in self.taus[name]:
                    drawn = [sample(tau, seed) for seed in range(1 if tau.is_zero else self.samples)]
                    rows.append(bench.sampled_row(own, name, tau, drawn))
                    shown.append(Shown(bench, caption(name, tau), drawn[0], own))
            if files.name in paths:
                others = [Shown(first, name, method(picture), picture) for name, method in first.references.items()]
                draw(paths[files.name], pictures, [*others, *shown])
            return rows

        return results, results.measure(first.pictures, rows_of, options.progress)

    def summary(self, rows: Sequence[Row], protocol: str) -> dict[str, Any]:
        """The first model's summary, with all models in it."""
        means = [
            {"method": name, **bench.mean_row(rows, name, tau)}
            for name, bench in self.benches.items()
            for tau in self.taus[name]
        ]
        summary = {**self.first.summary(protocol, rows, means), "samples": self.samples}
        if MODEL in self.benches:
            return summary
        for key in ("model", "model_sha256"):
            del summary[key]
        subjects = [(name, bench.subject) for name, bench in self.benches.items()]
        summary["models"] = [
            {"name": name, "model": subject.name, "sha256": subject.sha256, "reduction": subject.reduction}
            for name, subject in subjects
        ]
        if len(reductions := list(dict.fromkeys(subject.reduction for _, subject in subjects))) > 1:
            each = "; ".join(
                f"{reduction} for {', '.join(name for name, subject in subjects if subject.reduction == reduction)}"
                for reduction in reductions
            )
            summary["notes"].append(
                f"Each model gets LR images reduced as it was trained, and its LR-PSNR is against those: {each}. "
                f"The other methods get {self.first.subject.reduction} ones."
            )
        return summary

    def lines(self, summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
        """The table's lines; that of a network for bilinear reductions has no published figures beside it."""
        lines = list(summary["references"].items())
        for row in summary["rows"]:
            bilinear = self.benches[row["method"]].subject.reduction != "bicubic"
            lines.append((caption(row["method"], row["tau"]), {**row, **({"published": ""} if bilinear else {})}))
        return lines


def caption(name: str, tau: LevelTaus | float | str) -> str:
    """A model at a temperature; one that is alone needs no name."""
    of_tau = f"τ {tau:g}" if isinstance(tau, float) else f"τ {tau}"
    return of_tau if name == MODEL else f"{name}, {of_tau}"


def model_names(subjects: Sequence[Subject], taken: Mapping[str, object]) -> list[str]:
    """A short name for each model: its file's, or its folder's; its path where these are not unique.

    Where the models were trained on different reductions, names say on which. Raises: ArgumentError.
    """
    paths = [Path(subject.name) for subject in subjects]
    short = [path.parent.name if path.stem in _PLAIN and path.parent.name else path.stem for path in paths]
    counts = Counter([*short, *taken])
    names = [name if counts[name] == 1 else subject.name for name, subject in zip(short, subjects, strict=True)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ArgumentError(f"--model names {twice[0]} twice: name different models")
    if len({subject.reduction for subject in subjects}) == 1:
        return names
    return [f"{name} ({subject.reduction} LR)" for name, subject in zip(names, subjects, strict=True)]
