"""The protocol `damaged`: models and other methods on LR images that are damaged in known ways.

Damages are those that the trainer draws, and those that it never does. All are made of the clean LR
image, and figures compare with the photograph, LR-PSNR with the clean LR image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from srflow_evaluation.bench import Bench, model_names, open_bench
from srflow_evaluation.damages import CLEAN, KNOWN, UNSEEN, Damage, generator_of
from srflow_evaluation.options import ZERO, LevelTaus, Options
from srflow_evaluation.output import SHEETS, Cell, Table, choose_place, write_png, write_sheet
from srflow_evaluation.pictures import Picture, PictureFiles
from srflow_evaluation.results import Row
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.system.local_files import file_sha256
from srflow_training.data import read_photo, to_image, to_pixels

FAMILIES = {CLEAN: (CLEAN,), "known": KNOWN, "unseen": UNSEEN}
"""Damages by the names that `--degradation` takes besides single ones."""

CROP = 256
"""Centre of each photograph that is measured if `--crop` is not given."""

# columns that would say what others say, and take half of the time
_LEFT_OUT = ("y_psnr", "ssim", "ms_ssim")


def damaged(options: Options) -> str:
    """Measure, and return the tables as text.

    Raises:
        SRFlowError.
    """
    return "\n\n".join(str(table) for table in measure_damaged(options))


@torch.no_grad()
def measure_damaged(options: Options) -> list[Table]:
    """Measure and write results.csv, summary.json, the inputs and sheets (a row for each damage).

    Returns:
        A table for each family of damages, one of all damages, and one for each damage.

    Raises:
        SRFlowError.
    """
    case = _Case.open(options)
    bench = case.bench
    results, rows = bench.measure(
        options,
        case.measure_picture,
        sheets=SHEETS,
        measured="damaged",
        models=[[name, subject.sha256] for name, subject in bench.models.items()],
        entries=case.labels,
        damages=[str(damage) for damage in case.damages],
        others=_digest_outputs(options.others, case.damages, bench.pictures),
    )
    names = [str(damage) for damage in case.damages]
    by_damage = {name: case.average(rows, [name], input=name) for name in names}
    by_family = {}
    for family, members in FAMILIES.items():
        chosen = [name for name in names if name in members]
        if len(chosen) > 1:
            by_family[family] = case.average(rows, chosen, family=family, damages=chosen)
    note = (
        "LR images are damaged; LR-PSNR compares with the clean one, the others with the "
        "photograph. Seed 0."
    )
    summary = bench.summary(
        "damaged",
        rows,
        [*chain(*by_damage.values())],
        note,
        families=[*chain(*by_family.values())],
    )
    del summary["references"]
    results.write_summary(summary)
    tables = []
    for family, lines in by_family.items():
        title = f"{family}: the mean over {', '.join(lines[0]['damages'])}"
        tables.append(_make_table(bench, title, lines))
    if len(names) > 1:
        tables.append(_make_damage_table(bench, case.labels, by_damage))
    tables += [_make_table(bench, damage, lines) for damage, lines in by_damage.items()]
    tables[0] = replace(tables[0], notes=[f"{bench.convention}.", *summary["notes"]])
    return tables


def parse_damages(texts: Sequence[str]) -> list[Damage]:
    """Damages and families, each damage once; all families if none is named.

    Raises:
        ArgumentError.
    """
    names = [name for text in texts or FAMILIES for name in FAMILIES.get(text, (text,))]
    return list(dict.fromkeys(Damage.parse(name) for name in names))


def damaged_lr(picture: Picture, damage: Damage) -> Tensor:
    """The damaged LR image; what is random follows from the picture's name and the damage."""
    random = generator_of(f"{picture.name} {damage}")
    return to_image(damage.of(to_pixels(picture.lr), random))


