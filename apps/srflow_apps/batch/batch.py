"""A batch: inputs, outputs, model and options. It is planned, then run, then reported."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from srflow_apps.batch.choices import FORMATS, FileOptions
from srflow_apps.batch.finding import find_inputs
from srflow_apps.batch.jobs import FolderFile, FolderResult, Settings
from srflow_apps.batch.one_file import failure
from srflow_apps.batch.opened_models import Choices
from srflow_apps.batch.operations import Job, Operation
from srflow_apps.batch.output_names import (
    Naming,
    beside,
    check_format,
    check_pattern,
    check_samples,
    check_targets,
    identity,
    plan_outputs,
)
from srflow_apps.batch.report import batch_report, check_report, read_report, recorded_in, write_report
from srflow_apps.batch.running import Executor, Watcher
from srflow_apps.batch.storage import make_folders
from srflow_sdk.drawing.tiles import TileSize
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files import MAX_PIXELS
from srflow_sdk.files.formats import save_options
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.url_paths import as_path


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The decisions about every input.

    jobs: this machine's share of all_jobs.
    refused: failed results of inputs that cannot become jobs.
    unread: how many images are left out, by the names of their formats.
    """

    jobs: tuple[Job, ...]
    all_jobs: int
    settings: Settings
    refused: tuple[FolderFile, ...] = ()
    unread: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """An operation on files, by a model: what commands and :func:`srflow_sdk.upscale_folder` build.

    inputs: files and folders.
    output: a file or directory, as :func:`plan_outputs` tells them apart; with a slash at its end it is a directory.
    None puts outputs beside the inputs, as :func:`beside` says, and replaces nothing.
    bundles: the model, or those of :meth:`Operation.needed`, of which each picture gets the one that suits it.
    samples: pictures for each input.
    max_pixels: larger inputs fail.
    tile: as requested, for the report.
    keep: files that must not be overwritten, besides the inputs.
    directory: the output is a directory, whatever its name.
    """

    operation: Operation
    inputs: Sequence[Path]
    output: str | None
    bundles: Sequence[Bundle]
    files: FileOptions = field(default_factory=FileOptions)
    samples: int = 1
    max_pixels: int = MAX_PIXELS
    tile: TileSize = "auto"
    keep: Sequence[Path] = ()
    directory: bool = False

    @cached_property
    def choices(self) -> Choices:
        """Which model draws which input."""
        return Choices(self.bundles, self.operation.scale, max_pixels=self.max_pixels)

    @cached_property
    def earlier(self) -> dict[str, Any] | None:
        """The report of the batch that this one continues."""
        return read_report(self.files.report) if self.files.report is not None and self.files.resume else None

    @cached_property
    def settings(self) -> Settings:
        """The settings of every job. Raises: ArgumentError."""
        files = self.files
        return Settings(
            operation=self.operation,
            report=files.report is not None,
            max_pixels=self.max_pixels,
            resume=files.resume,
            overwrite=files.overwrite,
            beside=self.output is None,
            quality=files.quality,
            lossless=files.lossless,
            recorded=recorded_in(self.earlier),
        )

    def plan(self) -> Plan:
        """Find the inputs, name their outputs, and refuse what cannot be done. Nothing is written.

        Raises: ArgumentError, ImageError, one line, for what concerns all files.
        """
        files, settings = self.files, self.settings
        if self.output == "":
            raise ArgumentError('-o is empty; name a file or a directory ("." is the current one)')
        if files.format is not None and files.format not in FORMATS:
            raise ArgumentError(f"format is {files.format!r}; the formats are {', '.join(FORMATS)}")
        check_samples(self.samples, inputs=1)
        naming = self._naming()
        if self.output is None:
            suffix = self.operation.suffix(self.bundles[0].manifest)
            out, naming = beside(self.inputs, suffix, naming=naming)
        else:
            out = as_path(self.output)
        found = find_inputs(self.inputs, out=out, recursive=files.recursive)
        if self.output is None:  # of *.png, what an earlier run made of the others is left out
            makers = {identity(out / name): file for file in found.files for name in naming.names(file)}
            found.files[:] = [file for file in found.files if makers.get(identity(file.path), file) is file]
        refused = tuple(failure(folder, why) for folder, why in found.refused)
        check_samples(self.samples, inputs=len(found.files))
        directory = self.directory or self.output is None or self.output.endswith(("/", os.sep))
        jobs = plan_outputs(found.files, out, inputs=self.inputs, keep=self.keep, naming=naming, directory=directory)
        # Divided last: two inputs with one output are an error on every machine, whichever has them.
        mine = tuple(job for job in jobs if files.shard is None or files.shard.holds(job.name))
        if files.format is not None:
            check_format(mine, naming.ending)
        check_targets(mine, report=files.report)
        for target in {target.suffix: target for job in mine for target in job.targets}.values():
            save_options(target, quality=files.quality, lossless=files.lossless)
        return Plan(jobs=mine, all_jobs=len(jobs), settings=settings, refused=refused, unread=found.unread)

    def run(
        self,
        plan: Plan,
        execute: Executor,
        *,
        watcher: Watcher | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> FolderResult:
        """Make the directories of the outputs and the report, and do what was planned.

        watcher, check: as for :func:`~srflow_apps.batch.running.run_jobs`. Raises: also ImageError if a
        directory or the report cannot be written.
        """
        report = self.files.report
        if report is not None:
            check_report(report)
        make_folders(target.parent for job in plan.jobs for target in job.targets)
        make_folders([] if report is None else [report.parent])
        result = execute(plan.jobs, settings=plan.settings, watcher=watcher, check=check)
        files, total = (*plan.refused, *result.files), len(plan.jobs) + len(plan.refused)
        return dataclasses.replace(result, files=files, total=total, unread=dict(plan.unread))

    def write_report(self, result: FolderResult, *, in_words: Callable[[str], str] = str) -> None:
        """Write the report if there is to be one. in_words: changes texts in it, such as names of files.

        Raises: ImageError if it cannot be written.
        """
        if self.files.report is not None:
            models = [bundle.manifest for bundle in self.bundles]
            report = batch_report(result, models=models, settings=self.settings, tile=self.tile, earlier=self.earlier)
            write_report(self.files.report, report, in_words=in_words)

    def _naming(self) -> Naming:
        """Raises: ArgumentError for a pattern that cannot name the outputs."""
        operation, manifest, pattern = self.operation, self.bundles[0].manifest, self.files.name
        if pattern is not None:
            check_pattern(pattern, samples=self.samples, fields=operation.name_fields)
        return Naming(
            pattern=pattern,
            ending=operation.ending(self.files),
            sample=operation.sample,
            samples=self.samples,
            bounds=getattr(operation, "interval", None) is not None,
            seed=operation.seed,
            tau=operation.tau_number(manifest),
            model=self.choices.name,
            scale=operation.named_scale(manifest),
        )
