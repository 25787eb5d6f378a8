"""The protocol `damaged`: LR images that are damaged in known ways, enlarged by models and by other methods.

Damages are those that the trainer draws, and those that it never does. All are made of the clean LR image, and figures
compare with the photograph, LR-PSNR with the clean LR image.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from srflow_evaluation.arrays import to_pixels
from srflow_evaluation.bench import Bench, open_benches
from srflow_evaluation.convention import perceptual_metric
from srflow_evaluation.degradations import CLEAN, KNOWN, UNSEEN, Damage, generator_of
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.hashing import file_sha256
from srflow_evaluation.models import model_names
from srflow_evaluation.options import Options
from srflow_evaluation.pictures import Picture, PictureFiles, read_picture
from srflow_evaluation.results import Results, Row, mean_of
from srflow_evaluation.sheets import SHEETS, sheets_of, shown_place, write_cells
from srflow_evaluation.subjects import Sampler
from srflow_evaluation.tables import Table
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.system.local_files import write_atomically
from srflow_training.data import read_photo, to_image

FAMILIES = {CLEAN: (CLEAN,), "known": KNOWN, "unseen": UNSEEN}
"""Damages by the names that `--degradation` takes besides single ones."""

CROP = 256
"""Centre of each photograph that is measured if `--crop` is not given."""

ZERO = LevelTaus((0.0,))

_LEFT_OUT = ("y_psnr", "ssim", "ms_ssim")  # columns that would say what others say, and take half of the time


@dataclass(frozen=True)
class Entry:
    """A method that is given the damaged LR image. tau: as text, "" for methods without."""

    method: str
    tau: str
    image: Callable[[Picture, Damage], Tensor]

    @property
    def name(self) -> str:
        """For tables and sheets."""
        return f"{self.method}, τ {self.tau}" if self.tau else self.method


@dataclass(frozen=True, kw_only=True)
class Field:
    """All that is opened before anything is drawn. bench: the first model's, with its metrics and pictures."""

    bench: Bench
    entries: Sequence[Entry]
    damages: Sequence[Damage]
    settings: Mapping[str, Any]

    def seen(self, picture: Picture, damage: Damage) -> Picture:
        """The picture with its LR image damaged, which methods see."""
        return replace(picture, lr=damaged_lr(picture, damage))


def damaged_lr(picture: Picture, damage: Damage) -> Tensor:
    """The damaged LR image; what is random follows from the picture's name and the damage."""
    return to_image(damage.of(to_pixels(picture.lr), generator_of(f"{picture.name} {damage}")))


def open_field(options: Options) -> Field:
    """Open models, each at τ 0 and its default if none is named, other methods, photographs. Raises: SRFlowError."""
    damages = parse_damages(options.degradations)
    options = replace(options, centre=options.centre or CROP)
    benches = open_benches(replace(options, others={}))
    first = benches[0]
    if len({bench.subject.reduction for bench in benches}) > 1:
        raise ArgumentError("the models were trained on different reductions: measure them one by one")
    entries = [_reference(name, method) for name, method in first.references.items()]
    digests: dict[str, dict[str, str]] = {}
    for name, folder in options.others.items():
        entries.append(Entry(name, "", _outputs(name, folder)))
        digests[name] = {
            path.relative_to(folder).as_posix(): file_sha256(path)
            for path in _output_files(name, folder, first.pictures, damages)
        }
    names = model_names([bench.subject for bench in benches], taken={entry.method: None for entry in entries})
    for name, bench in zip(names, benches, strict=True):
        sampled = _Sampled(bench)
        for tau in dict.fromkeys(options.taus or (ZERO, bench.subject.default_tau)):
            entries.append(Entry(name, str(tau), partial(sampled, tau)))
    if twice := {entry.name for entry in entries if [other.name for other in entries].count(entry.name) > 1}:
        raise ArgumentError(f"two methods are called {sorted(twice)[0]}: rename one (--other NAME=DIR)")
    metrics = tuple(metric for metric in first.metrics if options.metrics or metric.name not in _LEFT_OUT)
    settings = {
        **first.settings,
        "measured": "damaged",
        "metrics": [metric.name for metric in metrics],
        "models": [[name, bench.subject.sha256] for name, bench in zip(names, benches, strict=True)],
        "entries": [entry.name for entry in entries],
        "damages": [str(damage) for damage in damages],
        "others": digests,
    }
    return Field(bench=replace(first, metrics=metrics), entries=entries, damages=damages, settings=settings)


