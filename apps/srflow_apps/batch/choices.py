"""A user's choices about files and the machine, as dataclasses of which commands make options.

Their fields' metadata is as in :mod:`srflow_sdk.drawing.options`; "heading" is that of an option in another group of
the help. `--help` imports this module, so it imports no numpy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from srflow_sdk.system.device_names import Device, Precision

if TYPE_CHECKING:
    from pathlib import Path

    from srflow_apps.batch.plan import Shard
    from srflow_sdk.drawing.tiles import TileSize

Format = Literal["png", "jpg", "webp", "tif", "avif"]
FORMATS: tuple[Format, ...] = get_args(Format)
"""The formats that can be chosen; the first is the default."""

Pixels = int
"""A number of them, which may be written as 100M."""


@dataclass(frozen=True, kw_only=True)
class FileChoices:
    """Which files a batch reads and writes, and how; up to `report` also keywords of :func:`upscale_folder`."""

    recursive: bool = field(
        default=False, metadata={"help": "Include subfolders; OUT gets the same ones.", "most": True}
    )
    name: str | None = field(
        default=None, metadata={"metavar": "PATTERN", "help": "File names in OUT.  [default: {stem}.png]"}
    )
    format: Format | None = field(
        default=None,
        metadata={"help": "Format of outputs in a directory and on standard output.", "most": True},
    )
    quality: int | None = field(
        default=None,
        metadata={"least": 1, "up_to": 100, "help": "Of lossy files.  [default: 95; AVIF: 85; clips: 67]"},
    )
    lossless: bool = field(
        default=False, metadata={"help": "Keep every visible pixel of WebP and AVIF, as PNG and TIFF do."}
    )
    resume: bool = field(
        default=False,
        metadata={"help": "Skip inputs with outputs made from them with these settings.", "most": True},
    )
    overwrite: bool = field(
        default=True,
        metadata={"flag": "--no-overwrite", "help": "Skip inputs whose output exists, of any contents."},
    )
    shard: Shard | None = field(
        default=None,
        metadata={"metavar": "I/N", "help": "Process only part I of N of the inputs, one part per machine."},
    )
    report: Path | None = field(
        default=None, metadata={"metavar": "FILE.json", "help": "Write a report, with PSNRs if enlarged."}
    )
    dry_run: bool = field(
        default=False,
        metadata={"help": "Say what would be done, how long it would take, and write nothing.", "most": True},
    )
    from_output: Path | None = field(
        default=None, metadata={"metavar": "SR", "help": "Make this picture again.", "heading": "Pictures"}
    )
    frame: int | None = field(
        default=None, metadata={"least": 1, "metavar": "N", "help": "Which frame of an animation, or page of a TIFF."}
    )
    ray: str | None = field(
        default=None,
        metadata={
            "metavar": "auto|ADDRESS",
            "help": "Let a Ray cluster do it: this machine's, or that at host:port.",
            "heading": "Machines",
        },
    )
    ray_workers: int | None = field(
        default=None,
        metadata={
            "least": 1,
            "help": "Workers of --ray.  [default: as many as there is room for]",
            "heading": "Machines",
        },
    )
    ray_gpus: float | None = field(
        default=None,
        metadata={
            "least": 0,
            "up_to": 64,
            "metavar": "F",
            "help": "GPUs of each worker.  [default: 1 if there are any]",
            "heading": "Machines",
        },
    )


@dataclass(frozen=True, kw_only=True)
class MachineChoices:
    """How a command uses the machine, and what it shows."""

    device: Device = field(default="auto", metadata={"help": "auto: a GPU, or the CPU. cuda:1: GPU 1."})
    precision: Precision = field(
        default="bundle",
        metadata={
            "help": "Lower precision is faster on some processors and changes the picture slightly; fastest: measured "
            "here, once."
        },
    )
    threads: int | None = field(default=None, metadata={"least": 1, "help": "CPU threads.  [default: one per core]"})
    tile: TileSize = field(
        default="auto",
        metadata={"metavar": "auto|N|none", "help": "Side of a tile; smaller ones need less memory."},
    )
    max_pixels: Pixels = field(
        default=100_000_000, metadata={"metavar": "N", "help": "Refuse larger inputs.  [default: 100M]"}
    )
    quiet: bool = field(default=False, metadata={"help": "Print only warnings and errors.", "heading": "Other options"})
