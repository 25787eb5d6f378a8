"""Photographs to train on: which files of a folder, at which sizes, and their pixels.

Pixels are 8-bit sRGB, upright. Of a folder only the headers are read. Pixels are decoded on demand,
or kept decoded in a cache folder.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tokenize
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from numpy.random import Generator
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.local_files import remove_stale_parts_in, write_atomically
from srflow_training.inputs import check_folder
from srflow_training.resampling import reduce_bicubic, to_8_bit
from srflow_training.settings import DataSettings

Pixels = npt.NDArray[np.uint8]
"""H×W×3, 8-bit sRGB."""

Report = Callable[[str], None]
"""Tells the user of a problem, in one line."""

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm"}
_ON_THEIR_SIDE = (5, 6, 7, 8)  # EXIF orientations whose rows are stored as columns
_16_BIT_GREY = ("I", "I;16", "I;16B")
_MOST_REPORTS = 10
_SHARE_OF_FREE_DISK = 0.5
_NOT_KEPT = (
    "photographs not yet in it are decoded for every crop, which is slow; free some space and "
    "resume, or name a folder with data.cache=FOLDER"
)


def image_files(folder: Path, *, option: str = "") -> list[Path]:
    """List image files under a folder at any depth, sorted, following links.

    Args:
        option: how the user named the folder, e.g. "--data", for the errors.

    Raises:
        ImageError: if there are none.
    """
    check_folder(folder, option=option)
    named = f"{option} {folder}".lstrip()
    files = []
    seen = set()
    for name, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(name)
        if real in seen:  # a link back to a folder already listed
            folders.clear()
            continue
        seen.add(real)
        files += [Path(name) / file for file in names]
    files = sorted(path for path in files if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not files:
        raise ImageError(
            f"{named}: no images found (looked for {', '.join(sorted(_SUFFIXES))}): name another "
            "folder"
        )
    return files


def read_photo(path: Path) -> Pixels:
    """Read H×W×3, 8-bit sRGB, upright.

    Without alpha, the upper 8 bits of 16, and only the first frame.

    Raises:
        ImageError: if the file cannot be read.
    """
    with _open_image(path) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in _16_BIT_GREY:  # Pillow would clip these at 255
            grey = (np.asarray(upright).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        return np.asarray(upright.convert("RGB"))


def size_of(path: Path) -> tuple[int, int]:
    """Read (height, width) of the upright photograph from the file's header only.

    Raises:
        ImageError.
    """
    with _open_image(path) as image:
        width, height = image.size
        # the base class's getexif, because that of PNG files decodes the pixels; TIFF sizes are
        # already upright
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
        on_its_side = image.format != "TIFF" and orientation in _ON_THEIR_SIDE
    return (width, height) if on_its_side else (height, width)


@contextmanager
def _open_image(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: cannot be read as an image: {error}") from error


def to_image(photo: Pixels) -> Tensor:
    """Convert H×W×3 uint8 to 1×3×H×W float32 in [0, 1]."""
    return from_8_bit(torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None])


def to_pixels(image: Tensor) -> Pixels:
    """Convert 1×3×H×W to H×W×3 uint8: clipped to [0, 1], and rounded."""
    pixels: Pixels = to_8_bit(image)[0].permute(1, 2, 0).contiguous().numpy()
    return pixels


def from_8_bit(levels: Tensor) -> Tensor:
    """Convert uint8 to float32 in [0, 1]."""
    return levels.float().div_(255)


Codec = Literal["JPEG", "WEBP"]


def recompress(photo: Pixels, codec: Codec, *, quality: int) -> Pixels:
    """Encode H×W×3, 8-bit sRGB, with losses as Pillow does, and decode it.

    Args:
        quality: 1 … 100.
    """
    file = io.BytesIO()
    Image.fromarray(photo).save(file, codec, quality=quality)
    return np.array(Image.open(file).convert("RGB"))


def halve(photo: Pixels) -> Pixels:
    """Halve an H×W×3 uint8 image, bicubic, in the same type.

    An odd last row or column is left out.
    """
    height, width = (size // 2 * 2 for size in photo.shape[:2])
    return to_pixels(reduce_bicubic(to_image(photo[:height, :width]), 2))


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph at one of its sizes: whole (0 halvings), halved once, twice …

    Attributes:
        path: its file.
        height, width: in pixels, upright and after the halvings.
        lr, teacher: its files in the folders of `DataSettings.lr` and `DataSettings.teacher`, if it
            has them.
    """

    path: Path
    height: int
    width: int
    halvings: int = 0
    lr: Path | None = None
    teacher: Path | None = None


def teacher_name(photo: Photo, folder: Path) -> Path:
    """The name of the teacher's picture of a photograph under folder, without a suffix.

    Those of halved photographs have a mark.
    """
    name = photo.path.relative_to(folder).with_suffix("")
    return name.with_name(f"{name.name}-halved{photo.halvings}") if photo.halvings else name


