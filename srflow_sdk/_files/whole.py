"""Checks that files are complete: a kill or a full disk leaves truncated ones, which may open and look right."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from srflow_sdk._files import formats, ifd
from srflow_sdk._files.ifd import IfdEntry, TiffLayout

_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_STRIP_OFFSETS, _STRIP_SIZES, _TILE_OFFSETS, _TILE_SIZES = 273, 279, 324, 325
_MAX_ARRAY = 64 << 20
_MAX_BOXES = 1000


def is_whole(path: formats.PathLike) -> bool:
    """Whether a file in one of the formats of :class:`~srflow_sdk._files.ImageWriter` is complete up to its end.

    Cheap: pixels are not decoded, so damage in the middle goes unnoticed. False for other formats and for missing or
    unreadable files; nothing is raised.
    """
    try:
        source = Path(path)
        if not source.is_file():
            return False
        with source.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            return _ends_well(file, file.read(formats.SNIFFED_BYTES), size)
    except (*ifd.IFD_ERRORS, MemoryError):
        return False


def _ends_well(file: BinaryIO, head: bytes, size: int) -> bool:
    loader = formats.loader_of(head, name="")
    if loader == "pngload":
        return _last(file, size, len(_PNG_END)) == _PNG_END
    if loader == "jpegload":
        return _last(file, size, 2) == b"\xff\xd9"
    if loader == "webpload":
        return int.from_bytes(head[4:8], "little") + 8 == size
    if loader == "tiffload":
        return _is_whole_tiff(file, size)
    return loader == "heifload" and _has_whole_boxes(file, size)


def _last(file: BinaryIO, size: int, count: int) -> bytes:
    file.seek(max(size - count, 0))
    return file.read(count)


def _is_whole_tiff(file: BinaryIO, size: int) -> bool:
    """Whether the first IFD, its values and all strips lie within the file; EXIF is before that IFD."""
    layout, first_ifd = ifd.read_header(file)
    entries, _ = ifd.read_ifd(file, layout, first_ifd)
    arrays = {}
    for entry in entries:
        if entry.tag in (_STRIP_OFFSETS, _STRIP_SIZES, _TILE_OFFSETS, _TILE_SIZES):
            value = ifd.read_value(file, layout, entry, max_bytes=_MAX_ARRAY)
            arrays[entry.tag] = ifd.unsigned_integers(layout, value) if value is not None else ()
    offsets = arrays.get(_STRIP_OFFSETS) or arrays.get(_TILE_OFFSETS) or ()
    sizes = arrays.get(_STRIP_SIZES) or arrays.get(_TILE_SIZES) or ()
    if not offsets or len(offsets) != len(sizes) or not _values_within(entries, layout, size):
        return False
    return all(at > 0 and count > 0 and at + count <= size for at, count in zip(offsets, sizes, strict=True))


def _values_within(entries: list[IfdEntry], layout: TiffLayout, size: int) -> bool:
    extents = [ifd.value_extent(layout, entry) for entry in entries]
    return all(extent is None or sum(extent) <= size for extent in extents)


def _has_whole_boxes(file: BinaryIO, size: int) -> bool:
    """Whether the boxes add up to the file's size and include metadata and pixels."""
    at, kinds = 0, set[bytes]()
    for _ in range(_MAX_BOXES):
        if at == size:
            return {b"meta", b"mdat"} <= kinds
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        kinds.add(kind)
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
        if length < 8:
            return False
        at += length
    return False
