"""Pixels of photographs: decoded on demand, or read from a cache folder."""

from __future__ import annotations

import hashlib
import io
import os
import tokenize
from pathlib import Path

import numpy as np
import numpy.typing as npt

from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.system.local_files import write_atomically
from srflow_training.data._images import halved, read_photo


class Decoder:
    """Reads photographs, and keeps them decoded in a cache folder if one is given (uncompressed .npy files).

    Cached photographs are memory-mapped, so only the pixels in use are read. Their file names are derived from the
    photograph's path, size in bytes and modification time, so a changed photograph is decoded again. Any number of
    processes can share the folder and can be killed; the folder can be deleted when no training is running.

    failure: one line on why the cache is no longer written, e.g. a full disk; empty if it is.

    Raises: ArgumentError if the cache folder cannot be created.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache
        self.failure = ""
        if self.cache:
            try:
                self.cache.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ArgumentError(
                    f"data.cache: {cache} cannot be created ({error.strerror}): name another folder"
                ) from error

    def pixels(self, path: Path, *, height: int, width: int, halvings: int = 0) -> npt.NDArray[np.uint8]:
        """Read height×width×3, 8-bit sRGB, upright, read-only; height and width are expected after the halvings.

        Raises: ImageError if the file cannot be read or its image has another size.
        """
        shape = (height, width, 3)
        if self.cache is None:
            return _decoded(path, shape, halvings)
        file = self.cache / cache_name(path, halvings)
        pixels = _mapped(file, shape)
        if pixels is None:
            pixels = _decoded(path, shape, halvings)
            self._keep(file, pixels)
        return pixels

    def _keep(self, file: Path, pixels: npt.NDArray[np.uint8]) -> None:
        if self.failure:
            return
        content = io.BytesIO()
        np.save(content, pixels)
        try:
            write_atomically(file, content.getvalue())
        except OSError as error:
            self.failure = (
                f"data.cache: {self.cache} cannot be written ({error.strerror}): photographs not yet in it "
                "are decoded for every crop, which is slow; free some space and resume"
            )


def _decoded(path: Path, shape: tuple[int, int, int], halvings: int) -> npt.NDArray[np.uint8]:
    photo = read_photo(path)
    for _ in range(halvings):
        photo = halved(photo)
    if photo.shape != shape:
        raise ImageError(
            f"{path}: has {photo.shape[1]}×{photo.shape[0]} pixels, but {shape[1]}×{shape[0]} by its header: "
            "it changed during the run, or stores its orientation after its pixels"
        )
    return photo


def cache_name(path: Path, halvings: int) -> str:
    """Name of a photograph's file in a cache. Raises: ImageError if the photograph cannot be read."""
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read as an image: {error}") from error
    identity = f"{status.st_size} {status.st_mtime_ns} {halvings} ".encode() + os.fsencode(path.absolute())
    return hashlib.sha256(identity).hexdigest()[:32] + ".npy"


def _mapped(file: Path, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8] | None:
    """The cached pixels; None if the file is missing or damaged."""
    try:
        pixels = np.lib.format.open_memmap(file, mode="r")
    except (OSError, ValueError, EOFError, TypeError, SyntaxError, tokenize.TokenError):  # all seen with bad headers
        return None
    if pixels.shape != shape or pixels.dtype != np.uint8:
        return None
    return pixels.view(np.ndarray)  # slicing a memmap takes ten times as long