class Photos:
    """The photographs in a folder that can be trained on; `len` is their number of files.

    sizes: every file at each of its sizes (see `DataSettings.widest` and `narrowest`). step: crops
    are placed at multiples of this many pixels (the scale if files of LR images or a teacher are
    given, otherwise 1). edge: distance in pixels that crops keep from every border, for
    `DataSettings.hr_shift`.

    Only the header of each file is read, once. Files that cannot be read, are too small for a crop
    or have no matching LR file are skipped: `report` is called with one line for each of the first
    ten and one line for the rest. Later, `loader` calls it with problems found when decoding
    pixels.

    Raises:
        ImageError: if there is no image file, or none that can be used.
    """

    def __init__(
        self,
        folder: Path,
        settings: DataSettings,
        scale: int,
        report: Report,
    ) -> None:
        self.folder = folder
        self.report = report
        self.step = scale if settings.lr or settings.teacher else 1
        self.edge = -(-settings.hr_shift // self.step) * self.step
        self.sizes: list[Photo] = []
        kinds: tuple[Literal["lr", "teacher"], ...] = ("lr", "teacher")
        companions = [
            _Companions(kind, folder, Path(named), scale)
            for kind in kinds
            if (named := getattr(settings, kind))
        ]
        needed = settings.crop + 2 * self.edge
        skipped = []
        for path in image_files(folder, option="--data"):
            try:
                self.sizes += _sizes_of(path, settings, needed, companions)
            except ImageError as error:
                skipped.append(str(error))
        report_skipped(skipped, report)
        if not self.sizes:
            raise ImageError(
                f"--data {folder}: no photograph can be used; the first problem: {skipped[0]}"
            )
        self._files = len({photo.path for photo in self.sizes})
        # large photographs show more, but should not crowd out the others
        self._weights = np.cumsum([(photo.height * photo.width) ** 0.5 for photo in self.sizes])

    def __len__(self) -> int:
        return self._files

    def __getstate__(self) -> dict[str, Any]:
        """Leave out `report`: worker processes report through the main one."""
        return {**self.__dict__, "report": None}

    def draw(self, rng: Generator) -> Photo:
        """Draw a photograph at one of its sizes, by the square root of its area."""
        position = np.searchsorted(
            self._weights[:-1],
            rng.random() * self._weights[-1],
            side="right",
        )
        return self.sizes[int(position)]


def report_skipped(skipped: Sequence[str], report: Report, *, start: str = "skipped:") -> None:
    """Report a line for each of the first ten files, and one for the rest.

    Args:
        start: of every line.
    """
    for line in skipped[:_MOST_REPORTS]:
        report(f"{start} {line}")
    if len(skipped) > _MOST_REPORTS:
        report(f"{start} {len(skipped) - _MOST_REPORTS} more files for reasons like these")


def _sizes_of(
    path: Path,
    settings: DataSettings,
    needed: int,
    companions: Sequence[_Companions],
) -> list[Photo]:
    """The sizes at which a file is used. Raises: ImageError if it cannot be used."""
    height, width = size_of(path)
    sizes = [
        Photo(path, height >> halvings, width >> halvings, halvings)
        for halvings in _halvings(width, settings)
        if min(height, width) >> halvings >= needed
    ]
    if not sizes:
        why = f"{path}: {width}×{height} px is too small for crops of {needed} px"
        raise ImageError(f"{why}: lower data.crop, or leave it out")
    for files in companions:
        sizes = [files.beside(photo) for photo in sizes]
    return sizes


def _halvings(width: int, settings: DataSettings) -> Iterator[int]:
    """The number of halvings for each size at which a photograph is used, largest size first."""
    halvings = 0
    while 0 < settings.widest < width >> halvings:
        halvings += 1
    yield halvings
    while 0 < settings.narrowest <= width >> halvings + 1:
        halvings += 1
        yield halvings


@dataclass
class _Companions:
    """Files beside the photographs, of the same names: LR images, or a teacher's pictures.

    Their suffix is any. An LR image may have the scale appended (e.g. "x4"); a teacher's picture is
    named by :func:`teacher_name`, and as large as what the scale divides of its photograph.
    """

    kind: Literal["lr", "teacher"]
    hr_folder: Path
    folder: Path
    scale: int

    def __post_init__(self) -> None:
        files = image_files(self.folder, option=f"data.{self.kind}")
        self.files = {path.relative_to(self.folder).with_suffix(""): path for path in files}

    def beside(self, photo: Photo) -> Photo:
        """The photograph with its file.

        Raises:
            ImageError: if there is none or it has the wrong size.
        """
        name = teacher_name(photo, self.hr_folder)
        names = [name.with_name(f"{name.name}x{self.scale}"), name] if self.kind == "lr" else [name]
        file = next((self.files[each] for each in names if each in self.files), None)
        what = "LR image" if self.kind == "lr" else "teacher's picture"
        if file is None:
            raise ImageError(
                f"{photo.path}: no {what} {' or '.join(map(str, reversed(names)))} under "
                f"{self.folder}"
            )
        height, width = (side // self.scale for side in (photo.height, photo.width))
        if self.kind == "teacher":
            height, width = self.scale * height, self.scale * width
        if size_of(file) != (height, width):
            raise ImageError(
                f"{photo.path}: its {what} {file} is not {width}×{height} px, as of 1/{self.scale} "
                "of the photograph"
            )
        return replace(photo, lr=file) if self.kind == "lr" else replace(photo, teacher=file)


class Decoder:
    """Reads photographs, and keeps them decoded in a cache folder if one is given.

    The cache has uncompressed .npy files. Cached photographs are memory-mapped, so only the pixels
    in use are read. Their file names are derived from the photograph's path, size in bytes and
    modification time, so a changed photograph is decoded again. Any number of processes can share
    the folder and can be killed; the folder can be deleted when no training is running.

    Args:
        setting: `DataSettings.cache`.

    Attributes:
        folder: of the cache; None: there is none.
        failure: one line on why the cache is no longer written, e.g. a full disk; empty if it is.

    Raises:
        ArgumentError: if the cache folder cannot be created.
    """

    def __init__(self, setting: str = "off") -> None:
        # bytes of the disk that stay free
        self.failure = ""
        self._reserve = 0.0
        if setting == "auto":
            self.folder = cache_folder("photographs")
        else:
            self.folder = None if setting == "off" else Path(setting)
        if self.folder is None:
            if setting != "off":
                self.failure = f"data.cache: this user has no cache folder: {_NOT_KEPT}"
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArgumentError(
                f"data.cache: {self.folder} cannot be created ({error.strerror}): name another "
                "folder"
            ) from error
        if setting == "auto":
            remove_stale_parts_in(self.folder)
            self._reserve = _SHARE_OF_FREE_DISK * shutil.disk_usage(self.folder).free

    def pixels(
        self,
        path: Path,
        *,
        height: int,
        width: int,
        halvings: int = 0,
    ) -> Pixels:
        """Read height×width×3, 8-bit sRGB, upright, read-only.

        Height and width are expected after the halvings.

        Raises:
            ImageError: if the file cannot be read or its image has another size.
        """
        shape = (height, width, 3)
        if self.folder is None:
            return _decode(path, shape, halvings)
        file = self.folder / _cache_name(path, halvings)
        pixels = _map_file(file, shape)
        if pixels is None:
            pixels = _decode(path, shape, halvings)
            self._keep(file, pixels)
        return pixels

    def _keep(self, file: Path, pixels: Pixels) -> None:
        if self.failure:
            return
        content = io.BytesIO()
        np.save(content, pixels)
        try:
            if shutil.disk_usage(file.parent).free - pixels.nbytes < self._reserve:
                raise OSError(errno.ENOSPC, "half of the disk that was free is taken")
            write_atomically(file, content.getvalue())
        except OSError as error:
            self.failure = (
                f"data.cache: {self.folder} cannot be written ({error.strerror}): {_NOT_KEPT}"
            )


def _decode(path: Path, shape: tuple[int, int, int], halvings: int) -> Pixels:
    photo = read_photo(path)
    for _ in range(halvings):
        photo = halve(photo)
    if photo.shape != shape:
        raise ImageError(
            f"{path}: has {photo.shape[1]}×{photo.shape[0]} pixels, but {shape[1]}×{shape[0]} by "
            "its header: it changed during the run, or stores its orientation after its pixels"
        )
    return photo


def _cache_name(path: Path, halvings: int) -> str:
    """Name of a photograph's file in a cache.

    Raises:
        ImageError: if the photograph cannot be read.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read as an image: {error}") from error
    identity = f"{status.st_size} {status.st_mtime_ns} {halvings} ".encode() + os.fsencode(
        path.absolute()
    )
    return hashlib.sha256(identity).hexdigest()[:32] + ".npy"


def _map_file(file: Path, shape: tuple[int, int, int]) -> Pixels | None:
    """The cached pixels; None if the file is missing or damaged."""
    try:
        pixels = np.lib.format.open_memmap(file, mode="r")
    except (
        OSError,
        ValueError,
        EOFError,
        TypeError,
        SyntaxError,
        tokenize.TokenError,
    ):
        # all of these were seen with bad headers
        return None
    if pixels.shape != shape or pixels.dtype != np.uint8:
        return None
    return pixels.view(np.ndarray)  # slicing a memmap takes ten times as long
