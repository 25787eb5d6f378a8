"""Which file each picture of a command goes to, settled before anything runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from srflow_sdk.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class Job:
    """One input file and the files of its samples, in order."""

    source: Path
    targets: tuple[Path, ...]


def plan_outputs(inputs: Sequence[Path], out: Path, *, samples: int, directory: bool = False) -> list[Job]:
    """Name the output of every input and sample.

    out is a file if it has an ending and there is one input, else a directory; `directory` says that it is one,
    whatever its name. In a directory, `photo.jpg` becomes `photo.png`, its samples `photo_s0.png`, `photo_s1.png` …;
    the samples of a file `large.png` become `large_s0.png` …

    Raises: ArgumentError if several inputs are given one file, two inputs would write the same file, or an output is
    an input.
    """
    directory = directory or out.is_dir() or out.suffix == ""
    if len(inputs) > 1 and not directory:
        raise ArgumentError(f"{out} is one file and there are {len(inputs)} inputs; name a directory: -o {out.stem}/")
    jobs = [_job(source, out, samples=samples, directory=directory) for source in inputs]
    _refuse_shared_targets(jobs)
    _refuse_overwritten_inputs(jobs)
    return jobs


def _job(source: Path, out: Path, *, samples: int, directory: bool) -> Job:
    target = out / f"{source.stem or 'image'}.png" if directory else out
    if samples == 1:
        return Job(source=source, targets=(target,))
    names = (f"{target.stem}_s{index}{target.suffix}" for index in range(samples))
    return Job(source=source, targets=tuple(target.with_name(name) for name in names))


def _refuse_shared_targets(jobs: Sequence[Job]) -> None:
    writers: dict[str, Path] = {}
    for job in jobs:
        for target in job.targets:
            other = writers.setdefault(_identity(target), job.source)
            if other is not job.source:
                raise ArgumentError(
                    f"{other} and {job.source} would both be written to {target}; upscale them into two directories"
                )


def _refuse_overwritten_inputs(jobs: Sequence[Job]) -> None:
    sources = {_identity(job.source): job.source for job in jobs}
    for job in jobs:
        for target in job.targets:
            source = sources.get(_identity(target))
            if source is not None:
                raise ArgumentError(f"{target} would overwrite the input {source}; name another output")


def _identity(path: Path) -> str:
    """Equal for names of the same file: links are followed, and hard links recognised where the file exists."""
    try:
        status = path.stat()
    except OSError:
        return os.path.normcase(path.resolve())
    # Windows may say inode 0 for some file systems: the name is then all there is.
    return f"{status.st_dev}:{status.st_ino}" if status.st_ino else os.path.normcase(path.resolve())
