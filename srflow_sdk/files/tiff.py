"""Reads from a TIFF what libvips says too late or not at all: its sizes, its pages, its EXIF.

Pillow cannot add tags to an existing file: its IFD shifts the strip offsets when it is written (see ifd.py).
"""

from __future__ import annotations

import os
from pathlib import Path

from srflow_sdk.files.metadata import ifd
from srflow_sdk.files.metadata.exif import ExifTags, exif_tags_of, read_exif_tags
from srflow_sdk.files.metadata.geo import GeoTags
from srflow_sdk.files.metadata.ifd import IfdEntry, TagValue, TiffLayout

MAX_CLASSIC_BYTES = (1 << 32) - 1
"""The reach of 32-bit offsets: larger files must be BigTIFF."""

_SUBFILE_TYPE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _PLANAR_CONFIGURATION = 254, 256, 257, 262, 284
_SQUARE = {282: "II", 283: "II", 296: "H"}  # x and y resolution and unit, all of ones: 1/1 without a unit
_REDUCED, _SEPARATE = 1, 2
_MAX_PAGES = 100


def claimed_size(path: Path) -> tuple[int, int]:
    """Width and height in a file's first IFD, 0 if unknown: libvips complains about absurd ones on standard error."""
    values = _first_page(path)
    return values.get(_WIDTH, 0), values.get(_HEIGHT, 0)


def is_planar(path: Path) -> bool:
    """True if a file's channels are stored one after another.

    libvips 8.18 mixes up the rows of such files that are gray with alpha or half floats.
    """
    return _first_page(path).get(_PLANAR_CONFIGURATION) == _SEPARATE


def is_negative(path: Path) -> bool:
    """True if a file says that zero is white: libvips turns its values round."""
    return _first_page(path).get(_PHOTOMETRIC) == 0


def is_one_picture(path: Path) -> bool:
    """True if all pages except the first are smaller versions of another one, such as thumbnails."""
    try:
        with path.open("rb") as file:
            layout, at = ifd.read_header(file)
            for page in range(_MAX_PAGES):
                entries, at = ifd.read_ifd(file, layout, at)
                is_reduced = bool(_integers(layout, entries).get(_SUBFILE_TYPE, 0) & _REDUCED)
                if is_reduced != (page > 0):
                    return False
                if at == 0:
                    return True
    except ifd.IFD_ERRORS:
        return False
    return False


def read_exif(path: Path) -> bytes | None:
    """An EXIF block with what a file says about its picture and how it was taken; None if it says nothing."""
    try:
        with path.open("rb") as file:
            tags = read_exif_tags(file)
    except ifd.IFD_ERRORS:
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
        tags = ExifTags(TiffLayout("<")) if block is None else exif_tags_of(block)
    except ifd.IFD_ERRORS:
        return False
    if not tags and geo is None:
        return False
    with os.fdopen(os.dup(descriptor), "r+b") as file:
        layout, first_ifd = ifd.read_header(file)
        old, next_ifd = ifd.read_ifd(file, layout, first_ifd)
        new = tags.in_file(layout, size=size, is_srgb=is_srgb)
        end = file.seek(0, os.SEEK_END)
        at = end + end % 2
        sub_ifds, pointers = new.pack_sub_ifds(at)
        new_first = at + len(sub_ifds)
        raw: dict[int, TagValue | bytes] = {entry.tag: entry.raw for entry in old}
        if geo is not None:
            raw |= {tag: ifd.with_byte_order(value, geo.layout, layout) for tag, value in geo.tags.items()}
        new_ifd = ifd.pack_ifd(raw | new.tiff_ifd | pointers, layout, at=new_first, next_ifd=next_ifd)
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
        layout, first_ifd = ifd.read_header(file)
        for entry in ifd.read_ifd(file, layout, first_ifd)[0]:
            if entry.tag in _SQUARE:
                extent = ifd.value_extent(layout, entry)
                file.seek(extent[0] if extent is not None else entry.at + 4 + layout.offset_bytes)
                letters = _SQUARE[entry.tag]
                file.write(layout.pack(letters, *[1] * len(letters)))


def _first_page(path: Path) -> dict[int, int]:
    """The integers in a file's first IFD, as far as that can be read."""
    try:
        with path.open("rb") as file:
            layout, first_ifd = ifd.read_header(file)
            return _integers(layout, ifd.read_ifd(file, layout, first_ifd)[0])
    except ifd.IFD_ERRORS:
        return {}


def _integers(layout: TiffLayout, entries: list[IfdEntry]) -> dict[int, int]:
    """The first value of each entry that is an unsigned integer kept in the IFD itself."""
    values = {}
    for entry in entries:
        width = {ifd.SHORT: 2, ifd.LONG: 4, ifd.LONG8: 8}.get(entry.field_type, 0)
        if 0 < width <= layout.offset_bytes:
            values[entry.tag] = layout.integer(entry.value_or_offset[:width])
    return values
