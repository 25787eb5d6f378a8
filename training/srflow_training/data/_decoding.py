"""Pixels of photographs: decoded when they are needed, or read from a folder of decoded ones."""

from __future__ import annotations

import hashlib
import io
import os
import tokenize
from pathlib import Path

import numpy as np
import numpy.typing as npt

from srflow_sdk._system.atomic import write_atomically
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_training.data._images import halved, read_photo


class Decoder:
    """Reads photographs, and keeps them decoded in a cache folder if one is named (uncompressed .npy files).

    Cached photographs are memory-mapped, so that only what is looked at is read. Their names follow from the
    photograph's path, size in bytes and time of change: a photograph that changes is decoded anew. Any number of
    processes may share the folder, and may be killed; it may be deleted whenever nothing trains.

    failure: one line on why the folder is not written any more, e.g. a full disk; empty while all is well.

    Raises: ArgumentError if the cache folder cannot be made.
    """

    def __init__(self, cache: str = "") -> None:
        self.cache = Path(cache) if cache else None
        self.failure = ""
        if self.cache:
            try:
                self.cache.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ArgumentError(
                    f"data.cache: {cache} cannot be made ({error.strerror}): name another folder"
                ) from error

    def pixels(self, path: Path, *, height: int, width: int, halvings: int = 0) -> npt.NDArray[np.uint8]:
        """height×width×3, 8-bit sRGB, upright, read-only; the size is the expected one, after the halvings.

        Raises: ImageError if the file cannot be read, or holds an image of another size.
        """
        shape = (height, width, 3)
        if self.cache is None:
            return _decoded(path, shape, halvings)
        file = self.cache / _name(path, halvings)
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
                f"data.cache: {self.cache} cannot be written ({error.strerror}): photographs that are not in it yet "
                "are decoded for every crop, which is slow; free some space and resume"
            )


def _decoded(path: Path, shape: tuple[int, int, int], halvings: int) -> npt.NDArray[np.uint8]:
    photo = read_photo(path)
    for _ in range(halvings):
        photo = halved(photo)
    if photo.shape != shape:
        raise ImageError(
            f"{path}: its pixels are {photo.shape[1]}×{photo.shape[0]} where {shape[1]}×{shape[0]} were announced: "
            "it changed meanwhile, or its orientation stands behind its pixels"
        )
    return photo


def _name(path: Path, halvings: int) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read as an image: {error}") from error
    identity = f"{status.st_size} {status.st_mtime_ns} {halvings} ".encode() + os.fsencode(path.absolute())
    return hashlib.sha256(identity).hexdigest()[:32] + ".npy"


def _mapped(file: Path, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8] | None:
    """None if the file is missing or damaged."""
    try:
        pixels = np.lib.format.open_memmap(file, mode="r")
    except (OSError, ValueError, EOFError, TypeError, SyntaxError, tokenize.TokenError):  # all seen of bad headers
        return None
    return pixels if pixels.shape == shape and pixels.dtype == np.uint8 else None
