"""Read image files for training: 8-bit sRGB, upright."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from srflow_sdk.errors import ImageError
from srflow_training._inputs import check_folder
from srflow_training.resampling import reduce_bicubic

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm"}
_ON_THEIR_SIDE = (5, 6, 7, 8)  # EXIF orientations whose rows are stored as columns
_16_BIT_GREY = ("I", "I;16", "I;16B")


def image_files(folder: Path, *, option: str = "") -> list[Path]:
    """List image files under a folder at any depth, sorted, following links. Raises: ImageError if there are none.

    option: how the user named the folder, e.g. "--data", for the errors.
    """
    check_folder(folder, option=option)
    named = f"{option} {folder}".lstrip()
    files, seen = [], set()
    for name, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(name)
        if real in seen:  # a link back to a folder already listed
            folders.clear()
            continue
        seen.add(real)
        files += [path for path in (Path(name) / file for file in names) if path.suffix.lower() in _SUFFIXES]
    files = sorted(path for path in files if path.is_file())
    if not files:
        raise ImageError(f"{named}: no images found (looked for {', '.join(sorted(_SUFFIXES))}): name another folder")
    return files


def read_photo(path: Path) -> npt.NDArray[np.uint8]:
    """Read H×W×3, 8-bit sRGB, upright: without alpha, the upper 8 bits of 16, and only the first frame.

    Raises: ImageError if the file cannot be read.
    """
    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in _16_BIT_GREY:  # Pillow would clip these at 255
            grey = (np.asarray(upright).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        return np.asarray(upright.convert("RGB"))


def size_of(path: Path) -> tuple[int, int]:
    """Read (height, width) of the upright photograph from the file's header only. Raises: ImageError."""
    with _opened(path) as image:
        width, height = image.size
        # the base class's getexif, because that of PNG files decodes the pixels; TIFF sizes are already upright
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
        on_its_side = image.format != "TIFF" and orientation in _ON_THEIR_SIDE
    return (width, height) if on_its_side else (height, width)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: cannot be read as an image: {error}") from error


def to_image(photo: npt.NDArray[np.uint8]) -> Tensor:
    """Convert H×W×3 uint8 to 1×3×H×W float32 in [0, 1]."""
    return of_8_bit(torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None])


def of_8_bit(levels: Tensor) -> Tensor:
    """Convert uint8 to float32 in [0, 1]."""
    return levels.float().div_(255)


def coded(photo: npt.NDArray[np.uint8], codec: Literal["JPEG", "WEBP"], *, quality: int) -> npt.NDArray[np.uint8]:
    """Encode H×W×3, 8-bit sRGB, with losses as Pillow does, and decode it. quality: 1 … 100."""
    file = io.BytesIO()
    Image.fromarray(photo).save(file, codec, quality=quality)
    return np.array(Image.open(file).convert("RGB"))


def halved(photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Halve an H×W×3 uint8 image, bicubic, in the same type; an odd last row or column is left out."""
    height, width = (size // 2 * 2 for size in photo.shape[:2])
    small = (reduce_bicubic(to_image(photo[:height, :width]), 2).clamp(0, 1) * 255).round().to(torch.uint8)
    return small[0].permute(1, 2, 0).contiguous().numpy()
