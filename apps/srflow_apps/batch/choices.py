"""A user's choices about files and the machine. Imports nothing heavy, since --help needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from pathlib import Path

    from srflow_apps.batch.plan import Shard
    from srflow_sdk.drawing.tiles import TileSize
    from srflow_sdk.system.device_names import Device, Precision

Format = Literal["png", "jpg", "webp", "tif", "avif"]
FORMATS: tuple[Format, ...] = get_args(Format)
"""The formats that can be chosen; the first is the default."""


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """Which files a batch reads and writes, and how: keywords of :func:`srflow_sdk.upscale_folder`."""

    recursive: bool = False
    name: str | None = None
    format: Format | None = None
    quality: int | None = None
    lossless: bool = False
    resume: bool = False
    overwrite: bool = True
    shard: Shard | None = None
    report: Path | None = None

    @property
    def ending(self) -> str:
        """The ending of a picture whose name does not set a format."""
        return f".{self.format or FORMATS[0]}"


@dataclass(frozen=True, kw_only=True)
class FileChoices(FileOptions):
    """The other choices of a command about files."""

    dry_run: bool = False
    from_output: Path | None = None
    frame: int | None = None
    ray: str | None = None
    ray_workers: int | None = None
    ray_gpus: float | None = None


@dataclass(frozen=True, kw_only=True)
class MachineChoices:
    """How a command uses the machine, and what it shows."""

    tile: TileSize
    max_pixels: int
    device: Device
    precision: Precision
    threads: int | None
    quiet: bool
