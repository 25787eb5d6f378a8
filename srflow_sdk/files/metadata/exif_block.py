"""Edits EXIF blocks in place: maker's notes hold offsets, so nothing in the block may move.

Pillow's Exif would rewrite the whole block.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping

from srflow_sdk.files.metadata import ifd
from srflow_sdk.files.metadata.exif_tags import (
    EXIF_IFD_POINTER,
    EXIF_PREFIX,
    GPS_IFD_POINTER,
    INTEROPERABILITY_IFD_POINTER,
)

MAX_BYTES = 60_000
"""Largest block that is written: JPEG has one segment for it, and libvips' EXIF library gives up at 64 kB elsewhere."""

_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x0112, 0x011A, 0x011B, 0x0128
_INCHES = 2
_MM_PER_INCH = 25.4


def upright(block: bytes) -> bytes | None:
    """The block with orientation 1 and without its thumbnail; None if it cannot be parsed.

    block: libvips' exif-data: a TIFF header and IFDs, with or without "Exif\\0\\0" in front.
    """
    try:
        edited = _edited(block, {_ORIENTATION: 1}, {})
    except ifd.IFD_ERRORS:
        return None
    return edited[: _end(edited)]


def with_resolution(block: bytes, resolution: tuple[float, float]) -> bytes:
    """The block with its resolution, if it has one, set to this (pixels per mm, x and y): libvips would keep the old.

    Any thumbnail, as in a block from an app, is removed: libvips would keep it.
    """
    thousandths = {
        tag: round(value * _MM_PER_INCH * 1000)
        for tag, value in zip((_X_RESOLUTION, _Y_RESOLUTION), resolution, strict=True)
    }
    try:
        return _edited(block, {_RESOLUTION_UNIT: _INCHES}, thousandths)
    except ifd.IFD_ERRORS:
        return block


def carrier(block: bytes, jpeg: bytes) -> bytes:
    """A JPEG file with the block in it: libvips parses EXIF only when it loads a file.

    jpeg: a JPEG without metadata except its JFIF header, whose resolution is removed.
    """
    payload = block if block.startswith(EXIF_PREFIX) else EXIF_PREFIX + block
    segment = b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload
    jfif_unit = 13
    return jpeg[:2] + segment + jpeg[2:jfif_unit] + b"\0" + jpeg[jfif_unit + 1 :]


def _edited(block: bytes, shorts: Mapping[int, int], thousandths: Mapping[int, int]) -> bytes:
    """The block with these values where its TIFF IFD has the tags, and without the next IFD, which is the thumbnail's.

    Raises: :data:`~srflow_sdk.files.metadata.ifd.IFD_ERRORS`.
    """
    tiff = bytearray(block.removeprefix(EXIF_PREFIX))
    file = io.BytesIO(tiff)
    layout, first_ifd = ifd.read_header(file)
    if layout.is_bigtiff:
        raise struct.error("no EXIF")
    entries, _ = ifd.read_ifd(file, layout, first_ifd)

    def write(at: int, letters: str, *values: int) -> None:
        struct.pack_into(layout.byte_order + letters, tiff, at, *values)

    for entry in entries:
        if entry.tag in shorts:
            write(entry.at + 2, "HIHH", ifd.SHORT, 1, shorts[entry.tag], 0)
        elif entry.tag in thousandths and entry.field_type == ifd.RATIONAL:
            write(layout.integer(entry.value_or_offset), "II", thousandths[entry.tag], 1000)
    write(first_ifd + 2 + 12 * len(entries), "I", 0)
    return block[: len(block) - len(tiff)] + bytes(tiff)


def _end(block: bytes) -> int:
    """Where the last data that the IFDs point to ends, except the thumbnail; the end of the block if unclear."""
    prefix = len(block) - len(block.removeprefix(EXIF_PREFIX))
    file, ends, seen = io.BytesIO(block[prefix:]), [8], set()
    try:
        layout, first_ifd = ifd.read_header(file)
        waiting = [first_ifd]
        while waiting:
            at = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            entries, _ = ifd.read_ifd(file, layout, at)
            ends.append(file.tell())
            for entry in entries:
                extent = ifd.value_extent(layout, entry)
                if extent is not None:
                    ends.append(sum(extent))
                elif entry.tag in (EXIF_IFD_POINTER, GPS_IFD_POINTER, INTEROPERABILITY_IFD_POINTER):
                    waiting.append(layout.integer(entry.value_or_offset))
    except ifd.IFD_ERRORS:
        return len(block)
    return min(prefix + max(ends), len(block))
