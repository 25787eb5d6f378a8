"""Plans a batch before anything runs: finds the inputs, and decides which file each picture is
written to.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from srflow_apps.batch.choices import FORMATS, FileChoices
from srflow_apps.batch.jobs import Job, Settings
from srflow_apps.batch.models import Models
from srflow_apps.batch.operations import Operation, Upscaling
from srflow_apps.batch.results import FolderFile, failure
from srflow_apps.batch.storage import (
    UrlPath,
    as_path,
    check_bucket,
    check_written,
    file_names,
    is_folder,
    real_path,
)
from srflow_apps.clips.files import CLIPS
from srflow_sdk._checks import whole
from srflow_sdk.errors import ArgumentError, ImageError, SRFlowError
from srflow_sdk.files import MAX_PIXELS, READABLE, UNREAD, WRITABLE, check_writable, read_provenance
from srflow_sdk.files.animations import Animation
from srflow_sdk.files.formats import WriteOptions, format_of, save_options
from srflow_sdk.files.provenance import INTERVAL
from srflow_sdk.geometry.tiles import TileSize
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.local_files import check_replaceable, is_writable, writing_errors

MAX_SAMPLES = 1000
"""How many samples of a file may be drawn at a time: each has an encoder, with a thread and files,
of its own."""


@dataclass(kw_only=True)
class Inputs:
    """The inputs found: jobs without targets, and of folders what is left out.

    refused: failed results of folders that cannot be used. others: how many files are left out, by
        what they are.
    """

    jobs: list[Job] = field(default_factory=list)
    refused: list[FolderFile] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The decisions about a batch. jobs: this machine's share of `total`. tile: as requested."""

    jobs: tuple[Job, ...]
    total: int
    settings: Settings
    models: Models
    inputs: Inputs = field(default_factory=Inputs)
    tile: TileSize = "auto"


def make_plan(
    operation: Operation,
    inputs: Sequence[Path],
    output: str | None,
    bundles: Sequence[Bundle],
    *,
    files: FileChoices,
    samples: int = 1,
    max_pixels: int = MAX_PIXELS,
    tile: TileSize = "auto",
    keep: Sequence[Path] = (),
) -> Plan:
    """Find the inputs, name their outputs as :func:`plan_outputs`, and refuse what cannot be done.
    Writes nothing.
    """
    if not inputs:
        raise ArgumentError("there are no inputs; name files and folders")
    bundles = operation.select_bundles(bundles)
    naming = Naming.of(operation, bundles[0], files, samples)
    naming, out = choose_destination(naming, inputs, output)
    listing = find_inputs(inputs, out=out, recursive=files.recursive)
    # An earlier run's outputs among the photos would be enlarged again.
    named = set(inputs)
    jobs = [
        job
        for job in listing.jobs
        if job.source in named or not _is_made_by(operation.name, job.source)
    ]
    left_out = f"of srflow-{operation.name}'s own outputs; it takes those that are named"
    listing.others[left_out] = len(listing.jobs) - len(jobs)
    if output is None:  # of *.png, what an earlier run made of the others is left out
        makers = {identity(target): job for job in jobs for target in naming.targets(job, out)}
        jobs = [job for job in jobs if makers.get(identity(job.source), job) is job]
    frames = bundles[0].manifest.files and not (operation.raw or operation.interval)
    if frames and isinstance(operation, Upscaling):  # a server, without files, draws none
        jobs = [dataclasses.replace(job, animation=Animation.in_file(job.source)) for job in jobs]
    jobs = plan_outputs(jobs, out, inputs=inputs, keep=keep, naming=naming)
    mine = jobs
    if files.shard is not None:
        # Now: two inputs with one output are an error on every machine, whichever has them.
        part, parts = files.shard
        mine = [job for job in jobs if part_of(job.name, parts) == part]
    check_targets(mine, files)
    return Plan(
        jobs=tuple(mine),
        total=len(jobs),
        settings=Settings(
            operation=operation,
            resume=files.resume,
            overwrite=files.overwrite,
            quality=files.quality,
            lossless=files.lossless,
            max_pixels=max_pixels,
            report=files.report is not None,
            beside=output is None,
        ),
        models=Models(bundles=bundles, scale=operation.scale, max_pixels=max_pixels),
        inputs=listing,
        tile=tile,
    )


def part_of(name: PurePosixPath, parts: int) -> int:
    """The part, from 1, of so many, to which the input of this name belongs: the same on every
    machine.
    """
    # macOS may spell an accented letter as two characters where Linux has one.
    spelling = unicodedata.normalize("NFC", name.as_posix()).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(spelling).digest()[:8], "big") % parts + 1