@torch.no_grad()
def damaged(options: Options) -> Table:
    """Measure and write results.csv, summary.json, the inputs and sheets (a row for each damage); return the tables.

    Raises: SRFlowError.
    """
    field = open_field(options)
    bench = field.bench
    results = Results(options.out, field.settings, shard=options.shard)
    sheets = sheets_of(results, bench.pictures, options.sheets or SHEETS)

    def rows_of(files: PictureFiles) -> list[Row]:
        picture = read_picture(files, bench.cut, bench.subject.reduction)
        rows: list[Row] = []
        drawn = []
        for damage in field.damages:
            seen = field.seen(picture, damage)
            write_picture(options.out / "inputs" / damage.folder / f"{picture.name}.png", seen.lr)
            shown = [(f"{damage}\nLR", seen.lr)]
            for entry in field.entries:
                image = entry.image(seen, damage)
                figures = bench.sample_rows([image], picture)[0]
                row = {"picture": picture.name, "input": str(damage), "method": entry.method, "tau": entry.tau}
                rows.append({**row, **figures})
                shown.append((f"{entry.name}\n{_caption(bench, figures)}", image))
            drawn.append([*shown, ("photograph", picture.hr)])
        if files.name in sheets:
            title = f"{picture.name}, ×{bench.subject.scale}"
            write_cells(sheets[files.name], title, drawn, shown_place(picture.hr, CROP))
        return rows

    rows = results.measure(bench.pictures, rows_of, options.progress)
    summary = _summary(field, rows)
    results.write_summary(summary)
    return _tables(field, summary)


def parse_damages(texts: Sequence[str]) -> list[Damage]:
    """Damages and families, each damage once; all families if none is named. Raises: ArgumentError."""
    names = [name for text in texts or FAMILIES for name in FAMILIES.get(text, (text,))]
    return list(dict.fromkeys(Damage.parse(name) for name in names))


def write_picture(path: Path, image: Tensor) -> None:
    """Write an image 1×3×H×W as an 8-bit PNG. Raises: OSError."""
    content = io.BytesIO()
    Image.fromarray(to_pixels(image)).save(content, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())


def _reference(name: str, method: Callable[[Picture], Tensor]) -> Entry:
    return Entry(name, "", lambda seen, damage: method(seen))


class _Sampled:
    """A model's samples; an LR image that comes again for another τ is not encoded again."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._last: tuple[Tensor, Sampler] | None = None

    def __call__(self, tau: LevelTaus, seen: Picture, damage: Damage) -> Tensor:
        if self._last is None or self._last[0] is not seen.lr:
            self._last = (seen.lr, self._bench.sampler(seen.lr))
        return self._last[1](tau, 0)


def _output_files(name: str, folder: Path, pictures: Sequence[PictureFiles], damages: Sequence[Damage]) -> list[Path]:
    """Another tool's outputs for all that is measured. Raises: ImageError if one is missing."""
    paths = [folder / damage.folder / f"{files.name}.png" for damage in damages for files in pictures]
    for path in paths:
        if not path.is_file():
            raise ImageError(
                f"--other {name}: there is no {path}: run the tool on the folders in OUT/inputs of a run without it, "
                "and keep their names"
            )
    return paths


