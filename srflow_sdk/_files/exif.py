"""EXIF blocks, changed in place: a maker's notes hold offsets, so that nothing in the block may move."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

from srflow_sdk._files import description, directories
from srflow_sdk._files.description import PREFIX

MAX_BYTES = 60_000
"""Of a block that is written: JPEG has one segment for it, and libvips' EXIF library gives up at 64 kB elsewhere."""

_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x0112, 0x011A, 0x011B, 0x0128
_SHORT, _RATIONAL, _INCHES = 3, 5, 2
_SUB_DIRECTORIES = (description.EXIF_DIRECTORY, description.GPS_DIRECTORY, 0xA005)
_MM_PER_INCH = 25.4


def upright(block: bytes) -> bytes | None:
    """The block with orientation 1 and without its thumbnail; None if it is none that can be understood.

    block: as libvips' exif-data: a TIFF header and directories, after "Exif\\0\\0" or without.
    """
    try:
        order, first, count = _directory(block)
        changed = bytearray(block)
        for tag, at in _entries(block, order, first, count):
            if tag == _ORIENTATION:
                struct.pack_into(f"{order}HIHH", changed, at + 2, _SHORT, 1, 1, 0)
        _cut_thumbnail(changed, order, first, count)
    except struct.error:
        return None
    return bytes(changed[: _end(bytes(changed))])


def fitting(block: bytes) -> bytes | None:
    """The block, if it is larger than :data:`MAX_BYTES` without maker's notes and very long values; None if it is none.

    block: as :func:`upright` gives it.
    """
    if len(block) <= MAX_BYTES:
        return block
    try:
        found = description.of_block(block)
    except directories.UNREADABLE:
        return None
    return found.block() if found else None


def with_resolution(block: bytes, resolution: tuple[float, float]) -> bytes:
    """The block with this resolution (pixels per mm, x and y) where it names one: libvips leaves an old one there.

    Without a thumbnail, where the block is an app's own: libvips would keep it.
    """
    values = {
        tag: round(value * _MM_PER_INCH * 1000)
        for tag, value in zip((_X_RESOLUTION, _Y_RESOLUTION), resolution, strict=True)
    }
    try:
        order, first, count = _directory(block)
        changed = bytearray(block)
        for tag, at in _entries(block, order, first, count):
            if tag == _RESOLUTION_UNIT:
                struct.pack_into(f"{order}HIHH", changed, at + 2, _SHORT, 1, _INCHES, 0)
            elif tag in values:
                kind, _, offset = struct.unpack_from(f"{order}HII", block, at + 2)
                if kind == _RATIONAL:
                    struct.pack_into(f"{order}II", changed, _start(block) + offset, values[tag], 1000)
        _cut_thumbnail(changed, order, first, count)
    except struct.error:
        return block
    return bytes(changed)


def carrier(block: bytes, jpeg: bytes) -> bytes:
    """A JPEG file with the block in it: libvips parses EXIF only where it loads a file.

    jpeg: one without metadata but its JFIF header, of which the resolution is taken out.
    """
    payload = block if block.startswith(PREFIX) else PREFIX + block
    jfif_unit = 13
    return b"".join(
        [
            jpeg[:2],
            b"\xff\xe1",
            struct.pack(">H", len(payload) + 2),
            payload,
            jpeg[2:jfif_unit],
            b"\0",
            jpeg[jfif_unit + 1 :],
        ]
    )


def _cut_thumbnail(block: bytearray, order: str, first: int, count: int) -> None:
    struct.pack_into(f"{order}I", block, first + 2 + 12 * count, 0)  # where its directory would be


def _start(block: bytes) -> int:
    return len(PREFIX) if block.startswith(PREFIX) else 0


def _end(block: bytes) -> int:
    """Where the last of what the directories name ends, but for the thumbnail; the whole block's end if unclear."""
    start = _start(block)
    file, ends, seen = io.BytesIO(block[start:]), [8], set()
    try:
        layout, first = directories.header(file)
        waiting = [first]
        while waiting:
            at = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            found, _ = directories.entries(file, layout, at)
            ends.append(file.tell())
            for entry in found:
                place = directories.extent(layout, entry)
                if place is not None:
                    ends.append(sum(place))
                elif entry.tag in _SUB_DIRECTORIES:
                    waiting.append(int.from_bytes(entry.room, "little" if layout.order == "<" else "big"))
    except directories.UNREADABLE:
        return len(block)
    return min(start + max(ends), len(block))


def _directory(block: bytes) -> tuple[str, int, int]:
    """Byte order, place and number of entries of the first directory. Raises: struct.error if there is none."""
    start = _start(block)
    order = {b"II": "<", b"MM": ">"}.get(block[start : start + 2])
    if order is None:
        raise struct.error("no TIFF header")
    magic, offset = struct.unpack_from(f"{order}HI", block, start + 2)
    if magic != 42:
        raise struct.error("no TIFF header")
    (count,) = struct.unpack_from(f"{order}H", block, start + offset)
    return order, start + offset, count


def _entries(block: bytes, order: str, first: int, count: int) -> Iterator[tuple[int, int]]:
    for at in range(first + 2, first + 2 + 12 * count, 12):
        yield struct.unpack_from(f"{order}H", block, at)[0], at
