"""The little of a TIFF's first directory that must be known before libvips sees the file, or that it does not tell."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_WIDTH, _HEIGHT, _PLANAR_CONFIGURATION = 256, 257, 284
_SEPARATE = 2
_VALUE_FORMATS = {3: "H", 4: "I", 16: "Q"}  # SHORT, LONG, LONG8
_MAX_ENTRIES = 4096


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
        values = _values(path)
    except (OSError, KeyError, ValueError, OverflowError, struct.error):
        return TiffDirectory()
    return TiffDirectory(
        width=values.get(_WIDTH, 0),
        height=values.get(_HEIGHT, 0),
        is_planar=values.get(_PLANAR_CONFIGURATION) == _SEPARATE,
    )


def _values(path: Path) -> dict[int, int]:
    """The first value of each entry that is an unsigned integer kept in the directory itself."""
    with path.open("rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}[head[:2]]
        (magic,) = struct.unpack_from(f"{order}H", head, 2)
        big = magic == 43
        (offset,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", head, 8 if big else 4)
        file.seek(offset)
        count, entry, value_at = ("Q", 20, 12) if big else ("H", 12, 8)
        (entries,) = struct.unpack(f"{order}{count}", file.read(8 if big else 2))
        directory = file.read(entry * min(entries, _MAX_ENTRIES))
    values = {}
    for at in range(0, len(directory) - entry + 1, entry):
        tag, kind = struct.unpack_from(f"{order}HH", directory, at)
        if kind in _VALUE_FORMATS and (big or kind != 16):
            (values[tag],) = struct.unpack_from(f"{order}{_VALUE_FORMATS[kind]}", directory, at + value_at)
    return values
