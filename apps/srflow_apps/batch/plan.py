"""Which file each picture is written to, decided before anything runs."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from string import Formatter
from typing import Any

from srflow_apps.batch.choices import FORMATS, FileOptions
from srflow_apps.batch.find import InputFile, find_inputs, real_path
from srflow_apps.batch.jobs import FolderFile, FolderResult, Settings
from srflow_apps.batch.one_file import Choices, failure
from srflow_apps.batch.operations import FIELDS, Job, Operation
from srflow_apps.batch.report import batch_report, check_report, read_report, recorded_in, write_report
from srflow_apps.batch.run import Executor, Watcher
from srflow_apps.batch.storage import check_written, is_folder, make_folders
from srflow_apps.batch.url_paths import UrlPath, as_path
from srflow_sdk._checks import flag, is_whole
from srflow_sdk.drawing.tiles import TileSize
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import MAX_PIXELS, READABLE, UNREAD, WRITABLE, check_writable
from srflow_sdk.files.formats import format_of, save_options
from srflow_sdk.model.bundle import Bundle

MAX_SAMPLES = 1000
"""How many samples of a file may be drawn at a time: each has an encoder, with a thread and files, of its own."""

_FORMAT = re.compile(r"(0?[0-9]{1,2})?(\.[0-9])?[df]?", re.ASCII)  # {sample:03}, {tau:.2f}; nothing that grows large

_EXAMPLE = InputFile(path=Path("photo.jpg"), name=PurePosixPath("photo.jpg"))


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How the files in an output directory are named: a pattern with :data:`FIELDS`, and the fields' values.

    pattern: None is "{stem}", for several samples "{stem}_s{sample}", with the ending. sample: number of the first
    sample. bounds: whether each input has three outputs, its picture and the bounds of an interval. model: of an
    input, by its path. scale: None if it differs from one input to the next. tau: None if it is not one number.

    Raises: ArgumentError for a pattern with {scale} or {tau} in that case.
    """

    pattern: str | None = None
    ending: str = ".png"
    sample: int = 0
    samples: int = 1
    bounds: bool = False
    seed: int = 0
    tau: float | None = 0.0
    model: Callable[[Path], str] = lambda _: "model"
    scale: float | None = 4.0

    def __post_init__(self) -> None:
        named = {field for _, field, _, _ in Formatter().parse(self.pattern or "")}
        if self.tau is None and "tau" in named:
            raise ArgumentError(f"--name {self.pattern}: {{tau}} is not one number by default; choose it with --tau")
        if self.scale is None and "scale" in named:
            raise ArgumentError(
                f"--name {self.pattern}: {{scale}} differs from picture to picture with --size and --max-size; "
                "leave it out, or use --scale"
            )

    @property
    def numbers(self) -> range:
        """The samples' numbers."""
        return range(self.sample, self.sample + self.samples)

    def names(self, file: InputFile, *, stem: str | None = None) -> list[str]:
        """The names of one input's outputs. stem: what to put for {stem}; None is the input's own."""
        pattern = self.pattern or ("{stem}" if self.samples == 1 else "{stem}_s{sample}") + self.ending
        model = self.model(file.path) if "{model" in pattern else ""  # or pictures would be looked at for nothing
        fields = {
            "stem": (file.name.stem if stem is None else stem) or "image",
            "ending": file.name.suffix[1:],
            "scale": self.scale,
            "seed": self.seed,
            "tau": self.tau,
            "model": re.sub(r"[^\w.+-]", "-", model),
        }
        return self.with_bounds([pattern.format(**fields, sample=number) for number in self.numbers])

    def with_bounds(self, names: list[str]) -> list[str]:
        """Add those of an interval's bounds to a picture's name: photo_low.png and photo_high.png to photo.png."""
        if not self.bounds:
            return names
        place = PurePosixPath(names[0])
        return [names[0], *(f"{place.stem}_{bound}{place.suffix}" for bound in ("low", "high"))]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Part `index` (1 … count) of `count` parts, the same on every machine."""

    index: int
    count: int

    @classmethod
    def of(cls, pair: tuple[int, int]) -> Shard:
        """Part i of n. Raises: ArgumentError."""
        try:
            index, count = (int(number) for number in pair)
        except (TypeError, ValueError):
            index, count = 0, 0
        if not 1 <= index <= count:
            raise ArgumentError(f"shard is {pair!r}; it must be part i of n, such as (1, 3), (2, 3) or (3, 3)")
        return cls(index=index, count=count)

    def holds(self, name: PurePosixPath) -> bool:
        """True if the input of this name belongs to the part. Every name belongs to exactly one."""
        # macOS may spell an accented letter as two characters where Linux has one.
        spelling = unicodedata.normalize("NFC", name.as_posix()).encode("utf-8", "surrogatepass")
        number = int.from_bytes(hashlib.sha256(spelling).digest()[:8], "big")
        return number % self.count == self.index - 1


def check_pattern(pattern: str, *, samples: int, fields: Sequence[str] = FIELDS) -> None:
    """Raises: ArgumentError if the pattern cannot name the files of this many samples with these fields."""
    try:
        parts = list(Formatter().parse(pattern))
    except ValueError as error:
        raise ArgumentError(f"--name {pattern}: {error}; write a field as {{stem}}, a brace as {{{{") from error
    for _, named, form, conversion in parts:
        if named is not None and (named not in fields or conversion or not _FORMAT.fullmatch(form or "")):
            known = ", ".join(f"{{{name}}}" for name in fields)
            raise ArgumentError(f"--name {pattern}: {{{named}}} cannot be filled in; the fields are {known}")
    if "/" in pattern or "\\" in pattern:
        raise ArgumentError(f"--name {pattern} names a folder; give only a file name, and the folder with -o")
    if samples > 1 and not any(named == "sample" for _, named, _, _ in parts):
        raise ArgumentError(f"--name {pattern} gives all {samples} samples the same name; add {{sample}}")
    check_writable(pattern)
    for named, form in ((named, form) for _, named, form, _ in parts if named is not None):
        try:
            Naming(pattern=f"{{{named}:{form}}}").names(_EXAMPLE)
        except ValueError as error:
            known = "{sample:03}, " if "sample" in fields else ""
            raise ArgumentError(
                f"--name {pattern}: {{{named}:{form}}} is not a valid format; use {known}{{seed:06}}, {{tau:.2f}} or "
                "bare names"
            ) from error


def beside(inputs: Sequence[Path], suffix: str, *, naming: Naming) -> tuple[Path, Naming]:
    """The directory and the names of outputs that nobody named: photo_x4.png beside photo.jpg, photos_x4 beside photos.

    Raises: ArgumentError if the inputs are several folders, or files in several ones.
    """
    places = {identity(path.parent): path.parent for path in inputs}
    folders = [path for path in inputs if is_folder(path)]
    if len(places) > 1 or (folders and len(inputs) > 1):
        raise ArgumentError(
            "the inputs are several folders, or lie in several; name a directory for the outputs with -o"
        )
    if not folders:
        pattern = naming.pattern or ("{stem}_" + suffix + ("_s{sample}" if naming.samples > 1 else "") + naming.ending)
        return inputs[0].parent, dataclasses.replace(naming, pattern=pattern)
    folder = folders[0] if folders[0].name not in ("", "..") else real_path(folders[0])
    if not folder.name:
        raise ArgumentError(f"{folder} has no name to which _{suffix} could be added; name a directory with -o")
    return folder.with_name(f"{folder.name}_{suffix}"), naming


def plan_outputs(
    files: Sequence[InputFile],
    out: Path,
    *,
    naming: Naming,
    directory: bool = False,
    inputs: Sequence[Path] = (),
    keep: Sequence[Path] = (),
) -> list[Job]:
    """Name the output of every input file and sample.

    out is a file if it has an ending and there is one input, otherwise a directory; `directory` makes it one, whatever
    its name, and so does an ending that no image has, such as `large.v2`, if there are several inputs or a folder. In a
    directory, `naming` names the files, and subfolders are kept; with a file `large.png`, samples become `large_s0.png`
    … A file given twice is one job. Inputs that would share an output all get other ones, the same in every run:
    `a.gif` and `a.webp` become `a_gif.png` and `a_webp.png`, and `x/a.png` and `y/a.png` `x_a_png.png` and
    `y_a_png.png`. `A.png` and `a.png`, which are one file on some disks, get six digits of a hash.
    inputs: as given on the command line, including folders. keep: further files that must not be overwritten.

    Raises: ArgumentError if several inputs share one output file, two inputs would write the same file all the same, or
    an output is an input or would become one the next time because it lies in an input folder.
    """
    if not files:
        return []
    folders = [path for path in inputs if is_folder(path)]
    several = bool(folders) or len(files) > 1
    names_image = out.suffix.lower() in {*READABLE, *WRITABLE, *UNREAD}
    directory = directory or is_folder(out) or (not names_image and (several or out.suffix == ""))
    if not directory:
        _refuse_one_file(files, out, naming=naming, folders=folders)
    stems = _stems_apart(files, naming) if directory else [None] * len(files)
    unique: dict[tuple[str, tuple[Path, ...]], Job] = {}
    for file, stem in zip(files, stems, strict=True):
        job = _job(file, out, naming=naming, directory=directory, stem=stem)
        unique.setdefault((identity(job.source), job.targets), job)
    jobs = list(unique.values())
    _refuse_shared_targets(jobs, naming)
    _refuse_overwritten([*(job.source for job in jobs), *keep], jobs)
    _refuse_outputs_among_inputs(jobs, out, folders)
    return jobs


def check_targets(jobs: Iterable[Job], *, report: Path | None = None) -> None:
    """Find what cannot be written before minutes of work, not after. Nothing is created.

    Raises: ArgumentError for an unknown ending, or a report that would replace an input or output; ImageError if a file
    cannot be written there.
    """
    jobs = list(jobs)
    targets = [target for job in jobs for target in job.targets]
    for target in targets:
        check_writable(target)
    if report is not None:
        if identity(report) in {identity(path) for path in [*targets, *(job.source for job in jobs)]}:
            raise ArgumentError(f"the report {report} would replace an input or output; name another file")
        targets.append(report)
    for url in (target for target in targets if isinstance(target, UrlPath)):
        check_written(url)
    targets = [target for target in targets if not isinstance(target, UrlPath)]
    for folder in dict.fromkeys(target.parent for target in targets):
        place = next(place for place in (folder, *folder.parents, Path()) if os.path.lexists(place))
        if not is_folder(place):
            raise ImageError(
                f"the directory {folder} cannot be created: {place} is not a directory; for a file, "
                "name one with an ending, such as .png"
            )
        if not os.access(place, os.W_OK):
            raise ImageError(f"the directory {place} is not writable; name another, or change its permissions")
    for target in targets:
        if is_folder(target):
            raise ImageError(f"{target} cannot be written: it is a directory")


def check_format(jobs: Iterable[Job], ending: str) -> None:
    """Raises: ArgumentError if an output's name sets another format than this ending does."""
    for target in (target for job in jobs for target in job.targets):
        if format_of(target) is not format_of(f"a{ending}"):
            raise ArgumentError(f"{target} and --format {ending[1:]} are two formats; leave --format out")