def find_inputs(inputs: Sequence[Path], *, out: Path, recursive: bool = False) -> Inputs:
    """Find the files given, and images in the folders given, sorted, but what is hidden or below
    `out`.
    """
    listing = Inputs()
    out = real_path(out)
    for path in inputs:
        if not is_folder(path):
            listing.jobs.append(Job(source=path, name=PurePosixPath(path.name)))
            continue
        before = (len(listing.jobs), len(listing.refused))
        names = _list_files(path, listing.refused, out, recursive=recursive)
        for name in sorted(names, key=lambda name: name.parts):
            ending = name.suffix.lower()
            if ending in READABLE:
                listing.jobs.append(Job(source=path / name, name=name))
            elif ending in UNREAD:
                listing.others[
                    f"{UNREAD[ending]}, which is not read; convert it to PNG or TIFF"
                ] += 1
            elif ending in CLIPS:
                listing.others["clips; name them as INPUTs of a command of their own"] += 1
        if before == (len(listing.jobs), len(listing.refused)):
            more = (
                "links to folders are not followed"
                if recursive
                else "--recursive searches its subfolders too"
            )
            why = f"there are no images in this folder ({', '.join(READABLE)}); {more}"
            listing.refused.append(failure(path, why))
    return listing


def _list_files(
    folder: Path, refused: list[FolderFile], out: Path, *, recursive: bool
) -> list[PurePosixPath]:
    """Names of files that are neither hidden nor below `out`. refused: gets folders that cannot be
    listed.
    """
    if isinstance(folder, UrlPath):
        try:
            names_in_store = file_names(folder, recursive=recursive)
        except ImageError as error:
            refused.append(failure(folder, str(error)))
            return []
        return [
            name
            for name in names_in_store
            if folder not in out.parents or out not in (folder / name).parents
        ]

    def refuse(error: OSError) -> None:
        place = Path(error.filename or folder)
        refused.append(failure(place, f"the folder cannot be listed: {error.strerror}"))

    names = list[PurePosixPath]()
    # without links to folders: none is entered twice
    for place, folders, files in os.walk(folder, onerror=refuse):
        visible = [name for name in folders if recursive and not name.startswith(".")]
        folders[:] = [name for name in visible if real_path(Path(place) / name) != out]
        here = PurePosixPath(Path(place).relative_to(folder))
        names += [here / name for name in files if not name.startswith(".")]
    return names


