"""A user's choices about files and the machine, as dataclasses of which commands make options.

`--help` imports this module, so it imports no numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from srflow_sdk.drawing.options import option
from srflow_sdk.system.hardware import Device, Precision

if TYPE_CHECKING:
    from pathlib import Path

    from srflow_sdk.geometry.tiles import TileSize

Format = Literal["png", "jpg", "webp", "tif", "avif"]
FORMATS: tuple[Format, ...] = get_args(Format)
"""The formats that can be chosen; the first is the default."""

Pixels = int
"""A number of them, which may be written as 100M."""

Shard = tuple[int, int]
"""Part i, from 1, of n."""


@dataclass(frozen=True, kw_only=True)
class FileChoices:
    """Which files a batch reads and writes, and how; many are also keywords of
    :func:`upscale_folder`.
    """

    recursive: bool = option(False, "Include subfolders; OUT gets the same ones.", most=True)
    name: str | None = option(None, "File names in OUT.  [default: {stem}.png]", metavar="PATTERN")
    format: Format | None = option(
        None, "Format of outputs in a directory and on standard output.", most=True
    )
    quality: int | None = option(
        None, "Of lossy files.  [default: 95; AVIF: 85; clips: 67]", least=1, up_to=100
    )
    lossless: bool = option(False, "Keep every visible pixel of WebP and AVIF, as PNG and TIFF do.")
    resume: bool = option(
        False, "Skip inputs with outputs made from them with these settings.", most=True
    )
    overwrite: bool = option(
        True, "Skip inputs whose output exists, of any contents.", flag="--no-overwrite"
    )
    shard: Shard | None = option(
        None, "Process only part I of N of the inputs, one part per machine.", metavar="I/N"
    )
    report: Path | None = option(
        None, "Write a report, with PSNRs if enlarged.", metavar="FILE.json"
    )
    dry_run: bool = option(False, "Say what would be done, and write nothing.", most=True)
    from_output: Path | None = option(
        None, "Make this picture again.", metavar="SR", heading="Pictures"
    )
    ray: str | None = option(
        None,
        "Let a Ray cluster do it: this machine's, or that at host:port.",
        metavar="auto|ADDRESS",
        heading="Machines",
    )


@dataclass(frozen=True, kw_only=True)
class MachineChoices:
    """How a command uses the machine, and what it shows."""

    device: Device = option("auto", "auto: a GPU, or the CPU. cuda:1: GPU 1.")
    precision: Precision = option(
        "bundle",
        "Lower precision is faster on some processors and changes the picture slightly; fastest: "
        "measured here, once.",
    )
    threads: int | None = option(None, "CPU threads.  [default: one per core]", least=1)
    tile: TileSize = option(
        "auto", "Side of a tile; smaller ones need less memory.", metavar="auto|N|none"
    )
    max_pixels: Pixels = option(100_000_000, "Refuse larger inputs.  [default: 100M]", metavar="N")
    quiet: bool = option(False, "Print only warnings and errors.", heading="Other options")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What was chosen of the options that each command has. options: those of its operation.

    output: None puts the outputs beside the inputs. model: a bundle's path, an embedded model's
    name, or "auto"; None is "auto" for upscaling, and x4-small otherwise.
    """

    options: dict[str, Any]
    output: str | None
    model: str | None
    files: FileChoices
    machine: MachineChoices