@dataclass(frozen=True, kw_only=True)
class _Case:
    """What is measured of each picture.

    Attributes:
        taus: of each model, by its name.
    """

    options: Options
    bench: Bench
    damages: Sequence[Damage]
    taus: Mapping[str, Sequence[LevelTaus]]

    @classmethod
    def open(cls, options: Options) -> _Case:
        """Raises: SRFlowError."""
        damages = parse_damages(options.degradations)
        bench = _open_bench(options)
        taus = {}
        for name, subject in bench.models.items():
            taus[name] = tuple(dict.fromkeys(options.taus or (ZERO, subject.default_tau)))
        case = cls(options=options, bench=bench, damages=damages, taus=taus)
        twice = sorted(label for label in case.labels if case.labels.count(label) > 1)
        if twice:
            raise ArgumentError(f"two methods are called {twice[0]}: rename one (--other NAME=DIR)")
        return case

    @property
    def methods(self) -> list[tuple[str, str]]:
        """Names and temperatures; other methods have none, and come first."""
        methods = [(name, "") for name in self.bench.references]
        for name, taus in self.taus.items():
            methods += [(name, str(tau)) for tau in taus]
        return methods

    @property
    def labels(self) -> list[str]:
        """The methods, for tables and sheets."""
        return [_label(name, tau) for name, tau in self.methods]

    def measure_picture(self, files: PictureFiles, sheet: Path | None) -> list[Row]:
        """The rows of a picture with each damage. Raises: ImageError."""
        bench = self.bench
        picture = bench.read(files)
        rows: list[Row] = []
        cells: list[Cell] = []
        for damage in self.damages:
            seen = self._damage(picture, damage)
            cells.append((f"{damage}\nLR", seen.lr))
            for (name, tau), image in zip(self.methods, self._enlarge(seen), strict=True):
                row = bench.row(picture, name, [image], tau, input=str(damage))
                rows.append(row)
                caption = bench.caption(_label(name, tau), row)
                # too long
                cells.append((caption.replace(" feature distance", ""), image))
            cells.append(("photograph", picture.hr))
        if sheet is not None:
            title = f"{picture.name}, ×{bench.subject.scale}"
            place = choose_place(picture.hr, CROP)
            write_sheet(sheet, title, cells, [place], columns=len(self.methods) + 2)
        return rows

    def average(
        self,
        rows: Sequence[Row],
        names: Sequence[str],
        **more: Any,
    ) -> list[dict[str, Any]]:
        """The means of each method over some damages, and what else is said of them."""
        chosen = [row for row in rows if row["input"] in names]
        means = []
        for name, tau in self.methods:
            of_method = self.bench.means(chosen, method=name, tau=tau)
            means.append({**more, "method": name, "tau": tau, **of_method})
        return means

    def _damage(self, picture: Picture, damage: Damage) -> Picture:
        """The picture with a damaged LR image, which is written, and other methods' outputs."""
        others = {}
        for name, folder in self.options.others.items():
            others[name] = _read_output(name, folder, damage, picture)
        lr = damaged_lr(picture, damage)
        path = self.options.out / "inputs" / damage.folder / f"{picture.name}.png"
        write_png(path, Image.fromarray(to_pixels(lr)))
        return replace(picture, lr=lr, others=others)

    def _enlarge(self, seen: Picture) -> list[Tensor]:
        """The image of each method."""
        images = [method(seen) for method in self.bench.references.values()]
        for name, subject in self.bench.models.items():
            sample = subject.sampler(seen.lr)
            images += [sample(tau, 0) for tau in self.taus[name]]
        return images


def _open_bench(options: Options) -> Bench:
    """Models, other methods, and folders of outputs, which have one for each damage.

    Raises:
        SRFlowError.
    """
    without_outputs = replace(options, centre=options.centre or CROP, others={})
    bench = open_bench(without_outputs, several=True, alone="")
    references = dict(bench.references)
    for name in options.others:
        references[name] = lambda seen, name=name: seen.others[name]  # type: ignore[misc]
    subjects = [*bench.models.values()]
    metrics = bench.metrics
    if not options.metrics:
        metrics = tuple(metric for metric in metrics if metric.name not in _LEFT_OUT)
    return replace(
        bench,
        models=dict(zip(model_names(subjects, references), subjects, strict=True)),
        references=references,
        metrics=metrics,
    )


def _label(method: str, tau: str) -> str:
    """For tables and sheets."""
    return f"{method}, τ {tau}" if tau else method


def _digest_outputs(
    folders: Mapping[str, Path],
    damages: Sequence[Damage],
    pictures: Sequence[PictureFiles],
) -> dict[str, dict[str, list[str]]]:
    """The sha256 of other methods' outputs, by method and damage.

    Raises:
        ImageError: if one is missing.
    """
    digests: dict[str, dict[str, list[str]]] = {}
    for name, folder in folders.items():
        digests[name] = {}
        for damage in damages:
            paths = [_output_path(name, folder, damage, files.name) for files in pictures]
            digests[name][damage.folder] = [file_sha256(path) for path in paths]
    return digests


def _output_path(name: str, folder: Path, damage: Damage, picture: str) -> Path:
    """Another tool's output. Raises: ImageError if it is missing."""
    path = folder / damage.folder / f"{picture}.png"
    if not path.is_file():
        raise ImageError(
            f"--other {name}: there is no {path}: run the tool on the folders in OUT/inputs of a "
            "run without it, and keep their names"
        )
    return path


def _read_output(name: str, folder: Path, damage: Damage, picture: Picture) -> Tensor:
    path = _output_path(name, folder, damage, picture.name)
    image = to_image(read_photo(path))
    if image.shape != picture.hr.shape:
        height, width = picture.hr.shape[2:]
        raise ImageError(
            f"--other {name}: {path} is {image.shape[3]}×{image.shape[2]} pixels; {width}×{height} "
            "are needed"
        )
    return image


def _make_table(bench: Bench, title: str, means: Sequence[Mapping[str, Any]]) -> Table:
    lines = [(_label(row["method"], row["tau"]), row) for row in means]
    return replace(bench.table(lines, []), title=title, notes=[])


def _make_damage_table(
    bench: Bench,
    labels: Sequence[str],
    by_damage: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Table:
    """The first metric: a row for each damage, a column for each method."""
    metric = bench.metrics[0]
    rows = []
    for damage, means in by_damage.items():
        figures = [f"{row[metric.name]:{metric.form}}" for row in means]
        rows.append([damage, *figures])
    return Table(["LR image", *labels], rows, title=f"{metric.title}, damage by damage")