def check_samples(samples: int) -> None:
    """Raises: ArgumentError unless so many samples of a file may be asked for at a time."""
    if not is_whole(samples) or not 1 <= samples <= MAX_SAMPLES:
        raise ArgumentError(
            f"samples is {samples!r}; ask for 1 to {MAX_SAMPLES}, then go on with --sample {MAX_SAMPLES}"
        )


def identity(path: Path) -> str:
    """A key that is equal for all names of a file: links are followed, and hard links recognised if the file exists."""
    if isinstance(path, UrlPath):
        return path.key
    try:
        status = path.stat()
    except OSError:
        return os.path.normcase(real_path(path))
    # Windows may report inode 0 on some file systems; then only the name is left.
    return f"{status.st_dev}:{status.st_ino}" if status.st_ino else os.path.normcase(real_path(path))


def _refuse_one_file(inputs: Sequence[InputFile], out: Path, *, naming: Naming, folders: Sequence[Path]) -> None:
    fix = f"name a directory: -o {out.with_suffix('')}/"
    if folders:
        raise ArgumentError(f"{out} is one file and {folders[0]} is a folder; {fix}")
    if len(inputs) > 1:
        raise ArgumentError(f"{out} is one file and there are {len(inputs)} inputs; {fix}")
    if naming.pattern is not None:
        raise ArgumentError(f"-o {out} and --name both name the file; {fix}")


