"""Reads from a TIFF what libvips says too late or not at all, such as EXIF and GeoTIFF's tags, and writes those.

GeoTIFF's tags say where the pixels lie on the ground; they travel with the new pixel size, so that corners stay.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from srflow_sdk.files import exif
from srflow_sdk.files.exif import ExifTags, IfdEntry, TagValue, TiffLayout

MAX_CLASSIC_BYTES = (1 << 32) - 1
"""The reach of 32-bit offsets: larger files must be BigTIFF."""

WIDTH, HEIGHT, PHOTOMETRIC, PLANAR = 256, 257, 262, 284
"""Tags of a page."""

_SUBFILE_TYPE = 254
_SQUARE = {282: "II", 283: "II", 296: "H"}  # x and y resolution and unit, all of ones: 1/1 without a unit
_REDUCED = 1
_MAX_PAGES = 100
_PIXEL_SCALE, _TIEPOINTS, _TRANSFORMATION, _KEYS, _NODATA = 33550, 33922, 34264, 34735, 42113
_TAGS = (_PIXEL_SCALE, _TIEPOINTS, _TRANSFORMATION, _KEYS, 34736, 34737, 42112, _NODATA)  # keys' numbers, texts; GDAL's
_AS_STORED = (1, 2)  # black is zero, RGB
_CHANNELS = (PHOTOMETRIC, 338)  # and what those beyond gray and RGB are
_RASTER_TYPE, _IS_POINT = 1025, 2
_MOST = 1 << 20
_DOUBLES = (_PIXEL_SCALE, _TIEPOINTS, _TRANSFORMATION, 34736)


@dataclass(frozen=True)
class GeoTags:
    """The tags of a file that has any. layout: the byte order of their values."""

    layout: TiffLayout
    tags: dict[int, TagValue] = field(default_factory=dict)

    @property
    def nodata(self) -> float | None:
        """GDAL's value of pixels without data, if the file names one."""
        with contextlib.suppress(KeyError, ValueError):
            return float(self.tags[_NODATA].data.rstrip(b"\0 ").decode())
        return None

    def enlarged(self, x: float, y: float) -> GeoTags:
        """The tags of a picture with so many times as many columns and rows, whose corners lie where they were.

        By OGC's GeoTIFF 1.1, raster coordinates begin at the first pixel's corner, or at its centre (PixelIsPoint).
        """
        shift, tags = 0.5 * self._is_point(), dict(self.tags)
        scale, points, matrix = (self._numbers(tag) for tag in _DOUBLES[:3])
        for at, times in enumerate((x, y)):
            scale[at : at + 1] = [one / times for one in scale[at : at + 1]]
            points[at::6] = [(one + shift) * times - shift for one in points[at::6]]
            for row in range(0, len(matrix) - 3, 4):
                matrix[row + 3] += matrix[row + at] * shift * (1 / times - 1)
                matrix[row + at] /= times
        for tag, numbers in zip(_DOUBLES, (scale, points, matrix), strict=False):
            if numbers:
                tags[tag] = TagValue(exif.DOUBLE, len(numbers), self.layout.pack("d" * len(numbers), *numbers))
        return GeoTags(self.layout, tags)

    def _is_point(self) -> bool:
        data = self.tags[_KEYS].data if _KEYS in self.tags else b""
        keys = self.layout.unpack("H" * (len(data) // 2), data)
        return any(keys[at] == _RASTER_TYPE and keys[at + 3] == _IS_POINT for at in range(4, len(keys) - 3, 4))

    def _numbers(self, tag: int) -> list[float]:
        value = self.tags.get(tag)
        return [] if value is None else list(self.layout.unpack("d" * value.count, value.data))


def read_geo_tags(path: Path, *, raw: bool = False) -> GeoTags | None:
    """The tags in a TIFF's first IFD, if any. raw: also what the channels are, where they are read as stored."""
    try:
        with path.open("rb") as file:
            layout, first_ifd = exif.read_header(file)
            entries, _ = exif.read_ifd(file, layout, first_ifd)
            found = {
                entry.tag: value
                for entry in entries
                if entry.tag in (*_TAGS, *_CHANNELS * raw)
                and (value := exif.read_value(file, layout, entry, max_bytes=_MOST)) is not None
                and (value.field_type == exif.DOUBLE) == (entry.tag in _DOUBLES)
            }
    except exif.IFD_ERRORS:
        return None
    if PHOTOMETRIC in found and layout.integer(found[PHOTOMETRIC].data) not in _AS_STORED:
        found = {tag: value for tag, value in found.items() if tag not in _CHANNELS}
    return GeoTags(layout, found) if found else None


def is_one_picture(path: Path) -> bool:
    """True if all pages except the first are smaller versions of another one, such as thumbnails."""
    try:
        with path.open("rb") as file:
            layout, at = exif.read_header(file)
            for page in range(_MAX_PAGES):
                entries, at = exif.read_ifd(file, layout, at)
                is_reduced = bool(_integers(layout, entries).get(_SUBFILE_TYPE, 0) & _REDUCED)
                if is_reduced != (page > 0):
                    return False
                if at == 0:
                    return True
    except exif.IFD_ERRORS:
        return False
    return False


def read_exif(path: Path) -> bytes | None:
    """An EXIF block with what a file says about its picture and how it was taken; None if it says nothing."""
    try:
        with path.open("rb") as file:
            tags = exif.read_exif_tags(file)
    except exif.IFD_ERRORS:
        return None
    return tags.to_block() if tags else None


def append_tags(
    descriptor: int, block: bytes | None, geo: GeoTags | None, *, size: tuple[int, int], is_srgb: bool
) -> bool:
    """Add EXIF and GeoTIFF's tags to a complete file by appending a copy of its first IFD with more entries.

    IFDs point to strips and values by offsets in the file, so nothing has to move. size: width and height of the
    picture. Returns False if the block cannot be parsed or the file would exceed 4 GB. Raises: OSError.
    """
    try:
        tags = ExifTags(TiffLayout("<")) if block is None else exif.exif_tags_of(block)
    except exif.IFD_ERRORS:
        return False
    if not tags and geo is None:
        return False
    with os.fdopen(os.dup(descriptor), "r+b") as file:
        layout, first_ifd = exif.read_header(file)
        old, next_ifd = exif.read_ifd(file, layout, first_ifd)
        new = tags.in_file(layout, size=size, is_srgb=is_srgb)
        end = file.seek(0, os.SEEK_END)
        at = end + end % 2
        sub_ifds, pointers = new.pack_sub_ifds(at)
        new_first = at + len(sub_ifds)
        raw: dict[int, TagValue | bytes] = {entry.tag: entry.raw for entry in old}
        if geo is not None:
            raw |= {tag: exif.with_byte_order(value, geo.layout, layout) for tag, value in geo.tags.items()}
        new_ifd = exif.pack_ifd(raw | new.tiff_ifd | pointers, layout, at=new_first, next_ifd=next_ifd)
        if not layout.is_bigtiff and new_first + len(new_ifd) > MAX_CLASSIC_BYTES:
            return False
        file.write(bytes(end % 2) + sub_ifds + new_ifd)
        file.flush()  # before the header points to it
        file.seek(layout.offset_bytes)
        file.write(layout.pack(layout.offset_format, new_first))
    return True


def forget_resolution(descriptor: int) -> None:
    """Make a complete file say that its pixels are square, instead of how many go into an inch. Raises: OSError.

    The tags stay: TIFF 6.0 requires them, and Pillow reads a missing resolution as 1 dot per inch.
    """
    with os.fdopen(os.dup(descriptor), "r+b") as file:
        layout, first_ifd = exif.read_header(file)
        for entry in exif.read_ifd(file, layout, first_ifd)[0]:
            if entry.tag in _SQUARE:
                extent = exif.value_extent(layout, entry)
                file.seek(extent[0] if extent is not None else entry.at + 4 + layout.offset_bytes)
                letters = _SQUARE[entry.tag]
                file.write(layout.pack(letters, *[1] * len(letters)))


def first_page(path: Path) -> dict[int, int]:
    """The integers in a file's first IFD by their tags, as far as that can be read."""
    try:
        with path.open("rb") as file:
            layout, first_ifd = exif.read_header(file)
            return _integers(layout, exif.read_ifd(file, layout, first_ifd)[0])
    except exif.IFD_ERRORS:
        return {}


def _integers(layout: TiffLayout, entries: list[IfdEntry]) -> dict[int, int]:
    """The first value of each entry that is an unsigned integer kept in the IFD itself."""
    values = {}
    for entry in entries:
        width = {exif.SHORT: 2, exif.LONG: 4, exif.LONG8: 8}.get(entry.field_type, 0)
        if 0 < width <= layout.offset_bytes:
            values[entry.tag] = layout.integer(entry.value_or_offset[:width])
    return values