def _outputs(name: str, folder: Path) -> Callable[[Picture, Damage], Tensor]:
    """Another tool's outputs, in a folder for each damage, named as the photographs."""

    def image(seen: Picture, damage: Damage) -> Tensor:
        path = folder / damage.folder / f"{seen.name}.png"
        found = to_image(read_photo(path))
        if found.shape != seen.hr.shape:
            height, width = seen.hr.shape[2:]
            raise ImageError(
                f"--other {name}: {path} is {found.shape[3]}×{found.shape[2]} pixels; {width}×{height} are needed"
            )
        return found

    return image


def _caption(bench: Bench, figures: Mapping[str, str | float]) -> str:
    shown = dict.fromkeys((bench.metrics[0], perceptual_metric(bench.metrics)))
    text = ", ".join(metric.of(float(figures[metric.name])) for metric in shown)
    return text.replace(" feature distance", "")  # which is too long for a cell


def _summary(field: Field, rows: Sequence[Row]) -> dict[str, Any]:
    """Means by damage and method, and over the damages of each family."""
    names = [metric.name for metric in field.bench.metrics]

    def means(chosen: Sequence[str]) -> list[dict[str, Any]]:
        return [
            {
                "method": entry.method,
                "tau": entry.tau,
                **mean_of(
                    [
                        row
                        for row in rows
                        if (row["method"], row["tau"]) == (entry.method, entry.tau) and row["input"] in chosen
                    ],
                    names,
                ),
            }
            for entry in field.entries
        ]

    damages = [str(damage) for damage in field.damages]
    by_damage = [{"input": damage, **line} for damage in damages for line in means([damage])]
    found = {name: [damage for damage in damages if damage in members] for name, members in FAMILIES.items()}
    families = [
        {"family": name, "damages": chosen, **line}
        for name, chosen in found.items()
        if len(chosen) > 1
        for line in means(chosen)
    ]
    summary = field.bench.summary("damaged", rows, by_damage)
    for key in ("model", "model_sha256", "references"):
        del summary[key]
    notes = [
        *summary["notes"],
        "LR images are damaged; LR-PSNR compares with the clean one, the others with the photograph. Seed 0.",
    ]
    models = [{"name": name, "sha256": sha256} for name, sha256 in field.settings["models"]]
    return {**summary, "notes": notes, "models": models, "families": families}


def _tables(field: Field, summary: Mapping[str, Any]) -> Table:
    """The means over each family, the first metric by damage, then a table for each damage."""

    def table(lines: Sequence[Mapping[str, Any]], title: str) -> Table:
        named = [(entry.name, line) for entry, line in zip(field.entries, lines, strict=True)]
        return replace(field.bench.table(named, []), title=title, notes=[])

    count = len(field.entries)

    def chunks(lines: Sequence[Mapping[str, Any]], title: Callable[[Mapping[str, Any]], str]) -> list[Table]:
        return [table(lines[start : start + count], title(lines[start])) for start in range(0, len(lines), count)]

    tables = [
        *chunks(summary["families"], lambda line: f"{line['family']}: the mean over {', '.join(line['damages'])}"),
        *([_by_damage(field, summary["rows"])] if len(field.damages) > 1 else []),
        *chunks(summary["rows"], lambda line: str(line["input"])),
    ]
    first, *more = tables
    return replace(first, notes=[f"{field.bench.convention}.", *summary["notes"]], more=more)


def _by_damage(field: Field, lines: Sequence[Mapping[str, Any]]) -> Table:
    """The first metric: a row for each damage, a column for each method."""
    metric, count = field.bench.metrics[0], len(field.entries)
    starts = range(0, len(lines), count)
    rows = [
        [str(lines[start]["input"]), *(f"{line[metric.name]:{metric.form}}" for line in lines[start : start + count])]
        for start in starts
    ]
    headings = ["LR image", *(entry.name for entry in field.entries)]
    return Table(headings=headings, rows=rows, title=f"{metric.heading.rstrip(' ↑↓')}, damage by damage")
