"""EXIF blocks: edited in place, and their tags, taken out so that they can move to another block or file.

Maker's notes hold undocumented offsets: in a block that is kept nothing may move, and Pillow's Exif would rewrite it.
When tags move, these notes stay behind, and so do tags that say how a file stores its pixels.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from srflow_sdk.files.metadata import ifd
from srflow_sdk.files.metadata.ifd import IfdEntry, TagValue, TiffLayout

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
            {tag: ifd.with_byte_order(value, self.layout, layout) for tag, value in tags.items()}
            for tags in (self.tiff_ifd, self.exif_ifd, self.gps_ifd)
        )
        for tag, pixels in zip((_PIXEL_WIDTH, _PIXEL_HEIGHT), size, strict=True):
            if tag in exif_ifd:
                exif_ifd[tag] = TagValue(ifd.LONG, 1, layout.pack("I", pixels))
        if is_srgb and _COLOUR_SPACE in exif_ifd:
            exif_ifd[_COLOUR_SPACE] = TagValue(ifd.SHORT, 1, layout.pack("H", 1))
        return ExifTags(layout, tiff_ifd, exif_ifd, gps_ifd)

    def pack_sub_ifds(self, at: int) -> tuple[bytes, dict[int, TagValue]]:
        """The EXIF and GPS IFDs, packed for an even offset, and the tags of the TIFF IFD that point to them."""
        data, pointers = b"", {}
        for tag, tags in ((_EXIF_IFD, self.exif_ifd), (_GPS_IFD, self.gps_ifd)):
            if tags:
                offset = at + len(data)
                field_type = ifd.LONG8 if self.layout.is_bigtiff else ifd.LONG
                pointers[tag] = TagValue(field_type, 1, self.layout.pack(self.layout.offset_format, offset))
                data += ifd.pack_ifd(tags, self.layout, at=offset)
        return data, pointers

    def to_block(self) -> bytes:
        """An EXIF block of these tags, with "Exif\\0\\0" in front."""
        layout, first_ifd = TiffLayout(self.layout.byte_order), 8
        tags = ExifTags(layout, self.tiff_ifd, self.exif_ifd, self.gps_ifd)
        _, pointers = tags.pack_sub_ifds(0)
        length = len(ifd.pack_ifd(self.tiff_ifd | pointers, layout, at=first_ifd))
        sub_ifds, pointers = tags.pack_sub_ifds(first_ifd + length)
        header = (b"II" if layout.byte_order == "<" else b"MM") + layout.pack("HI", 42, first_ifd)
        return _PREFIX + header + ifd.pack_ifd(self.tiff_ifd | pointers, layout, at=first_ifd) + sub_ifds


def read_exif_tags(file: BinaryIO) -> ExifTags:
    """The tags in a TIFF file, or in an EXIF block without prefix; broken values and those beyond 50 kB are left out.

    Raises: :data:`~srflow_sdk.files.metadata.ifd.IFD_ERRORS` if the TIFF IFD cannot be read.
    """
    layout, first_ifd = ifd.read_header(file)
    entries, _ = ifd.read_ifd(file, layout, first_ifd)
    result, room = ExifTags(layout), _MAX_VALUES_BYTES
    pointers: dict[int, int] = {}
    for entry in entries:
        if entry.tag in (_EXIF_IFD, _GPS_IFD) and entry.count == 1:
            value = ifd.read_value(file, layout, entry, max_bytes=8)
            if value is not None and value.field_type in (ifd.LONG, ifd.IFD, ifd.LONG8, ifd.IFD8):
                pointers[entry.tag] = layout.integer(value.data)
        elif entry.tag in _PICTURE_TAGS:
            room -= _keep(file, layout, entry, result.tiff_ifd, room)
    described = result.tiff_ifd.get(_IMAGE_DESCRIPTION)
    if described is not None and described.data.startswith(_ARRAY_DESCRIPTIONS):
        del result.tiff_ifd[_IMAGE_DESCRIPTION]
    for tag, tags in ((_EXIF_IFD, result.exif_ifd), (_GPS_IFD, result.gps_ifd)):
        if tag in pointers:
            try:
                entries, _ = ifd.read_ifd(file, layout, pointers[tag])
            except ifd.IFD_ERRORS:
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
        value = ifd.read_value(file, layout, entry, max_bytes=room)
    except ifd.IFD_ERRORS:
        return 0
    if value is None or value.field_type in (ifd.LONG8, ifd.SLONG8, ifd.IFD8) or len(value.data) + 12 > room:
        return 0
    tags.setdefault(entry.tag, value)
    return len(value.data) + 12


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
    payload = block if block.startswith(_PREFIX) else _PREFIX + block
    segment = b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload
    jfif_unit = 13
    return jpeg[:2] + segment + jpeg[2:jfif_unit] + b"\0" + jpeg[jfif_unit + 1 :]


def _edited(block: bytes, shorts: Mapping[int, int], thousandths: Mapping[int, int]) -> bytes:
    """The block with these values where its TIFF IFD has the tags, and without the next IFD, which is the thumbnail's.

    Raises: :data:`~srflow_sdk.files.metadata.ifd.IFD_ERRORS`.
    """
    tiff = bytearray(block.removeprefix(_PREFIX))
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
    prefix = len(block) - len(block.removeprefix(_PREFIX))
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
                elif entry.tag in (_EXIF_IFD, _GPS_IFD, _INTEROPERABILITY_IFD):
                    waiting.append(layout.integer(entry.value_or_offset))
    except ifd.IFD_ERRORS:
        return len(block)
    return min(prefix + max(ends), len(block))
