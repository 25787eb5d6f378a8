"""Images as callers pass them: in memory, as the path of a file, or as a file's bytes."""

from __future__ import annotations

import os
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk._checks import file_path
from srflow_sdk.errors import ImageError
from srflow_sdk.files import MAX_PIXELS, ImageFile, PathLike, read_image, spooled
from srflow_sdk.pixels.in_memory import ImageKind, InMemoryImage, Tensor, unpacked

EncodedImage = PathLike | bytes | BinaryIO
"""An image file: its path, its bytes, or a file object opened for reading in binary mode."""


def loaded(
    image: InMemoryImage | Tensor | EncodedImage, *, max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[Any], ImageKind]:
    """An image's pixels, H×W×channels, and its kind; a file is read as an 8-bit PIL image, upright.

    max_pixels: of files, width × height. Raises: ImageError if it is not an image, or a file that is too large or that
    PIL images cannot hold; ArgumentError for an empty path and for file objects in text mode.
    """
    if isinstance(image, (str, os.PathLike)):
        return unpacked(_read_eight_bit(image, max_pixels))
    if isinstance(image, (bytes, bytearray, memoryview)) or hasattr(image, "read"):
        with spooled(cast("bytes | BinaryIO", image), name="image", max_pixels=max_pixels) as path:
            return unpacked(_read_eight_bit(path, max_pixels))
    return unpacked(image)


def eight_bit_picture(file: ImageFile) -> Image.Image:
    """A file of uint8 as the PIL image that :func:`loaded` takes it for."""
    image = Image.fromarray(file.pixels[..., 0] if file.pixels.shape[2] == 1 else file.pixels)
    if file.metadata.icc_profile is not None:
        image.info["icc_profile"] = file.metadata.icc_profile
    return image


def _read_eight_bit(path: PathLike, max_pixels: int) -> Image.Image:
    file = read_image(file_path("image", path), max_pixels=max_pixels)
    if file.pixels.dtype != np.uint8:
        raise ImageError(
            f"{path}: the file holds {file.pixels.dtype}, which PIL images cannot hold; upscale it into a file: "
            "upscaler.upscale_file(path, target)"
        )
    return eight_bit_picture(file)
