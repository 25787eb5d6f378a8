"""Ties a record of provenance to the file that holds it: the file has the sha256 of all its other bytes.

So a record that was copied into another picture, and a picture that was changed, can be told without decoding. It is no
signature: whoever makes a picture can compute it. A PNG has it in a text chunk before its end, because its XMP packet
is compressed; the other formats have it in the packet.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from srflow_sdk.files.provenance import sealed

_BLOCK_BYTES = 1 << 20
_PNG = b"\x89PNG"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_PNG_KEYWORD = b"srflow:content_sha256\0"
_DIGITS = 64


def seal(descriptor: int, packet: bytes) -> str | None:
    """Write the hash of a complete file into it. packet: its XMP packet, which has room for the hash.

    Returns the hash; None if there is no place for it in the file, which is left alone then. Raises: OSError.
    """
    with os.fdopen(os.dup(descriptor), "r+b") as file:
        if _is_png(file):
            end = file.seek(-len(_PNG_END), os.SEEK_END)
            digest = _hash(file, end, end + len(_PNG_END))
            file.seek(end)
            file.write(_png_chunk(digest) + _PNG_END)
            return digest
        at = _find(file, packet)
        if at is None:
            return None
        digest = _hash(file, at, at + len(packet))
        file.seek(at)
        file.write(sealed(packet, digest))
        return digest


def png_digest(path: Path) -> str | None:
    """The hash that a PNG has of itself; None if it has none. Raises: OSError."""
    tail = len(_png_chunk("")) + _DIGITS + len(_PNG_END)
    with path.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - tail, 0))
        end = file.read()
    digest = end[: -len(_PNG_END)][-_DIGITS - 4 : -4].decode("ascii", "replace")
    return digest if end == _png_chunk(digest) + _PNG_END else None


def seal_holds(path: Path, packet: bytes, digest: str) -> bool:
    """True if the rest of a file is what has this hash. packet: its XMP packet. Raises: OSError."""
    with path.open("rb") as file:
        if _is_png(file):
            begin = file.seek(-len(_png_chunk(digest)) - len(_PNG_END), os.SEEK_END)
            return _hash(file, begin, begin + len(_png_chunk(digest)) + len(_PNG_END)) == digest
        at = _find(file, packet)
        return at is not None and _hash(file, at, at + len(packet)) == digest


def _is_png(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(len(_PNG)) == _PNG


def _png_chunk(digest: str) -> bytes:
    data = _PNG_KEYWORD + digest.encode()
    return struct.pack(">I", len(data)) + b"tEXt" + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(b"tEXt")))


def _hash(file: BinaryIO, begin: int, end: int) -> str:
    """The sha256 of a file without the bytes from begin to end."""
    digest = hashlib.sha256()
    file.seek(0)
    while begin and (block := file.read(min(begin, _BLOCK_BYTES))):
        digest.update(block)
        begin -= len(block)
    file.seek(end)
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _find(file: BinaryIO, packet: bytes) -> int | None:
    """Where the bytes of a packet begin in a file."""
    file.seek(0)
    begin, kept = 0, b""
    while block := file.read(_BLOCK_BYTES):
        window = kept + block
        if (found := window.find(packet)) >= 0:
            return begin + found
        kept = window[-len(packet) + 1 :]
        begin += len(window) - len(kept)
    return None
