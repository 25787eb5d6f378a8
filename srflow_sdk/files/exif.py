"""EXIF blocks and TIFF's image file directories (IFDs): read, edited, packed again.

libvips writes no EXIF into TIFF. Pillow writes non-ASCII text as "?", reduces fractions, shifts
strip offsets, and in 10.3, which we allow, reads everything that the entries of a damaged file
claim into memory. Maker's notes hold undocumented offsets: in a block that is kept nothing moves;
when tags move, these notes stay behind, and so do tags that say how a file stores its pixels.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np

IFD_ERRORS = (OSError, ValueError, OverflowError, struct.error)
"""The errors of reading an IFD from a file that is damaged or cannot be read."""

SHORT = 3
LONG = 4
RATIONAL = 5
DOUBLE = 12
IFD = 13
# only in BigTIFF
LONG8 = 16
SLONG8 = 17
IFD8 = 18
# Bytes of one value of each field type, from 1 (BYTE) to 13 (IFD); the pairs are fractions.
_WIDTHS = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), start=1)) | dict.fromkeys(
    (LONG8, SLONG8, IFD8), 8
)
_PAIRS = (RATIONAL, 10)

MAX_BYTES = 60_000
"""Largest block that is written: JPEG has one segment for it, and libvips' EXIF library gives up at
64 kB elsewhere."""

_ORIENTATION = 0x0112
_X_RESOLUTION = 0x011A
_Y_RESOLUTION = 0x011B
_RESOLUTION_UNIT = 0x0128
_INCHES = 2
_MM_PER_INCH = 25.4
_EXIF_IFD = 0x8769
_GPS_IFD = 0x8825
_INTEROPERABILITY_IFD = 0xA005
# where its bytes are, and how many: a JPEG, or plain pixels
_THUMBNAILS = ((0x0201, 0x0202), (0x0111, 0x0117))
_PREFIX = b"Exif\0\0"

_IMAGE_DESCRIPTION = 0x010E
_MAKER_NOTE = 0x927C
_COLOUR_SPACE = 0xA001
_SIDES = (0xA002, 0xA003)
_PICTURE_TAGS = frozenset(
    # description, make, model, software, date, artist, computer, rating, per cent, copyright,
    # Windows' titles
    [
        _IMAGE_DESCRIPTION,
        0x010F,
        0x0110,
        0x0131,
        0x0132,
        0x013B,
        0x013C,
        0x4746,
        0x4749,
        0x8298,
        *range(0x9C9B, 0x9CA0),
    ]
)
# how descriptions of the array in a file begin
_ARRAY_DESCRIPTIONS = (b'{"', b"<", b"ImageJ=", b"shape=", b"SCI")
_MAX_VALUES_BYTES = 50_000


@dataclass(frozen=True)
class TiffLayout:
    """Byte order ("<" or ">"), and whether offsets and counts have 64 bits (BigTIFF)."""

    byte_order: str
    is_bigtiff: bool = False

    @property
    def offset_format(self) -> str:
        """struct's letter for an offset in the file; a count of values has the same size."""
        return "Q" if self.is_bigtiff else "I"

    @property
    def offset_bytes(self) -> int:
        """Bytes of an offset.

        An entry holds values itself if they fit. The header has the first IFD's here.
        """
        return 8 if self.is_bigtiff else 4

    def pack(self, letters: str, *values: Any) -> bytes:
        return struct.pack(self.byte_order + letters, *values)

    def unpack(self, letters: str, data: bytes, at: int = 0) -> tuple[Any, ...]:
        return struct.unpack_from(self.byte_order + letters, data, at)

    def integer(self, data: bytes) -> int:
        return int.from_bytes(data, "little" if self.byte_order == "<" else "big")

    def ordered(self, field_type: int, data: bytes) -> bytes:
        """Values of a file in the order of :class:`TagValue`, or the other way."""
        width = _WIDTHS[field_type] // (1 + (field_type in _PAIRS))
        swapped = self.byte_order == ">" and width > 1
        return np.frombuffer(data, f"u{width}").byteswap().tobytes() if swapped else data


class TagValue(NamedTuple):
    """The values of one tag: their type, how many, and their bytes, the lowest first."""

    field_type: int
    number: int
    data: bytes


class IfdEntry(NamedTuple):
    """One entry of a file.

    at: its own offset in the file. held: its last bytes, the values or their offset.
    """

    at: int
    tag: int
    field_type: int
    number: int
    held: bytes

    @property
    def size(self) -> int:
        """The bytes of its values."""
        return self.number * _WIDTHS.get(self.field_type, 1)


def read_header(file: BinaryIO) -> tuple[TiffLayout, int]:
    """The layout, and the offset of the first IFD. Raises: :data:`IFD_ERRORS`."""
    file.seek(0)
    head = file.read(16)
    byte_order = {b"II": "<", b"MM": ">"}.get(head[:2], "<")
    (version,) = struct.unpack_from(f"{byte_order}H", head, 2)
    if head[:2] not in (b"II", b"MM") or version not in (42, 43):
        raise struct.error("no TIFF header")
    layout = TiffLayout(byte_order, is_bigtiff=version == 43)
    return layout, layout.unpack(layout.offset_format, head, layout.offset_bytes)[0]