def _stems_apart(files: Sequence[InputFile], naming: Naming) -> list[str | None]:
    """Texts to put for {stem}, so that no two inputs have the same output, as far as that can be done.

    Names depend only on which inputs there are, not on their order, nor on what exists already.
    """
    stems: list[str | None] = [None] * len(files)
    for renamed in (_with_ending, _with_folder_and_ending, _with_digest):
        writers: dict[str, list[int]] = {}
        for number, (file, stem) in enumerate(zip(files, stems, strict=True)):
            for name in naming.names(file, stem=stem):
                writers.setdefault(_folded(str(file.name.parent / name)), []).append(number)
        for numbers in writers.values():
            if len(numbers) > 1 and len({identity(files[number].path) for number in numbers}) > 1:
                for number in numbers:
                    stems[number] = renamed(files[number])
    return stems


def _with_ending(file: InputFile) -> str:
    return "_".join(filter(None, (file.name.stem, file.name.suffix[1:])))


def _with_folder_and_ending(file: InputFile) -> str:
    return f"{real_path(file.path.parent).name}_{_with_ending(file)}"


def _with_digest(file: InputFile) -> str:
    """For names that differ only by case, or by the spelling of an accent: some disks do not tell them apart."""
    name = f"{real_path(file.path.parent).name}/{file.name.as_posix()}"
    return f"{_with_ending(file)}_{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:6]}"


