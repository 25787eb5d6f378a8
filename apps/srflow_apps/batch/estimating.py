"""How long a batch will take on this machine, and how much room its outputs need: measured, not remembered."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_apps.batch.jobs import Settings
from srflow_sdk.base_upscaler import BaseUpscaler
from srflow_sdk.drawing.tiles import padded_size
from srflow_sdk.files import count_pixels, open_image, write_image
from srflow_sdk.system.url_paths import UrlPath

UNKNOWN_PIXELS = 1_000_000
"""The pixels that an input with a URL counts for: its header is not fetched only to be counted."""

_SIDES = (32, 64)  # of the pictures that are drawn to measure: 0.4 s in all with the embedded model on a CPU
_ENOUGH_S = 0.3  # a larger picture is not drawn if the smaller one took this long
_UNIT = 1 << 10  # a side that every scale divides well enough
_SEARCHED_PIXELS = 20_000_000  # of a larger input, the top is taken instead of the middle
_MEGA = 1e6


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The cost of drawing here, in seconds for a pixel of a tile's window, and how well outputs compress.

    encode: once for each input. sample: for each output. bytes_per_pixel: of an output file.
    """

    encode: float
    sample: float
    bytes_per_pixel: float


def measure_speed(upscaler: BaseUpscaler, source: Path, target: Path, *, settings: Settings) -> Speed:
    """Draw a piece of an input and write it to the temporary folder, in the format of `target`.

    Raises: ImageError if the input cannot be read; the errors of :meth:`Upscaler.encode` and of :func:`write_image`.
    """
    operation, manifest = settings.operation, upscaler.bundle.manifest
    multiple, enlarged = manifest.size_multiple, operation.network_size((_UNIT, _UNIT), manifest)[0]
    took, speed = 0.0, Speed(encode=0, sample=0, bytes_per_pixel=0)
    for side in _SIDES:
        if took > _ENOUGH_S:
            break
        piece = _piece(source, side * _UNIT // enlarged, max_pixels=settings.max_pixels)
        width, height = operation.network_size((piece.shape[1], piece.shape[0]), manifest)
        pixels = padded_size(height, multiple) * padded_size(width, multiple)
        answer, encoding, sampling = operation.timed(upscaler, piece)
        took = encoding + sampling
        with tempfile.TemporaryDirectory(prefix="srflow-") as folder:
            written = Path(folder) / target.name
            write_image(written, answer, quality=settings.quality, lossless=settings.lossless)
            size = written.stat().st_size
        speed = Speed(
            encode=encoding / pixels,
            sample=sampling / pixels,
            bytes_per_pixel=size / (answer.shape[0] * answer.shape[1]),
        )
    return speed


def seconds_for(upscaler: BaseUpscaler, speed: Speed, *, width: int, height: int, samples: int) -> float:
    """How long an LR image of this size will take: what its tiles' windows hold, with their halos."""
    painter = upscaler._painter
    multiple = upscaler.bundle.manifest.size_multiple
    size = padded_size(height, multiple), padded_size(width, multiple)
    windows = (tile.window for tile in painter.plan(*size, painter.core(*size)))
    return sum(window.height * window.width for window in windows) * (speed.encode + samples * speed.sample)


def weight(source: Path, *, max_pixels: int) -> int:
    """The pixels of an input, for progress; 0 if it cannot be used, :data:`UNKNOWN_PIXELS` for a URL."""
    return UNKNOWN_PIXELS if isinstance(source, UrlPath) else count_pixels(source, max_pixels=max_pixels)


def about(seconds: float) -> str:
    """A time in words: "about 12 minutes"."""
    if seconds < 90:
        return f"about {max(round(seconds), 1)} second{'s' * (round(seconds) > 1)}"
    if seconds < 5400:
        return f"about {round(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours" if seconds < 36_000 else f"about {round(seconds / 3600)} hours"


def how_much(files: int, pixels: int) -> str:
    """The inputs in words: "44 files, 310 megapixels"."""
    mega = pixels / _MEGA
    size = f"{mega:.2g}" if mega < 10 else f"{mega:.0f}"
    return f"{files} file{'s' * (files != 1)}, {size} megapixels"


def _piece(source: Path, side: int, *, max_pixels: int) -> NDArray[Any]:
    """A square from the middle of an input, as far as that has one."""
    with open_image(source, max_pixels=max_pixels) as reader:
        height, width = min(side, reader.height), min(side, reader.width)
        if reader.height * reader.width <= _SEARCHED_PIXELS:
            for start in range(0, (reader.height - height) // 2, side):
                reader.read_rows(min(side, (reader.height - height) // 2 - start))
        left = (reader.width - width) // 2
        return np.ascontiguousarray(reader.read_rows(height)[:, left : left + width])
