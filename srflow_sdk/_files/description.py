"""What EXIF tells of a picture and how it was taken, taken out of its directories so that it can move to other files.

What tells how a file keeps its pixels stays behind, and maker's notes, whose offsets nobody knows how to change.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field
from typing import BinaryIO

from srflow_sdk._files import directories
from srflow_sdk._files.directories import LONG, LONG8, SHORT, Layout, Value

EXIF_DIRECTORY, GPS_DIRECTORY = 0x8769, 0x8825
PREFIX = b"Exif\0\0"

_IMAGE_DESCRIPTION, _MAKER_NOTE, _INTEROPERABILITY = 0x010E, 0x927C, 0xA005
_COLOUR_SPACE, _PIXEL_WIDTH, _PIXEL_HEIGHT = 0xA001, 0xA002, 0xA003
_OF_THE_PICTURE = frozenset(
    # description, make, model, software, date, artist, computer, rating, per cent, copyright, Windows' titles
    [_IMAGE_DESCRIPTION, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298, *range(0x9C9B, 0x9CA0)]
)
_OF_MACHINES = (b'{"', b"<", b"ImageJ=", b"shape=", b"SCI")  # descriptions that tell of the array in the file
_MAX_BYTES = 50_000  # of all values


@dataclass
class Description:
    """Tags of the picture, of how it was taken, and of where, with the layout that their values are in."""

    layout: Layout
    picture: dict[int, Value] = field(default_factory=dict)
    taking: dict[int, Value] = field(default_factory=dict)
    place: dict[int, Value] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.picture or self.taking or self.place)

    def in_layout(self, layout: Layout) -> Description:
        """The same in another byte order."""
        old = self.layout
        return Description(
            layout,
            *(
                {tag: directories.reordered(held, old, layout) for tag, held in tags.items()}
                for tags in (self.picture, self.taking, self.place)
            ),
        )

    def of_size(self, size: tuple[int, int], *, is_srgb: bool) -> Description:
        """The same with another width and height where it names them, and sRGB where it names a colour space."""
        taking = dict(self.taking)
        for tag, pixels in zip((_PIXEL_WIDTH, _PIXEL_HEIGHT), size, strict=True):
            if tag in taking:
                taking[tag] = Value(LONG, 1, struct.pack(f"{self.layout.order}I", pixels))
        if is_srgb and _COLOUR_SPACE in taking:
            taking[_COLOUR_SPACE] = Value(SHORT, 1, struct.pack(f"{self.layout.order}H", 1))
        return Description(self.layout, self.picture, taking, self.place)

    def directories_at(self, at: int) -> tuple[bytes, dict[int, Value]]:
        """The directories of how and where, for an even offset, and the entries that point to them."""
        data, pointers = b"", {}
        for tag, tags in ((EXIF_DIRECTORY, self.taking), (GPS_DIRECTORY, self.place)):
            if tags:
                pointers[tag] = Value(
                    LONG8 if self.layout.big else LONG,
                    1,
                    struct.pack(f"{self.layout.order}{self.layout.offset}", at + len(data)),
                )
                data += directories.packed(tags, self.layout, at=at + len(data))
        return data, pointers

    def block(self) -> bytes:
        """As an EXIF block."""
        layout, first = Layout(self.layout.order), 8
        same = Description(layout, self.picture, self.taking, self.place)
        _, pointers = same.directories_at(0)
        length = len(directories.packed(self.picture | pointers, layout, at=first))
        others, pointers = same.directories_at(first + length)
        head = (b"II" if layout.order == "<" else b"MM") + struct.pack(f"{layout.order}HI", 42, first)
        return PREFIX + head + directories.packed(self.picture | pointers, layout, at=first) + others


def of_file(file: BinaryIO) -> Description:
    """That of a TIFF file, or of an EXIF block without prefix. Values are left out beyond 50 kB, and broken ones.

    Raises: :data:`~srflow_sdk._files.directories.UNREADABLE` if the first directory cannot be read.
    """
    layout, first = directories.header(file)
    found, _ = directories.entries(file, layout, first)
    result, room = Description(layout), _MAX_BYTES
    pointers: dict[int, int] = {}
    for entry in found:
        if entry.tag in (EXIF_DIRECTORY, GPS_DIRECTORY) and entry.count == 1:
            held = directories.value(file, layout, entry, max_bytes=8)
            if held is not None and held.kind in (LONG, 13, LONG8, 18):
                pointers[entry.tag] = directories.numbers(layout, held)[0]
        elif entry.tag in _OF_THE_PICTURE:
            room -= _keep(file, layout, entry, result.picture, room)
    described = result.picture.get(_IMAGE_DESCRIPTION)
    if described is not None and described.data.startswith(_OF_MACHINES):
        del result.picture[_IMAGE_DESCRIPTION]
    for tag, tags in ((EXIF_DIRECTORY, result.taking), (GPS_DIRECTORY, result.place)):
        if tag in pointers:
            try:
                inner, _ = directories.entries(file, layout, pointers[tag])
            except directories.UNREADABLE:
                continue
            for entry in inner:
                if entry.tag not in (_MAKER_NOTE, _INTEROPERABILITY):
                    room -= _keep(file, layout, entry, tags, room)
    return result


def of_block(block: bytes) -> Description:
    """That of an EXIF block, with "Exif\\0\\0" before it or without; see :func:`of_file`."""
    return of_file(io.BytesIO(block.removeprefix(PREFIX)))


def _keep(file: BinaryIO, layout: Layout, entry: directories.Entry, tags: dict[int, Value], room: int) -> int:
    """Add what an entry holds to the tags; how many bytes it took."""
    try:
        held = directories.value(file, layout, entry, max_bytes=room)
    except directories.UNREADABLE:
        return 0
    if held is None or held.kind in (LONG8, 17, 18) or len(held.data) + 12 > room:
        return 0
    tags.setdefault(entry.tag, held)
    return len(held.data) + 12
