"""IPTC records (captions, keywords), which JPEG keeps among Photoshop's image resources and TIFF as they are."""

from __future__ import annotations

import struct

_PHOTOSHOP = b"Photoshop 3.0\0"
_RESOURCE = b"8BIM"
_IPTC = 0x0404


def records_in(block: bytes) -> bytes | None:
    """The IPTC records in libvips' iptc-data, without Photoshop's other resources, such as a thumbnail."""
    if not block.startswith(_PHOTOSHOP):
        return block if block.startswith(b"\x1c") else None
    at = len(_PHOTOSHOP)
    try:
        while block[at : at + 4] == _RESOURCE:
            kind, name = struct.unpack_from(">HB", block, at + 4)
            at += 6 + name + 1 + (name + 1) % 2
            (size,) = struct.unpack_from(">I", block, at)
            if kind == _IPTC:
                return block[at + 4 : at + 4 + size] or None
            at += 4 + size + size % 2
    except struct.error:
        return None
    return None


def photoshop_block(records: bytes) -> bytes:
    """The records as JPEG files store them: one of Photoshop's image resources."""
    resource = struct.pack(">4sHHI", _RESOURCE, _IPTC, 0, len(records))
    return _PHOTOSHOP + resource + records + bytes(len(records) % 2)
