"""EXIF blocks, and the image file directories (IFDs) that they and TIFF files consist of: read, edited, packed again.

libvips writes no EXIF into TIFF. Pillow writes non-ASCII text as "?", reduces fractions, shifts strip offsets, and in
10.3, which we allow, reads everything that the entries of a hostile file claim into memory. Maker's notes hold
undocumented offsets: in a block that is kept nothing moves; when tags move, these notes stay behind, and so do tags
that say how a file stores its pixels.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal

IFD_ERRORS = (OSError, ValueError, OverflowError, struct.error)
"""The errors of reading an IFD from a file that is damaged or cannot be read."""

SHORT, LONG, RATIONAL, DOUBLE, IFD = 3, 4, 5, 12, 13
LONG8, SLONG8, IFD8 = 16, 17, 18  # only in BigTIFF
# One value of each field type, from 1 (BYTE) to 13 (IFD), in struct's letters.
_VALUE_FORMATS = dict(enumerate(["B", "B", "H", "I", "II", "B", "B", "H", "I", "II", "I", "Q", "I"], start=1))
_BIGTIFF_VALUE_FORMATS = {LONG8: "Q", SLONG8: "Q", IFD8: "Q"}
_MAX_ENTRIES = 4096

MAX_BYTES = 60_000
"""Largest block that is written: JPEG has one segment for it, and libvips' EXIF library gives up at 64 kB elsewhere."""

_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x0112, 0x011A, 0x011B, 0x0128
_INCHES = 2
_MM_PER_INCH = 25.4
_EXIF_IFD, _GPS_IFD, _INTEROPERABILITY_IFD = 0x8769, 0x8825, 0xA005
_PREFIX = b"Exif\0\0"

_IMAGE_DESCRIPTION, _MAKER_NOTE = 0x010E, 0x927C
_COLOUR_SPACE, _PIXEL_WIDTH, _PIXEL_HEIGHT = 0xA001, 0xA002, 0xA003
_PICTURE_TAGS = frozenset(
    # description, make, model, software, date, artist, computer, rating, per cent, copyright, Windows' titles
    [_IMAGE_DESCRIPTION, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298, *range(0x9C9B, 0x9CA0)]
)
_ARRAY_DESCRIPTIONS = (b'{"', b"<", b"ImageJ=", b"shape=", b"SCI")  # how descriptions of the array in a file begin
_MAX_VALUES_BYTES = 50_000


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


@dataclass
class ExifTags:
    """Tags by the IFD that holds them; from the TIFF IFD only those that describe the picture, not the file.

    layout: the byte order of their values.
    """

    layout: TiffLayout
    tiff_ifd: dict[int, TagValue] = field(default_factory=dict)
    exif_ifd: dict[int, TagValue] = field(default_factory=dict)
    gps_ifd: dict[int, TagValue] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.tiff_ifd or self.exif_ifd or self.gps_ifd)

    def in_file(self, layout: TiffLayout, *, size: tuple[int, int], is_srgb: bool) -> ExifTags:
        """The tags in this byte order, with this width and height, and sRGB for sRGB pixels, where they name them."""
        tiff_ifd, exif_ifd, gps_ifd = (
            {tag: with_byte_order(value, self.layout, layout) for tag, value in tags.items()}
            for tags in (self.tiff_ifd, self.exif_ifd, self.gps_ifd)
        )
        for tag, pixels in zip((_PIXEL_WIDTH, _PIXEL_HEIGHT), size, strict=True):
            if tag in exif_ifd:
                exif_ifd[tag] = TagValue(LONG, 1, layout.pack("I", pixels))
        if is_srgb and _COLOUR_SPACE in exif_ifd:
            exif_ifd[_COLOUR_SPACE] = TagValue(SHORT, 1, layout.pack("H", 1))
        return ExifTags(layout, tiff_ifd, exif_ifd, gps_ifd)

    def pack_sub_ifds(self, at: int) -> tuple[bytes, dict[int, TagValue]]:
        """The EXIF and GPS IFDs, packed for an even offset, and the tags of the TIFF IFD that point to them."""
        data, pointers = b"", {}
        for tag, tags in ((_EXIF_IFD, self.exif_ifd), (_GPS_IFD, self.gps_ifd)):
            if tags:
                offset = at + len(data)
                field_type = LONG8 if self.layout.is_bigtiff else LONG
                pointers[tag] = TagValue(field_type, 1, self.layout.pack(self.layout.offset_format, offset))
                data += pack_ifd(tags, self.layout, at=offset)
        return data, pointers

    def to_block(self) -> bytes:
        """An EXIF block of these tags, with "Exif\\0\\0" in front."""
        layout, first_ifd = TiffLayout(self.layout.byte_order), 8
        tags = ExifTags(layout, self.tiff_ifd, self.exif_ifd, self.gps_ifd)
        _, pointers = tags.pack_sub_ifds(0)
        length = len(pack_ifd(self.tiff_ifd | pointers, layout, at=first_ifd))
        sub_ifds, pointers = tags.pack_sub_ifds(first_ifd + length)
        header = (b"II" if layout.byte_order == "<" else b"MM") + layout.pack("HI", 42, first_ifd)
        return _PREFIX + header + pack_ifd(self.tiff_ifd | pointers, layout, at=first_ifd) + sub_ifds