def read_ifd(file: BinaryIO, layout: TiffLayout, at: int) -> tuple[list[IfdEntry], int]:
    """The entries of the IFD at an offset, and the offset of the next IFD, 0 for none.

    Raises: :data:`IFD_ERRORS`.
    """
    count_format, entry_format = ("Q", "HHQ8s") if layout.is_bigtiff else ("H", "HHI4s")
    file.seek(at)
    first, size = (struct.calcsize(f"={letters}") for letters in (count_format, entry_format))
    (number,) = layout.unpack(count_format, file.read(first))
    data = file.read(number * size + layout.offset_bytes)
    (next_ifd,) = layout.unpack(layout.offset_format, data, number * size)
    starts = range(0, number * size, size)
    return [
        IfdEntry(at + first + start, *layout.unpack(entry_format, data, start)) for start in starts
    ], next_ifd


def read_value(
    file: BinaryIO, layout: TiffLayout, entry: IfdEntry, *, max_bytes: int
) -> TagValue | None:
    """An entry's values; None for unknown types, none, and more than max_bytes outside the IFD.

    Raises: :data:`IFD_ERRORS`.
    """
    data = entry.held[: entry.size]
    inside = entry.size <= layout.offset_bytes
    if (
        entry.field_type not in _WIDTHS
        or entry.number == 0
        or (not inside and entry.size > max_bytes)
    ):
        return None
    if not inside:
        file.seek(layout.integer(entry.held))
        data = file.read(entry.size)
    if len(data) < entry.size:
        return None
    return TagValue(entry.field_type, entry.number, layout.ordered(entry.field_type, data))


def integers(layout: TiffLayout, entries: list[IfdEntry]) -> dict[int, int]:
    """The first value of each entry that is an unsigned integer in the IFD itself, by tag."""
    return {
        entry.tag: layout.integer(entry.held[: _WIDTHS[entry.field_type]])
        for entry in entries
        if entry.field_type in (SHORT, LONG, LONG8)
        and _WIDTHS[entry.field_type] <= layout.offset_bytes
    }


def pack_ifd(
    tags: Mapping[int, TagValue | IfdEntry], layout: TiffLayout, *, at: int, next_ifd: int = 0
) -> bytes:
    """Pack an IFD of values, or entries as read, for an even offset, with long values after it."""
    count_format = "Q" if layout.is_bigtiff else "H"
    start = (
        len(tags) * (20 if layout.is_bigtiff else 12)
        + struct.calcsize(f"={count_format}")
        + layout.offset_bytes
    )
    entries = [layout.pack(count_format, len(tags))]
    values = b""
    for tag, value in sorted(tags.items()):
        ordered = (
            value.held
            if isinstance(value, IfdEntry)
            else layout.ordered(value.field_type, value.data)
        )
        held = ordered.ljust(layout.offset_bytes, b"\0")
        if len(held) > layout.offset_bytes:
            offset = layout.pack(layout.offset_format, at + start + len(values))
            values = values + held + bytes(len(held) % 2)
            held = offset
        entries.append(
            layout.pack(f"HH{layout.offset_format}", tag, value.field_type, value.number) + held
        )
    return b"".join([*entries, layout.pack(layout.offset_format, next_ifd), values])


ExifTags = dict[int, dict[int, TagValue]]
"""Tags of the IFDs of EXIF and GPS, by the tags that point to them, and (0) those of the TIFF about
the picture."""


def describe_picture(tags: ExifTags, *, size: tuple[int, int], is_srgb: bool) -> ExifTags:
    """The tags with this width and height, and sRGB for sRGB pixels, where they name them."""
    exif_ifd = dict(tags.get(_EXIF_IFD, {}))
    new = {
        tag: TagValue(LONG, 1, struct.pack("<I", side))
        for tag, side in zip(_SIDES, size, strict=True)
    }
    new |= {_COLOUR_SPACE: TagValue(SHORT, 1, b"\1\0")} if is_srgb else {}
    exif_ifd.update({tag: value for tag, value in new.items() if tag in exif_ifd})
    return {**tags, _EXIF_IFD: exif_ifd}


def pack_tags(tags: ExifTags, layout: TiffLayout, at: int) -> tuple[bytes, dict[int, TagValue]]:
    """Pack the EXIF and GPS IFDs for an even offset; return the TIFF IFD's tags, too.

    These are with those that point to them.
    """
    data = b""
    own = dict(tags.get(0, {}))
    for pointer in (_EXIF_IFD, _GPS_IFD):
        if tags.get(pointer):
            offset = (at + len(data)).to_bytes(layout.offset_bytes, "little")
            own[pointer] = TagValue(LONG8 if layout.is_bigtiff else LONG, 1, offset)
            data += pack_ifd(tags[pointer], layout, at=at + len(data))
    return data, own


