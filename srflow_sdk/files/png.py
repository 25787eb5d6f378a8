"""PNG chunks that libvips does not see, or always writes: metadata after the pixels, a resolution."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_SIGNATURE = 8
_MAX_CHUNKS = 1 << 20
_XMP = b"XML:com.adobe.xmp\0"


def missed_fields(path: Path, *, max_bytes: int) -> dict[str, bytes]:
    """The fields that libvips misses in a file, by its names for them. max_bytes: larger chunks are skipped."""
    found: dict[str, bytes] = {}
    behind_pixels = False
    with contextlib.suppress(OSError, ValueError, OverflowError, struct.error), path.open("rb") as file:
        for kind, size in _chunks(file):
            if behind_pixels and kind in (b"eXIf", b"iTXt") and size <= max_bytes:
                data, (checksum,) = file.read(size), struct.unpack(">I", file.read(4))
                if checksum == zlib.crc32(data, zlib.crc32(kind)):
                    _take(found, kind, data, max_bytes)
            behind_pixels |= kind == b"IDAT"
    return found


def forget_resolution(descriptor: int) -> None:
    """Make a complete file say that its pixels are square, instead of how many go into a metre.

    Nothing has to move so; without the chunk, everything behind it would. Raises: OSError.
    """
    with os.fdopen(os.dup(descriptor), "r+b") as file:
        for kind, _ in _chunks(file):
            if kind == b"pHYs":
                square = kind + struct.pack(">IIB", 1, 1, 0)
                file.seek(-len(kind), os.SEEK_CUR)
                file.write(square + struct.pack(">I", zlib.crc32(square)))
            if kind in (b"pHYs", b"IDAT"):
                return


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The kind and length of each chunk; the file then stands where its data begin. Raises: OSError, struct.error."""
    at = _SIGNATURE
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        yield kind, size
        if kind == b"IEND":
            return
        at += size + 12


def _take(found: dict[str, bytes], kind: bytes, data: bytes, max_bytes: int) -> None:
    if kind == b"eXIf" and data:
        found.setdefault("exif-data", data)
    elif data.startswith(_XMP) and (text := _text(data[len(_XMP) :], max_bytes)):
        found.setdefault("xmp-data", text)


def _text(data: bytes, max_bytes: int) -> bytes | None:
    """The text of an iTXt chunk, decompressed. data: what follows the keyword."""
    compressed, method = data[:2]
    _language, _translated, text = data[2:].split(b"\0", 2)
    if not compressed:
        return text or None
    if method != 0:
        return None
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(text, max_bytes)
    except zlib.error:
        return None
    return plain if inflate.eof and plain else None
