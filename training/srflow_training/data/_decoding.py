"""Pixels of photographs: decoded on demand, or read from a folder that keeps them, chosen here."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tokenize
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.local_files import remove_stale_parts_in, write_atomically
from srflow_training.data._folders import Photos
from srflow_training.data._images import halved, read_photo

_SHARE_OF_FREE_DISK = 0.5


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


@dataclass(frozen=True)
class DecodedCache:
    """folder: where decoded photographs are kept; None: nowhere. report: one line for the user; empty if not wanted."""

    folder: Path | None
    report: str


def choose_cache(photos: Photos, setting: str) -> DecodedCache:
    """Choose the folder for decoded photographs by `DataSettings.cache`.

    "auto" takes the user's cache folder if what is not in it yet needs at most half of the disk that is free there.
    """
    if setting == "off":
        return DecodedCache(None, "")
    files = _decoded_sizes(photos)
    total = _readable(sum(files.values()))
    if setting != "auto":
        return DecodedCache(Path(setting), f"decoded photographs: {total} in {setting}")
    folder = cache_folder("photographs")
    if folder is None:
        return DecodedCache(None, _without("this user has no cache folder"))
    remove_stale_parts_in(folder)
    missing = sum(size for name, size in files.items() if not (folder / name).exists())
    free = shutil.disk_usage(folder).free
    if missing > _SHARE_OF_FREE_DISK * free:
        why = f"they need {_readable(missing)}, more than half of the {_readable(free)} free in {folder}"
        return DecodedCache(None, _without(why))
    return DecodedCache(folder, f"decoded photographs: {total} in {folder}")


def _decoded_sizes(photos: Photos) -> dict[str, int]:
    """{name in the cache: bytes} of every photograph at each of its sizes, of its LR file and its teacher's."""
    sizes = {}
    for photo in photos.sizes:
        pixels = photo.height * photo.width
        sizes[cache_name(photo.path, photo.halvings)] = 3 * pixels
        if photo.lr is not None:
            sizes[cache_name(photo.lr, 0)] = 3 * pixels // photos.step**2
        if photo.teacher is not None:
            sizes[cache_name(photo.teacher, 0)] = 3 * pixels
    return sizes


def _without(why: str) -> str:
    return (
        f"decoded photographs are not kept, so every crop costs decoding: {why}; name a folder with data.cache=FOLDER"
    )


def _readable(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
