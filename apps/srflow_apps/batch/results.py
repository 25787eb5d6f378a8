"""The results of a batch and of its inputs, and what ends it early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from srflow_sdk.drawing.file_upscaling import FileOutput
from srflow_sdk.plain_text import without_secrets

Status = Literal["done", "skipped", "failed"]

Take = Callable[[int, "FolderFile"], None]
"""Takes what became of a job, by its number from 1."""


class EndedError(Exception):
    """The other inputs would fail, too, after all the work: the batch ends."""


class DiskFullError(EndedError):
    """The disk is full."""


class ServerLostError(EndedError):
    """The server, or Ray's raylet on this machine, is not available any more."""


@dataclass(frozen=True, kw_only=True)
class FolderFile:
    """The result of one input.

    Attributes:
        source: The input; a folder if that could not be used.
        targets: The paths of its outputs, in the order of the samples.
        status: "done", "skipped" (`resume` or `overwrite=False` left it alone) or "failed".
        error: One line, if it failed.
        outputs: What was written, if it is done.
        size: The input's width and height in pixels, if it is done.
        seconds: How long it took, if it is done.
        model: The name of the model that drew it, if it is done.
        why: What was seen in it, if the model was chosen for it.
        note: What else was decided about it, such as how it is restored.
        disk_full: True if a full disk made it fail.
        server_lost: True if a server that is not available any more made it fail.
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
    note: str | None = None
    disk_full: bool = False
    server_lost: bool = False

    @property
    def drawn_by(self) -> str:
        """A line: the model that was chosen for it, and why."""
        return f"{self.source}: {self.model} ({self.why})"


@dataclass(frozen=True, kw_only=True)
class FolderResult:
    """The result of a folder, or of several inputs.

    Attributes:
        files: In the order of the inputs, without those that were not reached.
        total: How many inputs there are.
        interrupted: True if a signal or `cancel` ended the run.
        disk_full: True if a full disk ended it.
        server_lost: True if the loss of the server, or of Ray's raylet on this machine, ended it.
    """

    files: tuple[FolderFile, ...]
    total: int
    interrupted: bool = False
    disk_full: bool = False
    server_lost: bool = False

    def count(self, status: Status) -> int:
        """How many inputs ended with this status."""
        return sum(file.status == status for file in self.files)

    @property
    def remaining(self) -> int:
        """How many inputs are neither done nor skipped."""
        return self.total - sum(file.status != "failed" for file in self.files)

    def __str__(self) -> str:
        """One line: "5 done, 2 skipped, 1 failed"."""
        return ", ".join(f"{self.count(status)} {status}" for status in get_args(Status))


def failure(source: Path, reason: str, *, targets: tuple[Path, ...] = ()) -> FolderFile:
    """The result of an input that failed. reason: becomes one line, which names the input."""
    line = without_secrets(" ".join(reason.split()))
    name = without_secrets(str(source))
    line = line if name in line else f"{name}: {line}"
    return FolderFile(source=source, targets=targets, status="failed", error=line)