def read_exif_tags(file: BinaryIO) -> ExifTags:
    """The tags in a TIFF file, or in an EXIF block without prefix; broken values and those beyond 50 kB are left out.

    Raises: :data:`IFD_ERRORS` if the TIFF IFD cannot be read.
    """
    layout, first_ifd = read_header(file)
    entries, _ = read_ifd(file, layout, first_ifd)
    result, room = ExifTags(layout), _MAX_VALUES_BYTES
    pointers: dict[int, int] = {}
    for entry in entries:
        if entry.tag in (_EXIF_IFD, _GPS_IFD) and entry.count == 1:
            value = read_value(file, layout, entry, max_bytes=8)
            if value is not None and value.field_type in (LONG, IFD, LONG8, IFD8):
                pointers[entry.tag] = layout.integer(value.data)
        elif entry.tag in _PICTURE_TAGS:
            room -= _keep(file, layout, entry, result.tiff_ifd, room)
    described = result.tiff_ifd.get(_IMAGE_DESCRIPTION)
    if described is not None and described.data.startswith(_ARRAY_DESCRIPTIONS):
        del result.tiff_ifd[_IMAGE_DESCRIPTION]
    for tag, tags in ((_EXIF_IFD, result.exif_ifd), (_GPS_IFD, result.gps_ifd)):
        if tag in pointers:
            try:
                entries, _ = read_ifd(file, layout, pointers[tag])
            except IFD_ERRORS:
                continue
            for entry in entries:
                if entry.tag not in (_MAKER_NOTE, _INTEROPERABILITY_IFD):
                    room -= _keep(file, layout, entry, tags, room)
    return result


def exif_tags_of(block: bytes) -> ExifTags:
    """The tags in an EXIF block, with or without "Exif\\0\\0" in front; see :func:`read_exif_tags`."""
    return read_exif_tags(io.BytesIO(block.removeprefix(_PREFIX)))


def _keep(file: BinaryIO, layout: TiffLayout, entry: IfdEntry, tags: dict[int, TagValue], room: int) -> int:
    """Add an entry's values to the tags; returns how many bytes of the room they took."""
    try:
        value = read_value(file, layout, entry, max_bytes=room)
    except IFD_ERRORS:
        return 0
    if value is None or value.field_type in (LONG8, SLONG8, IFD8) or len(value.data) + 12 > room:
        return 0
    tags.setdefault(entry.tag, value)
    return len(value.data) + 12


def upright(block: bytes) -> bytes | None:
    """The block with orientation 1 and without its thumbnail; None if it cannot be parsed.

    block: libvips' exif-data: a TIFF header and IFDs, with or without "Exif\\0\\0" in front.
    """
    try:
        edited = _edited(block, {_ORIENTATION: 1}, {})
    except IFD_ERRORS:
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
    except IFD_ERRORS:
        return block


def carrier(block: bytes, jpeg: bytes) -> bytes:
    """A JPEG file with the block in it: libvips parses EXIF only when it loads a file.

    jpeg: a JPEG without metadata except its JFIF header, whose resolution is removed.
    """
    payload = block if block.startswith(_PREFIX) else _PREFIX + block
    segment = b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload
    jfif_unit = 13
    return jpeg[:2] + segment + jpeg[2:jfif_unit] + b"\0" + jpeg[jfif_unit + 1 :]


def _edited(block: bytes, shorts: Mapping[int, int], thousandths: Mapping[int, int]) -> bytes:
    """The block with these values where its TIFF IFD has the tags, and without the next IFD, which is the thumbnail's.

    Raises: :data:`IFD_ERRORS`.
    """
    tiff = bytearray(block.removeprefix(_PREFIX))
    file = io.BytesIO(tiff)
    layout, first_ifd = read_header(file)
    if layout.is_bigtiff:
        raise struct.error("no EXIF")
    entries, _ = read_ifd(file, layout, first_ifd)

    def write(at: int, letters: str, *values: int) -> None:
        struct.pack_into(layout.byte_order + letters, tiff, at, *values)

    for entry in entries:
        if entry.tag in shorts:
            write(entry.at + 2, "HIHH", SHORT, 1, shorts[entry.tag], 0)
        elif entry.tag in thousandths and entry.field_type == RATIONAL:
            write(layout.integer(entry.value_or_offset), "II", thousandths[entry.tag], 1000)
    write(first_ifd + 2 + 12 * len(entries), "I", 0)
    return block[: len(block) - len(tiff)] + bytes(tiff)


def _end(block: bytes) -> int:
    """Where the last data that the IFDs point to ends, except the thumbnail; the end of the block if unclear."""
    prefix = len(block) - len(block.removeprefix(_PREFIX))
    file, ends, seen = io.BytesIO(block[prefix:]), [8], set()
    try:
        layout, first_ifd = read_header(file)
        waiting = [first_ifd]
        while waiting:
            at = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            entries, _ = read_ifd(file, layout, at)
            ends.append(file.tell())
            for entry in entries:
                extent = value_extent(layout, entry)
                if extent is not None:
                    ends.append(sum(extent))
                elif entry.tag in (_EXIF_IFD, _GPS_IFD, _INTEROPERABILITY_IFD):
                    waiting.append(layout.integer(entry.value_or_offset))
    except IFD_ERRORS:
        return len(block)
    return min(prefix + max(ends), len(block))