def read_exif_tags(file: BinaryIO) -> ExifTags:
    """The tags in a file.

    Broken values and those beyond 50 kB are left out. Raises: :data:`IFD_ERRORS`.
    """
    layout, first_ifd = read_header(file)
    waiting = {0: first_ifd}
    room = _MAX_VALUES_BYTES
    ifds = ExifTags()
    while waiting:
        pointer, at = waiting.popitem()
        try:
            entries, _ = read_ifd(file, layout, at)
        except IFD_ERRORS:
            if not pointer:
                raise
            continue
        for entry in entries:
            value = None
            with contextlib.suppress(*IFD_ERRORS):
                value = read_value(file, layout, entry, max_bytes=room)
            if value is None:
                continue
            if not pointer and entry.tag in (_EXIF_IFD, _GPS_IFD):
                if value.number == 1 and value.field_type in (LONG, IFD, LONG8, IFD8):
                    waiting[entry.tag] = int.from_bytes(value.data, "little")
                continue
            is_carried = (
                entry.tag not in (_MAKER_NOTE, _INTEROPERABILITY_IFD)
                if pointer
                else entry.tag in _PICTURE_TAGS
            )
            if (
                is_carried
                and value.field_type not in (LONG8, SLONG8, IFD8)
                and len(value.data) + 12 <= room
            ):
                ifds.setdefault(pointer, {}).setdefault(entry.tag, value)
                room -= len(value.data) + 12
    described = ifds.get(0, {}).get(_IMAGE_DESCRIPTION)
    if described is not None and described.data.startswith(_ARRAY_DESCRIPTIONS):
        del ifds[0][_IMAGE_DESCRIPTION]
    return {pointer: tags for pointer, tags in ifds.items() if tags}


def parse_exif_tags(block: bytes) -> ExifTags:
    """The tags in an EXIF block; see :func:`read_exif_tags`."""
    return read_exif_tags(io.BytesIO(block.removeprefix(_PREFIX)))


def make_block(tiff: BinaryIO) -> bytes | None:
    """An EXIF block of what :func:`read_exif_tags` finds in a file; None if that is nothing."""
    with contextlib.suppress(*IFD_ERRORS):
        tags = read_exif_tags(tiff)
        layout = TiffLayout("<")
        sub_ifds, own = pack_tags(tags, layout, 8)
        first_ifd = 8 + len(sub_ifds)
        header = _PREFIX + b"II" + layout.pack("HI", 42, first_ifd)
        return header + sub_ifds + pack_ifd(own, layout, at=first_ifd) if tags else None
    return None


def mark_upright(block: bytes, resolution: tuple[float, float] | None = None) -> bytes | None:
    """The block with orientation 1, no thumbnail, and another resolution per mm, where it has one.

    None if damaged.
    """
    prefix = _PREFIX if block.startswith(_PREFIX) else b""
    tiff = bytearray(block.removeprefix(_PREFIX))
    file = io.BytesIO(tiff)
    try:
        layout, first_ifd = read_header(file)
        entries, thumbnail = read_ifd(file, layout, first_ifd)
        if layout.is_bigtiff:
            raise struct.error("no EXIF")
        for entry in entries:
            if entry.tag == _ORIENTATION or (resolution and entry.tag == _RESOLUTION_UNIT):
                value = 1 if entry.tag == _ORIENTATION else _INCHES
                struct.pack_into(f"{layout.byte_order}HIHH", tiff, entry.at + 2, SHORT, 1, value, 0)
            elif (
                resolution
                and entry.tag in (_X_RESOLUTION, _Y_RESOLUTION)
                and entry.field_type == RATIONAL
            ):
                thousandths = round(resolution[entry.tag - _X_RESOLUTION] * _MM_PER_INCH * 1000)
                struct.pack_into(
                    f"{layout.byte_order}II", tiff, layout.integer(entry.held), thousandths, 1000
                )
        struct.pack_into("I", tiff, first_ifd + 2 + 12 * len(entries), 0)
    except IFD_ERRORS:
        return None
    with contextlib.suppress(*IFD_ERRORS):
        places = integers(layout, read_ifd(file, layout, thumbnail)[0]) if thumbnail else {}
        for place, length in _THUMBNAILS:
            at = places.get(place, 0)
            end = at + places.get(length, 0)
            # it is the last thing as a rule
            tiff[at:end] = bytes(end - at if end < len(tiff) else 0)
    return prefix + bytes(tiff)


def put_in_jpeg(block: bytes, jpeg: bytes) -> bytes:
    """Put a block into a plain JPEG: libvips parses EXIF only when it loads a file."""
    payload = _PREFIX + block.removeprefix(_PREFIX)
    segment = b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload
    jfif_unit = 13
    return jpeg[:2] + segment + jpeg[2:jfif_unit] + b"\0" + jpeg[jfif_unit + 1 :]
