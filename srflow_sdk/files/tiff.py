"""TIFF, where libvips says too little: EXIF, GeoTIFF's tags, how pixels and pages are stored.

They are written again, too. GeoTIFF's tags say where the pixels lie on the ground; they travel with
the new pixel size, so that corners stay.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from srflow_sdk.files import exif
from srflow_sdk.files.exif import IfdEntry, TagValue

MAX_CLASSIC_BYTES = (1 << 32) - 1
"""The reach of 32-bit offsets: larger files must be BigTIFF."""

PHOTOMETRIC = 262
PLANAR = 284
"""Tags of a page."""

_SUBFILE_TYPE = 254
# x and y resolution and unit, all of ones: 1/1 without a unit
_SQUARE = {282: "II", 283: "II", 296: "H"}
_REDUCED = 1
_MAX_PAGES = 100
_PIXEL_SCALE = 33550
_TIEPOINTS = 33922
_TRANSFORMATION = 34264
_KEYS = 34735
_NODATA = 42113
# keys' numbers, texts; GDAL's
_TAGS = (_PIXEL_SCALE, _TIEPOINTS, _TRANSFORMATION, _KEYS, 34736, 34737, 42112, _NODATA)
_AS_STORED = (1, 2)  # black is zero, RGB
_CHANNELS = (PHOTOMETRIC, 338)  # and what those beyond gray and RGB are
_RASTER_TYPE = 1025
_IS_POINT = 2
_MOST = 1 << 20
_DOUBLES = (_PIXEL_SCALE, _TIEPOINTS, _TRANSFORMATION, 34736)


@dataclass(frozen=True)
class GeoTags:
    """The tags of a file that has any."""

    tags: dict[int, TagValue] = field(default_factory=dict)

    @property
    def nodata(self) -> float | None:
        """GDAL's value of pixels without data, if the file names one."""
        with contextlib.suppress(KeyError, ValueError):
            return float(self.tags[_NODATA].data.rstrip(b"\0 ").decode())
        return None

    def enlarged(self, x: float, y: float) -> GeoTags:
        """The tags of a picture with more columns and rows, whose corners lie where they were.

        By OGC's GeoTIFF 1.1, raster coordinates begin at the first pixel's corner, or at its centre
        (PixelIsPoint).
        """
        keys = self._numbers(_KEYS, "<u2")
        is_point = any(
            keys[at] == _RASTER_TYPE and keys[at + 3] == _IS_POINT
            for at in range(4, len(keys) - 3, 4)
        )
        shift = 0.5 * is_point
        tags = dict(self.tags)
        scale, points, matrix = (self._numbers(tag, "<f8") for tag in _DOUBLES[:3])
        for at, times in enumerate((x, y)):
            scale[at : at + 1] = [one / times for one in scale[at : at + 1]]
            points[at::6] = [(one + shift) * times - shift for one in points[at::6]]
            for row in range(0, len(matrix) - 3, 4):
                matrix[row + 3] += matrix[row + at] * shift * (1 / times - 1)
                matrix[row + at] /= times
        for tag, numbers in zip(_DOUBLES, (scale, points, matrix), strict=False):
            if numbers:
                tags[tag] = TagValue(exif.DOUBLE, len(numbers), np.array(numbers, "<f8").tobytes())
        return GeoTags(tags)

    def _numbers(self, tag: int, dtype: str) -> list[Any]:
        data = self.tags[tag].data if tag in self.tags else b""
        numbers: list[Any] = np.frombuffer(data[: len(data) // 8 * 8], dtype).tolist()
        return numbers


@dataclass(frozen=True, kw_only=True)
class Tiff:
    """The contents of a file's directories, as far as they can be read.

    Attributes:
        numbers: the integers in its first IFD by their tags.
        exif: a block of what it says about the picture and how it was taken.
        geo: where the pixels lie.
        is_one_picture: whether all pages except the first are smaller versions of it.
    """

    numbers: dict[int, int] = field(default_factory=dict)
    exif: bytes | None = None
    geo: GeoTags | None = None
    is_one_picture: bool = False


def read_tiff(path: Path, *, raw: bool = False) -> Tiff:
    """Read a file's directories.

    raw: take for `geo` what the channels are, too, where they are read as stored.
    """
    contents = Tiff()
    with contextlib.suppress(*exif.IFD_ERRORS), path.open("rb") as file:
        layout, at = exif.read_header(file)
        entries, at = exif.read_ifd(file, layout, at)
        numbers = exif.integers(layout, entries)
        contents = Tiff(numbers=numbers, exif=exif.make_block(file))
        tags = {
            entry.tag: value
            for entry in entries
            if entry.tag
            in (*_TAGS, *_CHANNELS * (raw and numbers.get(PHOTOMETRIC, 1) in _AS_STORED))
            and (value := exif.read_value(file, layout, entry, max_bytes=_MOST)) is not None
            and (value.field_type == exif.DOUBLE) == (entry.tag in _DOUBLES)
        }
        contents = replace(contents, geo=GeoTags(tags) if tags else None)
        reduced = [numbers.get(_SUBFILE_TYPE, 0) & _REDUCED]
        while at and len(reduced) < _MAX_PAGES:
            entries, at = exif.read_ifd(file, layout, at)
            reduced.append(exif.integers(layout, entries).get(_SUBFILE_TYPE, 0) & _REDUCED)
        contents = replace(contents, is_one_picture=not at and not reduced[0] and all(reduced[1:]))
    return contents


def append_tags(
    descriptor: int,
    block: bytes | None,
    geo: GeoTags | None,
    *,
    size: tuple[int, int],
    is_srgb: bool,
) -> bool:
    """Append a copy of a file's first IFD with EXIF and GeoTIFF's tags.

    False if it is damaged or exceeds 4 GB.
    """
    try:
        tags = {} if block is None else exif.parse_exif_tags(block)
    except exif.IFD_ERRORS:
        return False
    if not tags and geo is None:
        return False
    with os.fdopen(os.dup(descriptor), "r+b") as file:
        layout, first_ifd = exif.read_header(file)
        old, next_ifd = exif.read_ifd(file, layout, first_ifd)
        end = file.seek(0, os.SEEK_END)
        sub_ifds, new = exif.pack_tags(
            exif.describe_picture(tags, size=size, is_srgb=is_srgb), layout, end + end % 2
        )
        new_first = end + end % 2 + len(sub_ifds)
        entries: dict[int, TagValue | IfdEntry] = {entry.tag: entry for entry in old}
        entries |= {**({} if geo is None else geo.tags), **new}
        new_ifd = exif.pack_ifd(entries, layout, at=new_first, next_ifd=next_ifd)
        if not layout.is_bigtiff and new_first + len(new_ifd) > MAX_CLASSIC_BYTES:
            return False
        file.write(bytes(end % 2) + sub_ifds + new_ifd)
        file.flush()  # before the header points to it
        file.seek(layout.offset_bytes)
        file.write(layout.pack(layout.offset_format, new_first))
    return True


def forget_resolution(descriptor: int) -> None:
    """Make a complete file say that its pixels are square.

    The tags stay, for TIFF 6.0 requires them.
    """
    with os.fdopen(os.dup(descriptor), "r+b") as file:
        layout, first_ifd = exif.read_header(file)
        for entry in exif.read_ifd(file, layout, first_ifd)[0]:
            if letters := _SQUARE.get(entry.tag):
                inside = entry.size <= layout.offset_bytes
                file.seek(
                    entry.at + 4 + layout.offset_bytes if inside else layout.integer(entry.held)
                )
                file.write(layout.pack(letters, *[1] * len(letters)))
