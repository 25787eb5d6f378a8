"""The plan of a batch: every input, the names of its outputs, and what to do with it. Nothing is written here."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from srflow_apps.batch import storage
from srflow_apps.batch.finding import InputFile, find_inputs
from srflow_apps.batch.jobs import FolderFile, Job, Settings
from srflow_apps.batch.one_file import failure
from srflow_apps.batch.output_names import (
    Naming,
    Shard,
    check_format,
    check_pattern,
    check_samples,
    check_targets,
    plan_outputs,
)
from srflow_apps.batch.report import check_report
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files.formats import save_options
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.system.url_paths import as_path

Format = Literal["png", "jpg", "webp", "tif", "avif"]
FORMATS: tuple[Format, ...] = get_args(Format)
"""The formats that can be chosen for a directory's outputs; the first is the default."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a batch will do. It can be pickled, so that an executor can take it anywhere.

    jobs: this machine's share of all_jobs. refused: failed results of inputs that cannot become jobs. unread: how many
    images are left out, by the names of their formats. report: where to write the report.
    """

    jobs: tuple[Job, ...]
    all_jobs: int
    settings: Settings
    refused: tuple[FolderFile, ...] = ()
    unread: Mapping[str, int] = field(default_factory=dict)
    report: Path | None = None

    @property
    def total(self) -> int:
        """How many inputs will have a result."""
        return len(self.jobs) + len(self.refused)


def make_plan(
    inputs: Sequence[Path],
    output: str,
    *,
    manifest: Manifest,
    settings: Settings,
    model: Callable[[Path], str] | None = None,
    samples: int = 1,
    name: str | None = None,
    format: Format | None = None,
    recursive: bool = False,
    shard: Shard | None = None,
    report: Path | None = None,
    keep: Sequence[Path] = (),
    directory: bool = False,
) -> Plan:
    """Find the inputs, name their outputs, and refuse what cannot be done.

    output: a file or directory, as :func:`plan_outputs` tells them apart; with a slash at its end it is a directory.
    manifest: of the model, or of one of them. model: if there are several, the name of the one for each input. name: a
    pattern for the names in a directory. keep: files that must not be overwritten, besides the inputs.

    Raises: ArgumentError, ImageError, one line, for what concerns all files.
    """
    if not output:
        raise ArgumentError('-o is empty; name a file or a directory ("." is the current one)')
    if format is not None and format not in FORMATS:
        raise ArgumentError(f"format is {format!r}; the formats are {', '.join(FORMATS)}")
    check_samples(samples, inputs=1)
    operation = settings.operation
    if name is not None:
        check_pattern(name, samples=samples, fields=operation.name_fields)
    naming = Naming(
        pattern=name,
        ending=f".{format or FORMATS[0]}",
        sample=operation.sample,
        samples=samples,
        seed=operation.seed,
        tau=operation.tau_number(manifest),
        model=manifest.name if model is None else model,
        scale=operation.named_scale(manifest),
    )
    unread, refused, out = Counter[str](), list[FolderFile](), as_path(output)
    files = find_inputs(
        inputs,
        out=out,
        recursive=recursive,
        failed=lambda folder, why: refused.append(failure(folder, why)),
        unread=unread,
    )
    check_samples(samples, inputs=len(files))
    jobs = _named(files, out, naming=naming, directory=directory or _ends_with_slash(output), inputs=inputs, keep=keep)
    # Divided last: two inputs with one output are an error on every machine, whichever has them.
    mine = tuple(job for job in jobs if shard is None or shard.holds(job.name))
    if format is not None:
        check_format(mine, naming.ending)
    check_targets(mine, report=report)
    for target in {target.suffix: target for job in mine for target in job.targets}.values():
        save_options(target, quality=settings.quality, lossless=settings.lossless)
    return Plan(
        jobs=mine,
        all_jobs=len(jobs),
        settings=settings,
        refused=tuple(refused),
        unread=dict(unread),
        report=report,
    )


def make_folders(plan: Plan) -> None:
    """Create the directories of all outputs and of the report.

    Raises: ImageError if one cannot be written to, or the report's name is that of a pipe or a device.
    """
    if plan.report is not None:
        check_report(plan.report)
    targets = [target for job in plan.jobs for target in job.targets]
    storage.make_folders(target.parent for target in targets)
    if plan.report is not None:
        storage.make_folders([plan.report.parent])


def _named(
    files: Sequence[InputFile],
    out: Path,
    *,
    naming: Naming,
    directory: bool,
    inputs: Sequence[Path],
    keep: Sequence[Path],
) -> list[Job]:
    if not files:
        return []
    return plan_outputs(files, out, naming=naming, directory=directory, inputs=inputs, keep=keep)


def _ends_with_slash(output: str) -> bool:
    return output.endswith(("/", os.sep))