def _is_made_by(operation: str, path: Path) -> bool:
    """True if a file on this machine says that the operation made it: a store's would have to be
    fetched.
    """
    with contextlib.suppress(SRFlowError):
        made = None if isinstance(path, UrlPath) else read_provenance(path)
        return made is not None and made.operation in (operation, INTERVAL)
    return False


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How output files are named: by a pattern with fields in braces.

    pattern: None is "{stem}", for several samples "{stem}_s{sample}", with the suffix and the
    ending, which is an animation's own. numbers: of the samples. bounds: each input has three
    outputs, its picture and the bounds of an interval. values: of the fields that all have alike.
    """

    pattern: str | None = None
    suffix: str = ""
    ending: str = ".png"
    numbers: Sequence[int] = range(1)
    bounds: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, operation: Operation, bundle: Bundle, files: FileChoices, samples: int) -> Naming:
        """What an operation and its options name. Raises: ArgumentError for too many samples, and
        if the pattern cannot name the outputs.
        """
        whole("samples", samples, least=1, most=MAX_SAMPLES)
        if operation.interval is not None and samples > 1:
            raise ArgumentError(
                "an interval is of one picture, and has three files; leave out samples"
            )
        naming = cls(
            pattern=files.name,
            ending=ending_of(operation, files),
            numbers=range(operation.sample, operation.sample + samples),
            bounds=operation.interval is not None,
            values={
                name: value
                for name, value in operation.name_fields(bundle.manifest).items()
                if value is not None
            },
        )
        if files.name is not None:
            naming.check(files.name)
        return naming

    def targets(self, job: Job, out: Path, *, apart: bool = False) -> tuple[Path, ...]:
        """One input's outputs in a folder. apart: {stem} has the input's ending, too: `a_gif`
        beside `a_webp`.
        """
        stem = job.name.stem
        ending = job.name.suffix[1:]
        own = {
            "stem": (f"{stem}_{ending}" if apart and ending else stem) or "image",
            "ending": ending,
        }
        pattern = self.pattern
        if pattern is None:
            pattern = "{stem}" + self.suffix + "_s{sample}" * (len(self.numbers) > 1)
            pattern += job.animation.ending if job.animation else self.ending
        names = [pattern.format(**self.values, **own, sample=number) for number in self.numbers]
        if self.bounds:
            place = PurePosixPath(names[0])
            names += [f"{place.stem}_{end}{place.suffix}" for end in ("low", "high")]
        return tuple(out / job.name.parent / name for name in names)

    def check(self, pattern: str) -> None:
        """Raises: ArgumentError if the pattern cannot name the outputs."""
        said = f"--name {pattern}"
        photo = PurePosixPath("photo.jpg")
        try:
            targets = self.targets(Job(source=Path(photo), name=photo), Path())
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            known = ", ".join(
                f"{{{name}}}"
                for name in ("stem", "ending", "sample", *self.values)
                if name != "suffix"
            )
            more = (
                "numbers also {sample:03} or {seed:06}, and a brace is {{; {tau} and {scale} must "
                "be numbers"
            )
            raise ArgumentError(
                f"{said} cannot be filled in ({error}); the fields are {known}, {more}"
            ) from error
        if "/" in pattern or "\\" in pattern:
            raise ArgumentError(
                f"{said} names a folder; give only a file name, and the folder with -o"
            )
        if len(set(targets)) < len(targets):
            raise ArgumentError(
                f"{said} gives all {len(self.numbers)} samples the same name; add {{sample}}"
            )
        check_writable(pattern)


def ending_of(operation: Operation, files: FileChoices) -> str:
    """The ending of an output whose name does not set a format."""
    return f".{files.format or ('tif' if operation.raw else FORMATS[0])}"


def choose_destination(
    naming: Naming, inputs: Sequence[Path], output: str | None
) -> tuple[Naming, Path]:
    """The names of outputs, and the folder that they go to. Raises: ArgumentError if they need
    another one.

    What nobody named lies beside the inputs: photo_x4.png beside photo.jpg, the folder photos_x4
    beside photos. OUT is a file if it has an ending and there is one input, otherwise a directory;
    so is `large.v2`, whose ending no image has, for several inputs. Raises also: ImageError for one
    file in a folder that does not exist.
    """
    folders = [path for path in inputs if is_folder(path)]
    if output is None:
        suffix = f"_{naming.values['suffix']}"
        if len({identity(path.parent) for path in inputs}) > 1 or (folders and len(inputs) > 1):
            raise ArgumentError(
                "the inputs are several folders, or lie in several; name a directory with -o"
            )
        if not folders:
            return dataclasses.replace(naming, suffix=suffix), inputs[0].parent
        folder = folders[0] if folders[0].name not in ("", "..") else real_path(folders[0])
        if not folder.name:
            raise ArgumentError(
                f"{folder} has no name to add {suffix} to; name a directory with -o"
            )
        return naming, folder.with_name(f"{folder.name}{suffix}")
    out = as_path(output)
    several = bool(folders) or len(inputs) > 1
    if isinstance(out, UrlPath):
        check_written(out)  # before its store is asked
    is_image = out.suffix.lower() in {*READABLE, *WRITABLE, *UNREAD}
    directory = output.endswith(("/", os.sep)) or (not is_image and (several or out.suffix == ""))
    if directory or is_folder(out):
        return naming, out
    if several or naming.pattern is not None:
        count = (
            f"there are {len(inputs)} inputs"
            if several
            else "--name names the files of a directory"
        )
        why = f"{folders[0]} is a folder" if folders else count
        raise ArgumentError(
            f"{out} is one file and {why}; name a directory: -o {out.with_suffix('')}/"
        )
    check_place(out)
    stem, end = (text.replace("{", "{{").replace("}", "}}") for text in (out.stem, out.suffix))
    pattern = stem + "_s{sample}" * (len(naming.numbers) > 1) + end
    return dataclasses.replace(naming, pattern=pattern), out.parent


def check_place(output: Path) -> None:
    """Raises: ImageError if one file is to lie in a folder that does not exist, which is a mistyped
    path.
    """
    if not isinstance(output, UrlPath) and not is_folder(output.parent):
        fix = "correct the path, or create the folder"
        raise ImageError(f"{output} cannot be written: there is no folder {output.parent}; {fix}")


def plan_outputs(
    found: Sequence[Job],
    out: Path,
    *,
    naming: Naming,
    inputs: Sequence[Path] = (),
    keep: Sequence[Path] = (),
) -> list[Job]:
    """Name the output of every input file and sample, in a folder. A file given twice is one job.

    inputs: as given, folders too. keep: other files that must not be overwritten. Raises:
    ArgumentError if an output is an input, another's, or an input the next time.
    """
    # Many names: files by what they are written from, to and beside.
    writers = dict[str, set[str]]()  # the inputs, by the outputs that they would have
    for job in found:
        for target in naming.targets(job, out):
            writers.setdefault(_folded(target), set()).add(identity(job.source))
    jobs: dict[tuple[str, tuple[Path, ...]], Job] = {}
    for job in found:
        targets = naming.targets(job, out)
        if any(len(writers[_folded(target)]) > 1 for target in targets):
            targets = naming.targets(job, out, apart=True)
        job = dataclasses.replace(job, targets=targets)
        jobs.setdefault((identity(job.source), job.targets), job)
    real = functools.cache(real_path)
    taken = dict[str, Path]()
    kept = {identity(path): path for path in [*(job.source for job in jobs.values()), *keep]}
    for job, target in [(one, target) for one in jobs.values() for target in one.targets]:
        if (file := kept.get(identity(target))) is not None:
            raise ArgumentError(f"{target} would overwrite the input {file}; name another output")
        # macOS and Windows do not tell A.png from a.png; what a command means must not depend on
        # the disk.
        other = taken.setdefault(_folded(real(target.parent) / target.name), job.source)
        if other is not job.source:
            fix = (
                "rename one of them"
                if other.parent == job.source.parent
                else "take two directories"
            )
            if naming.pattern is not None and "{stem" not in naming.pattern:
                fix = "add {stem} to --name"
            raise ArgumentError(
                f"{other} and {job.source} would both be written to {target}; {fix}"
            )
    places = {real(target.parent) for job in jobs.values() for target in job.targets}
    above = {folder for place in places for folder in (place, *place.parents)} - {
        *real_path(out).parents
    }
    for folder in inputs:
        if real_path(folder) in above:  # but what lies under `out` is never taken as an input
            why = f"outputs would lie among the inputs in {folder} and become inputs the next time"
            raise ArgumentError(
                f"{why}; give them a folder of their own, such as -o {folder / 'large'}/"
            )
    return list(jobs.values())


def _folded(path: Path) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(path)).casefold())


def identity(path: Path) -> str:
    """A key that is equal for all names of a file: links are followed, and hard links recognised if
    the file exists.
    """
    if isinstance(path, UrlPath):
        return str(path)
    with contextlib.suppress(OSError):
        status = path.stat()
        if status.st_ino:  # Windows may report 0 on some file systems; then only the name is left
            return f"{status.st_dev}:{status.st_ino}"
    return os.path.normcase(real_path(path))


def check_targets(jobs: Sequence[Job], files: FileChoices) -> None:
    """Raises: ArgumentError, ImageError for what cannot be written, before minutes of work. Nothing
    is created.
    """
    targets = [target for job in jobs for target in job.targets]
    sources = [job.source for job in jobs]
    report = files.report
    for target in (target for job in jobs if job.animation is None for target in job.targets):
        check_writable(target)
        if files.format is not None and format_of(target) is not format_of(f"a.{files.format}"):
            raise ArgumentError(
                f"{target} and --format {files.format} are two formats; leave --format out"
            )
        save_options(target, WriteOptions(quality=files.quality, lossless=files.lossless))
    if report is not None:
        if identity(report) in {identity(path) for path in [*targets, *sources]}:
            raise ArgumentError(
                f"the report {report} would replace an input or output; name another file"
            )
        targets.append(report)
    for target in targets:
        if isinstance(target, UrlPath):
            check_written(target)
            continue
        with writing_errors(f"the report {target}" if target is report else target):
            if is_folder(target):
                raise OSError("it is a directory")
            check_replaceable(target)
    for folder in dict.fromkeys(target.parent for target in targets):
        if isinstance(folder, UrlPath):
            check_bucket(folder)
            continue
        place = next(place for place in (folder, *folder.parents, Path()) if os.path.lexists(place))
        if not is_folder(place):
            why = f"{place} is not a directory; for a file, name one with an ending, such as .png"
            raise ImageError(f"the directory {folder} cannot be created: {why}")
        if not is_writable(place):
            raise ImageError(
                f"the directory {place} is not writable; name another, or change its permissions"
            )
