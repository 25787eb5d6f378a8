"""What libvips does not tell of a TIFF before it is opened, or at all: its sizes, its pages, its EXIF."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from srflow_sdk._files import description, directories
from srflow_sdk._files.directories import Entry, Layout

MAX_CLASSIC_BYTES = (1 << 32) - 1
"""Of a TIFF that is no BigTIFF."""

_SUBFILE_TYPE, _WIDTH, _HEIGHT, _PLANAR_CONFIGURATION = 254, 256, 257, 284
_REDUCED, _SEPARATE = 1, 2
_MAX_PAGES = 100


@dataclass(frozen=True, kw_only=True)
class TiffDirectory:
    """width, height: as claimed, in pixels; 0 if unknown. is_planar: whether channels are kept one after another.

    libvips 8.18 mixes rows up where a planar file is gray with alpha or of half floats, and complains of absurd sizes
    on standard error.
    """

    width: int = 0
    height: int = 0
    is_planar: bool = False


def first_directory(path: Path) -> TiffDirectory:
    """What the first directory says, as far as it can be read."""
    try:
        with path.open("rb") as file:
            layout, first = directories.header(file)
            values = _integers(layout, directories.entries(file, layout, first)[0])
    except directories.UNREADABLE:
        return TiffDirectory()
    return TiffDirectory(
        width=values.get(_WIDTH, 0),
        height=values.get(_HEIGHT, 0),
        is_planar=values.get(_PLANAR_CONFIGURATION) == _SEPARATE,
    )


def is_one_picture(path: Path) -> bool:
    """Whether all pages but the first are smaller versions of another one, as thumbnails are."""
    try:
        with path.open("rb") as file:
            layout, at = directories.header(file)
            for page in range(_MAX_PAGES):
                found, at = directories.entries(file, layout, at)
                is_reduced = bool(_integers(layout, found).get(_SUBFILE_TYPE, 0) & _REDUCED)
                if is_reduced != (page > 0):
                    return False
                if at == 0:
                    return True
    except directories.UNREADABLE:
        return False
    return False


def read_exif(path: Path) -> bytes | None:
    """An EXIF block of what a file tells of its picture and how it was taken; None if it tells nothing."""
    try:
        with path.open("rb") as file:
            found = description.of_file(file)
    except directories.UNREADABLE:
        return None
    return found.block() if found else None


def append_exif(descriptor: int, block: bytes, *, size: tuple[int, int], is_srgb: bool) -> bool:
    """Add EXIF to a complete file: a copy of its first directory, with more entries, behind all that is there.

    Strips and values are named by their place in the file, so that nothing has to move. size: width and height of the
    picture. Whether it could be added: not if the block cannot be understood, or the file has no room for more
    (4 GB). Raises: OSError.
    """
    try:
        found = description.of_block(block)
    except directories.UNREADABLE:
        return False
    if not found:
        return False
    with os.fdopen(os.dup(descriptor), "r+b") as file:
        return _append(file, found, size=size, is_srgb=is_srgb)


def _append(file: BinaryIO, found: description.Description, *, size: tuple[int, int], is_srgb: bool) -> bool:
    layout, first = directories.header(file)
    old, following = directories.entries(file, layout, first)
    moved = found.in_layout(layout).of_size(size, is_srgb=is_srgb)
    end = file.seek(0, os.SEEK_END)
    at = end + end % 2
    data, pointers = moved.directories_at(at)
    new_first = at + len(data)
    entries = {entry.tag: entry.raw for entry in old}
    directory = directories.packed(entries | moved.picture | pointers, layout, at=new_first, following=following)
    if not layout.big and new_first + len(directory) > MAX_CLASSIC_BYTES:
        return False
    file.write(bytes(end % 2) + data + directory)
    file.flush()  # before the header names it
    file.seek(layout.pointer_at)
    file.write(new_first.to_bytes(layout.room, "little" if layout.order == "<" else "big"))
    file.flush()
    return True


def _integers(layout: Layout, found: list[Entry]) -> dict[int, int]:
    """The first value of each entry that is an unsigned integer kept in the directory itself."""
    values = {}
    for entry in found:
        width = {directories.SHORT: 2, directories.LONG: 4, directories.LONG8: 8}.get(entry.kind, 0)
        if 0 < width <= layout.room:
            values[entry.tag] = int.from_bytes(entry.room[:width], "little" if layout.order == "<" else "big")
    return values
