"""TIFF image file directories (IFDs) of TIFF files and EXIF blocks: read within bounds, and packed again.

Pillow's ImageFileDirectory_v2 does not suffice: it writes non-ASCII text as "?", reduces fractions, shifts strip
offsets when it writes, reports damage as Python warnings, and in 10.3, which we allow, reads everything that the
entries of a hostile file claim into memory (300 entries, 8 MB: 2.4 GB).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

IFD_ERRORS = (OSError, ValueError, OverflowError, struct.error)
"""The errors of reading an IFD from a file that is damaged or cannot be read."""

SHORT, LONG, RATIONAL, DOUBLE, IFD = 3, 4, 5, 12, 13
LONG8, SLONG8, IFD8 = 16, 17, 18  # only in BigTIFF
# One value of each field type, from 1 (BYTE) to 13 (IFD), in struct's letters.
_VALUE_FORMATS = dict(enumerate(["B", "B", "H", "I", "II", "B", "B", "H", "I", "II", "I", "Q", "I"], start=1))
_BIGTIFF_VALUE_FORMATS = {LONG8: "Q", SLONG8: "Q", IFD8: "Q"}
_MAX_ENTRIES = 4096


@dataclass(frozen=True)
class TiffLayout:
    """Byte order ("<" or ">", as in struct), and whether offsets and counts have 64 bits (BigTIFF)."""

    byte_order: str
    is_bigtiff: bool = False

    @property
    def offset_format(self) -> str:
        """struct's letter for an offset in the file; a count of values has the same size."""
        return "Q" if self.is_bigtiff else "I"

    @property
    def offset_bytes(self) -> int:
        """Bytes of an offset. An entry holds values itself if they fit. The header has the first IFD's here."""
        return 8 if self.is_bigtiff else 4

    def value_format(self, field_type: int) -> str | None:
        """struct's letters for one value of a field type; None for unknown types."""
        return _VALUE_FORMATS.get(field_type) or (_BIGTIFF_VALUE_FORMATS.get(field_type) if self.is_bigtiff else None)

    def pack(self, letters: str, *values: Any) -> bytes:
        return struct.pack(self.byte_order + letters, *values)

    def unpack(self, letters: str, data: bytes, at: int = 0) -> tuple[Any, ...]:
        return struct.unpack_from(self.byte_order + letters, data, at)

    def integer(self, data: bytes) -> int:
        order: Literal["little", "big"] = "little" if self.byte_order == "<" else "big"
        return int.from_bytes(data, order)


@dataclass(frozen=True)
class TagValue:
    """The values of one tag: TIFF's code of their type, how many, and their bytes."""

    field_type: int
    count: int
    data: bytes


@dataclass(frozen=True)
class IfdEntry:
    """One entry of a file. value_or_offset: its last bytes. raw: all of its bytes. at: its offset in the file."""

    tag: int
    field_type: int
    count: int
    value_or_offset: bytes
    raw: bytes
    at: int


def read_header(file: BinaryIO) -> tuple[TiffLayout, int]:
    """The layout, and the offset of the first IFD. Raises: :data:`IFD_ERRORS`."""
    file.seek(0)
    head = file.read(16)
    byte_order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if byte_order is None:
        raise struct.error("no TIFF header")
    (version,) = struct.unpack_from(f"{byte_order}H", head, 2)
    if version not in (42, 43):
        raise struct.error("no TIFF header")
    layout = TiffLayout(byte_order, is_bigtiff=version == 43)
    return layout, layout.unpack(layout.offset_format, head, layout.offset_bytes)[0]


def read_ifd(file: BinaryIO, layout: TiffLayout, at: int) -> tuple[list[IfdEntry], int]:
    """The entries of the IFD at an offset, and the offset of the next IFD, 0 for none. Raises: :data:`IFD_ERRORS`."""
    count_format, entry_format = ("Q", "HHQ8s") if layout.is_bigtiff else ("H", "HHI4s")
    file.seek(at)
    first_entry = struct.calcsize(f"={count_format}")
    (number,) = layout.unpack(count_format, file.read(first_entry))
    if number > _MAX_ENTRIES:
        raise struct.error("an IFD of absurd size")
    size = struct.calcsize(f"={entry_format}")
    data = file.read(number * size + layout.offset_bytes)
    (next_ifd,) = layout.unpack(layout.offset_format, data, number * size)
    entries = []
    for start in range(0, number * size, size):
        tag, field_type, count, value_or_offset = layout.unpack(entry_format, data, start)
        raw = data[start : start + size]
        entries.append(IfdEntry(tag, field_type, count, value_or_offset, raw, at + first_entry + start))
    return entries, next_ifd


def value_extent(layout: TiffLayout, entry: IfdEntry) -> tuple[int, int] | None:
    """Offset and length in bytes of values outside the IFD; None if the entry holds them itself."""
    size = entry.count * struct.calcsize(f"={layout.value_format(entry.field_type) or 'B'}")
    if size <= layout.offset_bytes:
        return None
    return layout.integer(entry.value_or_offset), size


def read_value(file: BinaryIO, layout: TiffLayout, entry: IfdEntry, *, max_bytes: int) -> TagValue | None:
    """An entry's values; None for unknown types, for no values, and for more than max_bytes outside the IFD.

    Raises: :data:`IFD_ERRORS`.
    """
    value_format = layout.value_format(entry.field_type)
    if value_format is None or entry.count == 0:
        return None
    size = entry.count * struct.calcsize(f"={value_format}")
    if size <= layout.offset_bytes:
        return TagValue(entry.field_type, entry.count, entry.value_or_offset[:size])
    if size > max_bytes:
        return None
    file.seek(layout.integer(entry.value_or_offset))
    data = file.read(size)
    return TagValue(entry.field_type, entry.count, data) if len(data) == size else None


def with_byte_order(value: TagValue, old: TiffLayout, new: TiffLayout) -> TagValue:
    """The same values in the new layout's byte order."""
    value_format = (_VALUE_FORMATS | _BIGTIFF_VALUE_FORMATS)[value.field_type]
    if old.byte_order == new.byte_order or value_format == "B":
        return value
    letters = value_format * value.count
    return TagValue(value.field_type, value.count, new.pack(letters, *old.unpack(letters, value.data)))


def pack_ifd(tags: Mapping[int, TagValue | bytes], layout: TiffLayout, *, at: int, next_ifd: int = 0) -> bytes:
    """Pack an IFD for the even offset `at`, with its values after it.

    tags: values, or the bytes of an entry as read. next_ifd: offset of the next IFD, 0 for none.
    """
    count_format = "Q" if layout.is_bigtiff else "H"
    start = len(tags) * (20 if layout.is_bigtiff else 12) + struct.calcsize(f"={count_format}") + layout.offset_bytes
    entries, values = [layout.pack(count_format, len(tags))], b""
    for tag in sorted(tags):
        value = tags[tag]
        if isinstance(value, bytes):
            entries.append(value)
            continue
        value_or_offset = value.data.ljust(layout.offset_bytes, b"\0")
        if len(value.data) > layout.offset_bytes:
            value_or_offset = layout.pack(layout.offset_format, at + start + len(values))
            values += value.data + bytes(len(value.data) % 2)
        entries.append(layout.pack(f"HH{layout.offset_format}", tag, value.field_type, value.count) + value_or_offset)
    return b"".join([*entries, layout.pack(layout.offset_format, next_ifd), values])
