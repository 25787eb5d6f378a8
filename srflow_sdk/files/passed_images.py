"""Images as callers pass them: in memory, as a file's path, or as its bytes."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk._checks import file_path
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files.formats import MAX_PIXELS, RAISE_LIMIT, PathLike
from srflow_sdk.files.reading import ImageFile, read_image
from srflow_sdk.pixels.in_memory import ImageKind, InMemoryImage, Layout, Tensor, unpacked

_CHUNK_BYTES = 1 << 20
_BYTES_PER_PIXEL = 16  # RGB with alpha as float32, uncompressed
_METADATA_BYTES = 64 << 20

EncodedImage = PathLike | bytes | BinaryIO
"""An image file: its path, its bytes, or a file object opened for reading in binary mode."""

AnyImage = InMemoryImage | Tensor | EncodedImage


def load_image(image: AnyImage, *, layout: Layout = "hwc") -> tuple[NDArray[Any], ImageKind]:
    """An image's pixels, H×W×channels, and its kind.

    A file is read as an 8-bit PIL image, upright.
    """
    with as_path_or_picture(image) as source:
        if isinstance(source, (str, os.PathLike)):
            file = read_image(file_path("image", source))
            if file.pixels.dtype != np.uint8:
                fix = "upscale it into a file: upscaler.upscale_file(path, target)"
                raise ImageError(
                    f"{source}: the file holds {file.pixels.dtype}, which PIL images cannot hold; "
                    f"{fix}"
                )
            source = eight_bit_picture(file)
        return unpacked(source, layout=layout)


@contextlib.contextmanager
def as_path_or_picture(
    image: AnyImage, *, max_pixels: int = MAX_PIXELS
) -> Iterator[InMemoryImage | Tensor | PathLike]:
    """Let an image be read more than once: bytes and file objects become a file.

    See :func:`spooled`.
    """
    if isinstance(image, (bytes, bytearray, memoryview)) or (
        hasattr(image, "read") and not isinstance(image, os.PathLike)
    ):
        with spooled(cast("bytes | BinaryIO", image), name="image", max_pixels=max_pixels) as path:
            yield path
    else:
        yield image


@contextlib.contextmanager
def spooled(
    picture: bytes | BinaryIO, *, name: str, max_pixels: int = MAX_PIXELS
) -> Iterator[Path]:
    """The path of a temporary file with a picture's bytes.

    Errors of the block give its bare name, not the path.
    """
    source = io.BytesIO(picture) if isinstance(picture, (bytes, bytearray, memoryview)) else picture
    room = limit = max_pixels * _BYTES_PER_PIXEL + _METADATA_BYTES
    with tempfile.TemporaryDirectory(prefix="srflow-") as folder:
        path = Path(folder) / name
        try:
            with path.open("wb") as file:
                while chunk := source.read(_CHUNK_BYTES):
                    if not isinstance(chunk, bytes):
                        raise ArgumentError(
                            f"{name} is read as text; open its file in binary mode: open(path, "
                            '"rb")'
                        )
                    if (room := room - len(chunk)) < 0:
                        raise ImageError(f"{name}: over {limit:,} bytes; {RAISE_LIMIT}")
                    file.write(chunk)
        except OSError as error:
            where = tempfile.gettempdir()
            why = error.strerror or error
            raise ImageError(
                f"{name} cannot be copied to {where}: {why}; TMPDIR names another folder"
            ) from error
        try:
            yield path
        except ImageError as error:
            raise ImageError(str(error).replace(str(path), name)) from error


def eight_bit_picture(file: ImageFile) -> Image.Image:
    """A file of uint8 as the PIL image that :func:`load_image` takes it for."""
    image = Image.fromarray(file.pixels[..., 0] if file.pixels.shape[2] == 1 else file.pixels)
    if file.metadata.icc_profile is not None:
        image.info["icc_profile"] = file.metadata.icc_profile
    return image
