"""The photographs in a folder, of which only the headers are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from srflow_sdk.errors import ImageError
from srflow_training.data._images import image_files, size_of
from srflow_training.settings import DataSettings

_MOST_REPORTS = 10


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph at one of its sizes: whole (0 halvings), halved once, twice …

    path: its file. height, width: in pixels, upright and after the halvings. lr, teacher: its files in the folders of
    `DataSettings.lr` and `DataSettings.teacher`, if it has them.
    """

    path: Path
    height: int
    width: int
    halvings: int = 0
    lr: Path | None = None
    teacher: Path | None = None


def teacher_name(photo: Photo, folder: Path) -> Path:
    """The name of the teacher's picture of a photograph under folder, without a suffix: halved ones have a mark."""
    name = photo.path.relative_to(folder).with_suffix("")
    return name.with_name(f"{name.name}-halved{photo.halvings}") if photo.halvings else name


class Photos:
    """The photographs in a folder that can be trained on; `len` is their number of files.

    sizes: every file at each of its sizes (see `DataSettings.widest` and `narrowest`). step: crops are placed
    at multiples of this many pixels (the scale if files of LR images or a teacher are given, otherwise 1). edge:
    distance in pixels that crops keep from every border, for `DataSettings.hr_shift`.

    Only the header of each file is read, once. Files that cannot be read, are too small for a crop or have no
    matching LR file are skipped: `report` is called with one line for each of the first ten and one line for the
    rest. Later, `loader` calls it with problems found when decoding pixels.

    Raises: ImageError if there is no image file, or none that can be used.
    """

    def __init__(self, folder: Path, settings: DataSettings, scale: int, report: Callable[[str], None]) -> None:
        self.folder = folder
        self.report = report
        self.step = scale if settings.lr or settings.teacher else 1
        self.edge = -(-settings.hr_shift // self.step) * self.step
        self.sizes: list[Photo] = []
        companions = [_LRFiles(folder, Path(settings.lr), scale)] if settings.lr else []
        companions += [_TeacherFiles(folder, Path(settings.teacher), scale)] if settings.teacher else []
        needed = max(settings.crop, settings.late_crop) + 2 * self.edge
        skipped, too_small = [], False
        for path in image_files(folder, option="--data"):
            try:
                self.sizes += _sizes_of(path, settings, needed, companions)
            except ImageError as error:
                skipped.append(str(error))
                too_small |= isinstance(error, _TooSmallError)
        report_skipped(skipped, report)
        if not self.sizes and too_small:
            raise ImageError(
                f"--data {folder}: no photograph is at least {needed} px high and wide: "
                "lower data.crop or add larger ones"
            )
        if not self.sizes:
            raise ImageError(f"--data {folder}: no photograph can be used; the first problem: {skipped[0]}")
        self._files = len({photo.path for photo in self.sizes})
        # large photographs show more, but should not crowd out the others
        self._weights = np.cumsum([(photo.height * photo.width) ** 0.5 for photo in self.sizes])

    def __len__(self) -> int:
        return self._files

    def __getstate__(self) -> dict[str, Any]:
        """Leave out `report`: worker processes report through the main one."""
        return {**self.__dict__, "report": None}

    def draw(self, rng: np.random.Generator) -> Photo:
        """Draw a photograph at one of its sizes, with probability proportional to the square root of its area."""
        position = np.searchsorted(self._weights[:-1], rng.random() * self._weights[-1], side="right")
        return self.sizes[int(position)]


def report_skipped(skipped: Sequence[str], report: Callable[[str], None], *, start: str = "skipped:") -> None:
    """Report a line for each of the first ten files, and one for the rest; start: of every line."""
    for line in skipped[:_MOST_REPORTS]:
        report(f"{start} {line}")
    if len(skipped) > _MOST_REPORTS:
        report(f"{start} {len(skipped) - _MOST_REPORTS} more files for reasons like these")


class _TooSmallError(ImageError):
    """A photograph is too small for a crop at all of its sizes."""


def _sizes_of(path: Path, settings: DataSettings, needed: int, companions: Sequence[_LRFiles]) -> list[Photo]:
    """The sizes at which a file is used. Raises: ImageError if it cannot be used."""
    height, width = size_of(path)
    sizes = [
        Photo(path, height >> halvings, width >> halvings, halvings)
        for halvings in _halvings(width, settings)
        if min(height, width) >> halvings >= needed
    ]
    if not sizes:
        raise _TooSmallError(f"{path}: {width}×{height} px is too small for crops of {needed} px")
    for files in companions:
        sizes = [files.beside(photo) for photo in sizes]
    return sizes


def _halvings(width: int, settings: DataSettings) -> Iterator[int]:
    """The number of halvings for each size at which a photograph of this width is used, largest size first."""
    halvings = 0
    while 0 < settings.widest < width >> halvings:
        halvings += 1
    yield halvings
    while 0 < settings.narrowest <= width >> halvings + 1:
        halvings += 1
        yield halvings


class _LRFiles:
    """Finds LR files: named like the HR file, or with the scale appended (e.g. "x4"), with any suffix."""

    option = "data.lr"

    def __init__(self, hr_folder: Path, folder: Path, scale: int) -> None:
        self.hr_folder, self.folder, self.scale = hr_folder, folder, scale
        files = image_files(folder, option=self.option)
        self.files = {path.relative_to(folder).with_suffix(""): path for path in files}

    def beside(self, photo: Photo) -> Photo:
        """The photograph with its file. Raises: ImageError if there is none or it has the wrong size."""
        name = photo.path.relative_to(self.hr_folder).with_suffix("")
        marked = name.with_name(f"{name.name}x{self.scale}")
        lr = self.files.get(marked) or self.files.get(name)
        if lr is None:
            raise ImageError(f"{photo.path}: no LR image {name} or {marked} under {self.folder}")
        height, width = size_of(lr)
        expected = photo.height // self.scale, photo.width // self.scale
        if (height, width) != expected:
            raise ImageError(
                f"{photo.path}: its LR image {lr} is {width}×{height} px; "
                f"1/{self.scale} of the photograph is {expected[1]}×{expected[0]} px"
            )
        return replace(photo, lr=lr)


class _TeacherFiles(_LRFiles):
    """Finds a teacher's pictures: named by :func:`teacher_name`, as large as what the scale divides of a photograph."""

    option = "data.teacher"

    def beside(self, photo: Photo) -> Photo:
        """The photograph with its picture. Raises: ImageError if there is none or it has the wrong size."""
        name = teacher_name(photo, self.hr_folder)
        if name not in self.files:
            raise ImageError(f"{photo.path}: no teacher's picture {name} under {self.folder}: make it, or leave it out")
        height, width = (side // self.scale * self.scale for side in (photo.height, photo.width))
        if size_of(self.files[name]) != (height, width):
            raise ImageError(
                f"{photo.path}: its teacher's picture {self.files[name]} is not {width}×{height} px: "
                f"make it of the photograph's reduction to 1/{self.scale}"
            )
        return replace(photo, teacher=self.files[name])
