"""What a user chose on the command line. Imports nothing heavy, since --help needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from srflow_apps.batch.output_names import Shard
    from srflow_apps.batch.plan import Format
    from srflow_sdk.drawing.tiles import TileSize
    from srflow_sdk.system.device_names import Device, Precision

FORMATS = ("png", "jpg", "webp", "tif", "avif")
"""The formats that can be chosen; the first is the default."""


@dataclass(frozen=True, kw_only=True)
class FileChoices:
    """Which files a command reads and writes, and how."""

    recursive: bool
    name: str | None
    format: Format | None
    quality: int | None
    lossless: bool
    resume: bool
    no_overwrite: bool
    dry_run: bool
    shard: Shard | None
    report: Path | None
    from_output: Path | None
    ray: str | None
    ray_workers: int | None
    ray_gpus: float | None

    @property
    def ending(self) -> str:
        """The ending of a picture whose name does not set a format."""
        return f".{self.format or FORMATS[0]}"


@dataclass(frozen=True, kw_only=True)
class MachineChoices:
    """How a command uses the machine, and what it shows."""

    tile: TileSize
    max_pixels: int
    device: Device
    precision: Precision
    threads: int | None
    quiet: bool
