"""Pictures as the page shows them: data URLs, so that nothing is written to disk, and colours of a deviation."""

from __future__ import annotations

import base64
import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk.errors import ImageError
from srflow_sdk.files import ImageReader, libvips, open_image, read_image
from srflow_sdk.pixels.in_memory import from_unit, to_unit

_HEAT = ((0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))
"""Dark to bright, evenly spaced."""

_SEARCHED_PIXELS = 2_000_000


def data_url(picture: NDArray[np.uint8]) -> str:
    """An H×W×C picture as a PNG within a URL. Lossless; compressed lightly, which takes 5 ms for 256×256."""
    file = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).save(file, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def heat(deviation: NDArray[np.float32], *, brightest: float) -> NDArray[np.uint8]:
    """A deviation, H×W in [0, 1], as colours: black is 0, light yellow is `brightest` and above."""
    place = np.clip(deviation / max(brightest, 1e-9), 0, 1) * (len(_HEAT) - 1)
    channels = [np.interp(place, np.arange(len(_HEAT)), channel) for channel in zip(*_HEAT, strict=True)]
    return np.asarray(np.rint(np.stack(channels, axis=-1)), np.uint8)


def busiest(values: NDArray[Any], height: int, width: int) -> tuple[int, int]:
    """Top and left of the rectangle of this size with the largest sum of `values`, H×W, or of all if it is larger."""
    height, width = (max(1, min(size, whole)) for size, whole in zip((height, width), values.shape, strict=True))
    above = np.pad(values.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))  # sums of what is above and left
    rows = above[height:] - above[:-height]
    place = np.argmax(rows[:, width:] - rows[:, :-width])
    top, left = divmod(int(place), values.shape[1] - width + 1)
    return top, left


def most_detailed(pixels: NDArray[Any], side: int) -> tuple[int, int]:
    """Top and left of the square of a picture, H×W×C, whose neighbouring pixels differ most. Alpha, if any, is last.

    Only every n-th row of a large picture is looked at.
    """
    height, width, channels = pixels.shape
    every = -(-height * width // _SEARCHED_PIXELS)

    def seen(part: NDArray[Any]) -> NDArray[np.float32]:
        green = part[..., channels // 3].astype(np.float32)
        return green * (part[..., -1] > 0) if channels in (2, 4) else green

    rows, below = seen(pixels[: height - 1 : every]), seen(pixels[1::every])
    steps = np.abs(below - rows)[:, :-1] + np.abs(np.diff(rows, axis=1))
    if not steps.size:
        return 0, 0
    top, left = busiest(steps, side // every, side)
    return top * every, left


def preview(path: Path, *, most: int, size: str = "down", **how: Any) -> tuple[NDArray[np.uint8], int]:
    """A picture file in 8-bit sRGB, H×W×C, reduced to `most` pixels of its longer side; and the file's own width.

    size, how: as of libvips' thumbnail_image, for other sizes. Raises: ImageError.
    """
    with _reduced(path, most, size=size, export_profile="srgb", **how) as (small, reader):
        image = small.colourspace("srgb").cast("uchar")
        return np.frombuffer(image.write_to_memory(), np.uint8).reshape(image.height, image.width, -1), reader.width


def fitted(path: Path, target: Path, width: int, height: int) -> None:
    """Write a picture's middle, enlarged or reduced to width×height, as a PNG. Raises: ImageError."""
    with _reduced(path, width, height=height, crop="centre") as (small, _):
        small.write_to_file(str(target))


def size_of(path: Path, *, max_pixels: int) -> tuple[int, int]:
    """Width and height of a picture file, upright. Raises: ImageError."""
    with open_image(path, max_pixels=max_pixels) as reader:
        return reader.width, reader.height


def mask_from(path: Path) -> Image.Image | None:
    """The mask that the page drew, a gray picture; None if nothing is selected. Raises: ImageError if it is none."""
    drawn = from_unit(to_unit(read_image(path, max_pixels=1 << 24).pixels[..., 0]), np.dtype(np.uint8))
    return Image.fromarray(drawn) if drawn.max() >= 128 else None


@contextlib.contextmanager
def _reduced(path: Path, width: int, **options: Any) -> Iterator[tuple[Any, ImageReader]]:
    """A picture file, reduced or enlarged by libvips, and its reader, which alone chooses what decodes it.

    Its size has been checked, or it is the model's, and 16 times as large as what was.
    """
    try:
        with open_image(path, max_pixels=sys.maxsize) as reader:
            yield reader._image.thumbnail_image(width, **options), reader
    except libvips.pyvips().Error as error:
        raise ImageError(f"{path} cannot be used: {libvips.reason(error)}; try another file") from error
