"""The directories of TIFF files and EXIF blocks: entries as they are kept, read within bounds, and packed again."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

UNREADABLE = (OSError, ValueError, OverflowError, struct.error)
"""What reading directories raises where a file is damaged or cannot be read."""

SHORT, LONG, LONG8 = 3, 4, 16
_UNITS = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 6: "B", 7: "B", 8: "H", 9: "I", 10: "II", 11: "I", 12: "Q", 13: "I"}
_BIG_UNITS = {16: "Q", 17: "Q", 18: "Q"}
_MAX_ENTRIES = 4096


@dataclass(frozen=True)
class Layout:
    """How a file counts: byte order as struct names it, and whether offsets have 64 bits (BigTIFF)."""

    order: str
    big: bool = False

    @property
    def offset(self) -> str:
        """An offset, as struct names it."""
        return "Q" if self.big else "I"

    @property
    def room(self) -> int:
        """Bytes of the values that an entry itself holds."""
        return 8 if self.big else 4

    @property
    def pointer_at(self) -> int:
        """Where a file says where its first directory is."""
        return self.room

    def unit(self, kind: int) -> str | None:
        """One value of a type, as struct names it; None for unknown types."""
        return _UNITS.get(kind) or (_BIG_UNITS.get(kind) if self.big else None)


@dataclass(frozen=True)
class Value:
    """Of one tag: its type, how many, and the bytes of all."""

    kind: int
    count: int
    data: bytes


@dataclass(frozen=True)
class Entry:
    """One of a directory: tag, type, number of values, its last bytes (values or an offset), and all its bytes."""

    tag: int
    kind: int
    count: int
    room: bytes
    raw: bytes


def header(file: BinaryIO) -> tuple[Layout, int]:
    """The layout, and where the first directory is. Raises: :data:`UNREADABLE`."""
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        raise struct.error("no TIFF header")
    (magic,) = struct.unpack_from(f"{order}H", head, 2)
    if magic not in (42, 43):
        raise struct.error("no TIFF header")
    layout = Layout(order, big=magic == 43)
    return layout, struct.unpack_from(f"{order}{layout.offset}", head, layout.pointer_at)[0]


def entries(file: BinaryIO, layout: Layout, at: int) -> tuple[list[Entry], int]:
    """Those of one directory, and where the next directory is (0: none). Raises: :data:`UNREADABLE`."""
    count_format, form = ("Q", "HHQ8s") if layout.big else ("H", "HHI4s")
    file.seek(at)
    (number,) = struct.unpack(f"{layout.order}{count_format}", file.read(struct.calcsize(f"={count_format}")))
    if number > _MAX_ENTRIES:
        raise struct.error("a directory of absurd size")
    size = struct.calcsize(f"={form}")
    data = file.read(number * size + layout.room)
    (following,) = struct.unpack_from(f"{layout.order}{layout.offset}", data, number * size)
    found = []
    for start in range(0, number * size, size):
        tag, kind, values, room = struct.unpack_from(f"{layout.order}{form}", data, start)
        found.append(Entry(tag, kind, values, room, data[start : start + size]))
    return found, following


def extent(layout: Layout, entry: Entry) -> tuple[int, int] | None:
    """Where its values lie outside the directory, as offset and bytes; None if it holds them itself."""
    size = entry.count * struct.calcsize(f"={layout.unit(entry.kind) or 'B'}")
    if size <= layout.room:
        return None
    return struct.unpack(f"{layout.order}{layout.offset}", entry.room)[0], size


def value(file: BinaryIO, layout: Layout, entry: Entry, *, max_bytes: int) -> Value | None:
    """Its values; None for unknown types, and for more than max_bytes. Raises: :data:`UNREADABLE`."""
    unit = layout.unit(entry.kind)
    if unit is None or entry.count == 0:
        return None
    size = entry.count * struct.calcsize(f"={unit}")
    place = extent(layout, entry)
    if place is None:
        return Value(entry.kind, entry.count, entry.room[:size])
    if size > max_bytes:
        return None
    file.seek(place[0])
    data = file.read(size)
    return Value(entry.kind, entry.count, data) if len(data) == size else None


def numbers(layout: Layout, held: Value) -> tuple[int, ...]:
    """The values as integers, for types that are unsigned integers. Raises: struct.error for others."""
    if held.kind not in (1, SHORT, LONG, 13, 16, 18):
        raise struct.error("no integers")
    unit = layout.unit(held.kind)
    return struct.unpack(f"{layout.order}{held.count}{unit}", held.data)


def reordered(held: Value, old: Layout, new: Layout) -> Value:
    """The same values in another byte order."""
    unit = (_UNITS | _BIG_UNITS)[held.kind]
    if old.order == new.order or unit == "B":
        return held
    form = unit * held.count
    values = struct.unpack(f"{old.order}{form}", held.data)
    return Value(held.kind, held.count, struct.pack(f"{new.order}{form}", *values))


def packed(tags: Mapping[int, Value | bytes], layout: Layout, *, at: int, following: int = 0) -> bytes:
    """A directory that will stand at an even offset, and its values behind it; bytes are entries as they were read."""
    count_format = "Q" if layout.big else "H"
    start = len(tags) * (20 if layout.big else 12) + struct.calcsize(f"={count_format}") + layout.room
    directory, data = [struct.pack(f"{layout.order}{count_format}", len(tags))], b""
    for tag in sorted(tags):
        held = tags[tag]
        if isinstance(held, bytes):
            directory.append(held)
            continue
        room = held.data.ljust(layout.room, b"\0")
        if len(held.data) > layout.room:
            room = struct.pack(f"{layout.order}{layout.offset}", at + start + len(data))
            data += held.data + bytes(len(held.data) % 2)
        directory.append(struct.pack(f"{layout.order}HH{layout.offset}", tag, held.kind, held.count) + room)
    return b"".join([*directory, struct.pack(f"{layout.order}{layout.offset}", following), data])
