"""The settings of a batch's jobs, and their results. All of it can be pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from srflow_apps.batch.operations import Operation, Upscaling
from srflow_sdk.drawing.file_upscaling import FileOutput
from srflow_sdk.files import WriteOptions
from srflow_sdk.system.device_names import BUNDLE

Status = Literal["done", "skipped", "failed"]


Recorded = Mapping[str, tuple[int, str]]
"""Lengths in bytes and sha256 of files that were written, by their paths."""


@dataclass(frozen=True, kw_only=True)
class Settings(WriteOptions):
    """The operation on every file, and how files are read and written. Raises: ArgumentError.

    resume: skip inputs whose outputs all exist and were made from the same file with these settings; quality and
    lossless do not count.
    overwrite: replace files that exist; otherwise inputs with such an output are skipped.
    beside: nobody named the outputs, so that an input fails rather than that it replaces a file.
    recorded: what an earlier report says about outputs; `resume` holds them to it.
    """

    operation: Operation = field(default_factory=Upscaling)
    resume: bool = False
    overwrite: bool = True
    beside: bool = False
    recorded: Recorded = field(default_factory=dict)

    @property
    def writing(self) -> dict[str, Any]:
        """The keywords of :meth:`Upscaler.upscale_file` for how files are read and written."""
        return {each.name: getattr(self, each.name) for each in fields(WriteOptions)}


@dataclass(frozen=True, kw_only=True)
class FolderFile:
    """The result of one input.

    source: the input; a folder if that could not be used.
    targets: the paths of its outputs, in the order of the samples.
    status: "done", "skipped" (`resume` or `overwrite=False` left it alone) or "failed".
    error: one line, if it failed.
    outputs, size, seconds, model: if it is done; size is the input's width and height in pixels, model a name.
    why: what was seen in it, if the model was chosen for it.
    disk_full, server_lost: True if that made it fail.
    """

    source: Path
    targets: tuple[Path, ...]
    status: Status
    error: str | None = None
    outputs: tuple[FileOutput, ...] = ()
    size: tuple[int, int] | None = None
    seconds: float | None = None
    model: str | None = None
    why: str | None = None
    disk_full: bool = False
    server_lost: bool = False


@dataclass(frozen=True, kw_only=True)
class FolderResult:
    """The result of a folder, or of several inputs.

    files: in the order of the inputs, without those that were not reached.
    total: how many inputs there are.
    interrupted: True if a signal or `cancel` ended the run.
    disk_full, server_lost: True if a full disk, or a server that is not available any more, ended it; on a Ray cluster,
    the death of its raylet on this machine.
    unread: how many images were left out because their formats are not read, by the formats' names.
    device, precision: what they were drawn on, such as "cpu", and what its encoder computed in, "bundle", "bf16" or
    "int8"; on a cluster, of the last file that ended.
    """

    files: tuple[FolderFile, ...]
    total: int
    interrupted: bool = False
    disk_full: bool = False
    server_lost: bool = False
    unread: Mapping[str, int] = field(default_factory=dict)
    device: str = ""
    precision: str = BUNDLE

    def count(self, status: Status) -> int:
        """How many inputs ended with this status."""
        return sum(file.status == status for file in self.files)

    @property
    def remaining(self) -> int:
        """How many inputs are neither done nor skipped."""
        return self.total - self.count("done") - self.count("skipped")

    def __str__(self) -> str:
        """One line: "5 done, 2 skipped, 1 failed"."""
        return ", ".join(f"{self.count(status)} {status}" for status in ("done", "skipped", "failed"))