def _job(source: InputFile, out: Path, *, naming: Naming, directory: bool, stem: str | None) -> Job:
    if directory:
        folder = out / source.name.parent
        targets = [folder / name for name in naming.names(source, stem=stem)]
    elif naming.samples == 1:
        targets = [out.with_name(name) for name in naming.with_bounds([out.name])]
    else:
        targets = [out.with_name(f"{out.stem}_s{number}{out.suffix}") for number in naming.numbers]
    return Job(source=source.path, targets=tuple(targets), name=source.name)


def _refuse_shared_targets(jobs: Iterable[Job], naming: Naming) -> None:
    real = functools.cache(real_path)
    writers: dict[str, Path] = {}
    for job in jobs:
        source = job.source
        for target in job.targets:
            # macOS and Windows do not tell A.png from a.png; what a command means must not depend on the disk.
            for key in (identity(target), f"folded {_folded(str(real(target.parent) / target.name))}"):
                other = writers.setdefault(key, source)
                if other is not source:
                    why = " on a disk that ignores case" if key.startswith("folded") else ""
                    fix = _clash_fix(other, source, naming)
                    raise ArgumentError(f"{other} and {source} would both be written to {target}{why}; {fix}")


def _clash_fix(one: Path, other: Path, naming: Naming) -> str:
    if naming.pattern is not None and "{stem" not in naming.pattern:
        return "add {stem} to --name"
    return "rename one of them" if one.parent == other.parent else "upscale them into two directories"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _refuse_overwritten(files: Iterable[Path], jobs: Iterable[Job]) -> None:
    kept = {identity(path): path for path in files}
    for job in jobs:
        for target in job.targets:
            file = kept.get(identity(target))
            if file is not None:
                raise ArgumentError(f"{target} would overwrite the input {file}; name another output")


def _refuse_outputs_among_inputs(jobs: Iterable[Job], out: Path, folders: Iterable[Path]) -> None:
    places = {real_path(place) for place in {target.parent for job in jobs for target in job.targets}}
    for folder in folders:
        whole = real_path(folder)
        if whole in real_path(out).parents:
            continue  # what lies under `out` is never taken as an input
        if any(place == whole or whole in place.parents for place in places):
            raise ArgumentError(
                f"outputs would lie among the inputs in {folder} and become inputs the next time; "
                f"give them a folder of their own, such as -o {folder / 'large'}/"
            )


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
        if not self.inputs:
            raise ArgumentError("there are no inputs; name files and folders")
        for name in ("recursive", "lossless", "resume", "overwrite"):
            flag(name, getattr(files, name))
        if self.samples != 1 and getattr(self.operation, "interval", None) is not None:
            raise ArgumentError("an interval is of one picture, and has three files; leave out samples")
        if self.output == "":
            raise ArgumentError('-o is empty; name a file or a directory ("." is the current one)')
        if files.format is not None and files.format not in FORMATS:
            raise ArgumentError(f"format is {files.format!r}; the formats are {', '.join(FORMATS)}")
        check_samples(self.samples)
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

        watcher, check: as for :func:`~srflow_apps.batch.run.run_jobs`. Raises: also ImageError if a
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
