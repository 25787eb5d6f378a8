"""The protocol `damaged`: LR images that are damaged in known ways, enlarged by models and by other
methods.

Damages are those that the trainer draws, and those that it never does. All are made of the clean LR
image, and figures compare with the photograph, LR-PSNR with the clean LR image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from srflow_evaluation.bench import Bench, model_names, open_bench
from srflow_evaluation.damages import CLEAN, KNOWN, UNSEEN, Damage, generator_of
from srflow_evaluation.options import ZERO, Options
from srflow_evaluation.output import SHEETS, Table, shown_place, write_png, write_sheet
from srflow_evaluation.pictures import Picture, PictureFiles, to_pixels
from srflow_evaluation.results import Row
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.system.local_files import file_sha256
from srflow_training.data import read_photo, to_image

FAMILIES = {CLEAN: (CLEAN,), "known": KNOWN, "unseen": UNSEEN}
"""Damages by the names that `--degradation` takes besides single ones."""

CROP = 256
"""Centre of each photograph that is measured if `--crop` is not given."""

# columns that would say what others say, and take half of the time
_LEFT_OUT = ("y_psnr", "ssim", "ms_ssim")


@torch.no_grad()
def damaged(options: Options) -> Table:
    """Measure and write results.csv, summary.json, the inputs and sheets (a row for each damage);
    return the tables.

    Raises:
        SRFlowError.
    """
    damages = parse_damages(options.degradations)
    bench = _open_bench(options)
    taus = {
        name: tuple(dict.fromkeys(options.taus or (ZERO, subject.default_tau)))
        for name, subject in bench.models.items()
    }
    methods = [(name, "") for name in bench.references]
    methods += [(name, str(tau)) for name in bench.models for tau in taus[name]]
    named = [_label(*method) for method in methods]
    if twice := {name for name in named if named.count(name) > 1}:
        raise ArgumentError(
            f"two methods are called {sorted(twice)[0]}: rename one (--other NAME=DIR)"
        )
    digests = {
        name: {
            damage.folder: [
                file_sha256(_output_path(name, folder, damage, files.name))
                for files in bench.pictures
            ]
            for damage in damages
        }
        for name, folder in options.others.items()
    }

    def rows_of(files: PictureFiles, sheet: Path | None) -> list[Row]:
        picture = bench.read(files)
        rows = []
        cells = []
        for damage in damages:
            seen = replace(
                picture,
                lr=damaged_lr(picture, damage),
                others={
                    name: _read_output(name, folder, damage, picture)
                    for name, folder in options.others.items()
                },
            )
            inputs = options.out / "inputs" / damage.folder
            write_png(inputs / f"{picture.name}.png", Image.fromarray(to_pixels(seen.lr)))
            images = [method(seen) for method in bench.references.values()]
            for name, subject in bench.models.items():
                sample = subject.sampler(seen.lr)
                images += [sample(tau, 0) for tau in taus[name]]
            cells.append((f"{damage}\nLR", seen.lr))
            for (name, tau), image in zip(methods, images, strict=True):
                rows.append(bench.row(picture, name, [image], tau, input=str(damage)))
                # too long
                caption = bench.caption(_label(name, tau), rows[-1]).replace(
                    " feature distance", ""
                )
                cells.append((caption, image))
            cells.append(("photograph", picture.hr))
        if sheet is not None:
            title = f"{picture.name}, ×{bench.subject.scale}"
            places = [shown_place(picture.hr, CROP)]
            write_sheet(sheet, title, cells, places, columns=len(methods) + 2)
        return rows

    results, rows = bench.measure(
        options,
        rows_of,
        sheets=SHEETS,
        measured="damaged",
        models=[[name, subject.sha256] for name, subject in bench.models.items()],
        entries=named,
        damages=[str(damage) for damage in damages],
        others=digests,
    )

    def means(chosen: Sequence[str], **more: Any) -> list[dict[str, Any]]:
        of_chosen = [row for row in rows if row["input"] in chosen]
        return [
            {**more, "method": name, "tau": tau, **bench.means(of_chosen, method=name, tau=tau)}
            for name, tau in methods
        ]

    names = [str(damage) for damage in damages]
    by_damage = {name: means([name], input=name) for name in names}
    families = {
        family: [name for name in names if name in members] for family, members in FAMILIES.items()
    }
    by_family = {
        family: means(chosen, family=family, damages=chosen)
        for family, chosen in families.items()
        if len(chosen) > 1
    }
    note = (
        "LR images are damaged; LR-PSNR compares with the clean one, the others with the "
        "photograph. Seed 0."
    )
    summary = bench.summary(
        "damaged", rows, [*chain(*by_damage.values())], note, families=[*chain(*by_family.values())]
    )
    del summary["references"]
    results.write_summary(summary)
    titled = {
        f"{family}: the mean over {', '.join(families[family])}": of
        for family, of in by_family.items()
    }
    tables = [_titled_table(bench, title, lines) for title, lines in titled.items()]
    tables += [_damage_table(bench, named, by_damage)] if len(damages) > 1 else []
    tables += [_titled_table(bench, damage, lines) for damage, lines in by_damage.items()]
    return replace(tables[0], notes=[f"{bench.convention}.", *summary["notes"]], more=tables[1:])


def parse_damages(texts: Sequence[str]) -> list[Damage]:
    """Damages and families, each damage once; all families if none is named.

    Raises:
        ArgumentError.
    """
    names = [name for text in texts or FAMILIES for name in FAMILIES.get(text, (text,))]
    return list(dict.fromkeys(Damage.parse(name) for name in names))


def damaged_lr(picture: Picture, damage: Damage) -> Tensor:
    """The damaged LR image; what is random follows from the picture's name and the damage."""
    return to_image(damage.of(to_pixels(picture.lr), generator_of(f"{picture.name} {damage}")))


def _open_bench(options: Options) -> Bench:
    """Models, other methods, and folders of outputs, which have one for each damage.

    Raises: SRFlowError.
    """
    bench = open_bench(
        replace(options, centre=options.centre or CROP, others={}), several=True, alone=""
    )
    others = {name: lambda seen, name=name: seen.others[name] for name in options.others}
    references = {**bench.references, **others}
    return replace(
        bench,
        models=dict(
            zip(
                model_names([*bench.models.values()], references),
                bench.models.values(),
                strict=True,
            )
        ),
        references=references,
        metrics=tuple(
            metric for metric in bench.metrics if options.metrics or metric.name not in _LEFT_OUT
        ),
    )


def _label(method: str, tau: str) -> str:
    """For tables and sheets."""
    return f"{method}, τ {tau}" if tau else method


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
    image = to_image(read_photo(path := _output_path(name, folder, damage, picture.name)))
    if image.shape != picture.hr.shape:
        height, width = picture.hr.shape[2:]
        raise ImageError(
            f"--other {name}: {path} is {image.shape[3]}×{image.shape[2]} pixels; {width}×{height} "
            "are needed"
        )
    return image


def _titled_table(bench: Bench, title: str, lines: Sequence[Mapping[str, Any]]) -> Table:
    named = [(_label(line["method"], line["tau"]), line) for line in lines]
    return replace(bench.table(named, []), title=title, notes=[])


def _damage_table(
    bench: Bench, named: Sequence[str], by_damage: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Table:
    """The first metric: a row for each damage, a column for each method."""
    metric = bench.metrics[0]
    rows = [
        [damage, *(f"{line[metric.name]:{metric.form}}" for line in lines)]
        for damage, lines in by_damage.items()
    ]
    return Table(["LR image", *named], rows, title=f"{metric.title}, damage by damage")
