"""Metadata that travels with the pixels of a file: colour profile, EXIF, XMP, IPTC, resolution."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from srflow_sdk.files import exif, libvips
from srflow_sdk.files.formats import Format
from srflow_sdk.files.tiff import GeoTags

_LOGGER = logging.getLogger(__name__)

PROFILE_FIELD = "icc-profile-data"
"""libvips' name for an image's ICC profile."""

PROFILE_HEADER_BYTES = 128
"""Length of a profile's header (ICC.1:2022, section 7.2); the tag table follows."""

_MAX_BYTES = {"icc_profile": 4 << 20, "exif": 1 << 20, "xmp": 1 << 20, "iptc": 60_000}  # that are read
_NAMES = {"icc_profile": "colour profile", "exif": "EXIF block", "xmp": "XMP packet", "iptc": "IPTC block"}
_FIELDS = {"icc_profile": PROFILE_FIELD, "exif": "exif-data", "xmp": "xmp-data", "iptc": "iptc-data"}
_UNNAMED_RESOLUTION = 72 / 25.4  # in EXIF that needs one: what software assumes where none is known
_MAX_RESOLUTION = 1e5  # pixels per mm
_THUMBNAIL_PREFIX = "exif-ifd1-"
_PHOTOSHOP = b"Photoshop 3.0\0"
_RESOURCE = b"8BIM"
_IPTC = 0x0404  # its number among Photoshop's image resources
_PNG_SIGNATURE, _MAX_CHUNKS = 8, 1 << 20
_COLOUR_SPACE, _SRGB = "exif-ifd2-ColorSpace", "1 (sRGB, Short, 1 components, 2 bytes)"


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Metadata that travels from file to file with the pixels; all of it is optional.

    Attributes:
        icc_profile: the pixel values' profile, exactly as in the file, possibly damaged; None means sRGB.
        exif: the block, with orientation 1 and without a thumbnail; camera, exposure, GPS and notes are kept.
        xmp: the packet, exactly as in the file.
        iptc: only the records.
        resolution: pixels per mm, x and y; None if the file has none.
        geo: a GeoTIFF's tags.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    resolution: tuple[float, float] | None = None
    geo: GeoTags | None = None

    def enlarged(self, scale: float, *, sides: tuple[float, float] | None = None) -> Metadata:
        """The metadata of an image with `scale` times as many pixels a side, so that it prints at the same size.

        Args:
            scale: output pixels for each input pixel, a side.
            sides: how many times as many columns and rows there are exactly, so that it covers the same ground.
        """
        geo = None if self.geo is None else self.geo.enlarged(*sides or (scale, scale))
        resolution = None if self.resolution is None else (self.resolution[0] * scale, self.resolution[1] * scale)
        return dataclasses.replace(self, resolution=resolution, geo=geo)


def metadata_of(image: Any, path: Path, *, converted: bool, swapped: bool) -> Metadata:
    """The metadata of an opened libvips image. Damaged and absurdly large blocks are left out, and logged.

    path: the file, for the log. converted: whether the values were converted to sRGB, so that the file's profile no
    longer applies. swapped: whether applying the orientation exchanges x and y.
    """
    found = {name: libvips.get_field(image, key) for name, key in _FIELDS.items()}
    blocks: dict[str, Any] = dict.fromkeys(_FIELDS)
    blocks |= {name: block for name, block in found.items() if block and _fits(block, name, path)}
    profile = blocks["icc_profile"] = None if converted else blocks["icc_profile"]
    if profile is not None and _declared_bytes(profile) > PROFILE_HEADER_BYTES:
        # Cut to its declared length: some software pads profiles, and libvips and others then refuse them.
        blocks["icc_profile"] = profile[: _declared_bytes(profile)]
    if blocks["exif"] is not None:
        blocks["exif"] = exif.upright(blocks["exif"])
        if blocks["exif"] is None:
            _LOGGER.warning("%s: EXIF block left out: it is damaged", path)
    if blocks["iptc"] is not None:
        blocks["iptc"] = _iptc_records(blocks["iptc"])
    resolution = _resolution(image)
    if resolution is None and blocks["exif"] is not None:  # WebP and AVIF have no other place for it
        loaded = _loaded(blocks["exif"])
        resolution = _resolution(loaded) if loaded is not None else None
    if resolution is not None and swapped:
        resolution = (resolution[1], resolution[0])
    return Metadata(**blocks, resolution=resolution)


def attach(image: Any, metadata: Metadata, path: Path, *, kind: Format) -> tuple[Any, str]:
    """A libvips image with the metadata set for a saver, which updates EXIF's dimensions itself, and what it keeps.

    What the format or libvips cannot hold is left out, and logged: only JPEG has IPTC that other software reads, and it
    has little room for XMP. Gray with a profile becomes sRGB if the format has no gray. libvips always writes a
    resolution: if there is none, forget it afterwards. path: the file, for the log.
    """
    pyvips = libvips.pyvips()
    x, y = resolution = metadata.resolution or (_UNNAMED_RESOLUTION, _UNNAMED_RESOLUTION)
    image = image.copy(xres=x, yres=y)
    has_profile = metadata.icc_profile is not None and _profile_fits(metadata.icc_profile, image.bands, path)
    if has_profile:
        image.set_type(pyvips.GValue.blob_type, _FIELDS["icc_profile"], metadata.icc_profile)
        if image.bands <= 2 and not kind.holds_gray:  # to RGB that looks the same without a profile
            options = {"intent": "relative", "black_point_compensation": True, "depth": 8}
            image = image.icc_transform("srgb", embedded=True, **options).copy()
            image.remove(_FIELDS["icc_profile"])
            has_profile = False
    if metadata.xmp is not None and _fits(metadata.xmp, "xmp", path, limit=kind.max_xmp):
        image.set_type(pyvips.GValue.blob_type, _FIELDS["xmp"], metadata.xmp)
    if metadata.iptc is not None and kind.saver == "jpegsave" and _fits(metadata.iptc, "iptc", path):
        image.set_type(pyvips.GValue.blob_type, _FIELDS["iptc"], _photoshop_block(metadata.iptc))
    block = metadata.exif if kind.saver != "tiffsave" else None  # see tiff.complete
    loaded = _loaded(exif.with_resolution(block, resolution)) if block is not None else None
    if loaded is not None:
        # Also set the entries one by one: savers drop entries of the block that are not on the image.
        for key in loaded.get_fields():
            if key.startswith("exif-") and not key.startswith(_THUMBNAIL_PREFIX):
                image.set_type(loaded.get_typeof(key), key, loaded.get(key))
    if not has_profile and (loaded is None or image.get_typeof(_COLOUR_SPACE)):  # libvips would write "uncalibrated"
        image.set_type(pyvips.GValue.gstr_type, _COLOUR_SPACE, _SRGB)
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)
    # libvips would write an EXIF block in any case. WebP, JPEG and AVIF need one for the resolution.
    needs_exif = metadata.exif or (metadata.resolution and kind.saver not in ("pngsave", "tiffsave"))
    return image, "all" if needs_exif else "xmp:iptc:icc:other"


def fitting_exif(block: bytes, path: Path) -> bytes | None:
    """The block, or as much of it as can be written; what is left out is logged. path: the file, for the log."""
    if len(block) <= exif.MAX_BYTES:
        return block
    _LOGGER.warning(
        "%s: EXIF of %d bytes exceeds the limit of %d: maker's notes and long values are left out",
        path,
        len(block),
        exif.MAX_BYTES,
    )
    try:
        tags = exif.exif_tags_of(block)
    except exif.IFD_ERRORS:
        return None
    return tags.to_block() if tags else None


def _fits(block: bytes, name: str, path: Path, *, limit: int | None = None) -> bool:
    limit = limit or _MAX_BYTES[name]
    if len(block) > limit:
        _LOGGER.warning("%s: %s left out: its %d bytes exceed the limit of %d", path, _NAMES[name], len(block), limit)
    return len(block) <= limit


def _profile_fits(profile: bytes, channels: int, path: Path) -> bool:
    """True if a profile is complete and for the pixels' gray or RGB; libvips may refuse to write others."""
    space, wanted = profile_space(profile), b"GRAY" if channels <= 2 else b"RGB "
    if space is None or _declared_bytes(profile) != len(profile):
        why = "it is damaged"
    elif space != wanted:
        why = f"it is for {space!r} values, but the pixels are {wanted!r}"
    else:
        return _fits(profile, "icc_profile", path)
    _LOGGER.warning("%s: colour profile left out: %s", path, why)
    return False


def _resolution(image: Any) -> tuple[float, float] | None:
    x, y = float(image.xres), float(image.yres)
    # For files without a resolution libvips gives 1 or 72 dots per inch; only a PNG's rounding, or other formats' unit,
    # tells that from a real value.
    is_png = image.get("vips-loader").startswith("pngload")
    if x == y and (x in (1.0, 2.834) if is_png else x == 1.0 or not image.get_typeof("resolution-unit")):
        return None
    if not all(math.isfinite(value) and 0 < value < _MAX_RESOLUTION for value in (x, y)):
        return None
    return x, y


def _loaded(block: bytes) -> Any | None:
    """A libvips image loaded with this EXIF; None if the block is too large or cannot be parsed."""
    if len(block) > exif.MAX_BYTES:
        return None
    pyvips = libvips.pyvips()
    libvips.start_threads()
    jpeg = pyvips.Image.black(1, 1).jpegsave_buffer(keep="none")
    try:
        return pyvips.Image.jpegload_buffer(exif.carrier(block, jpeg))
    except pyvips.Error:
        return None


def _iptc_records(block: bytes) -> bytes | None:
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


def _photoshop_block(records: bytes) -> bytes:
    """The records as JPEG files store them: one of Photoshop's image resources."""
    resource = struct.pack(">4sHHI", _RESOURCE, _IPTC, 0, len(records))
    return _PHOTOSHOP + resource + records + bytes(len(records) % 2)


def profile_space(profile: bytes) -> bytes | None:
    """A profile's colour space, e.g. b"RGB " or b"GRAY"; None if this is not a profile or has no room for a tag."""
    if len(profile) <= PROFILE_HEADER_BYTES + 4 or profile[36:40] != b"acsp":
        return None
    return profile[16:20]


def _declared_bytes(profile: bytes) -> int:
    """The length in bytes that the profile declares."""
    return int.from_bytes(profile[:4], "big")


def exif_behind_pixels(path: Path) -> bytes | None:
    """The EXIF block behind the pixels of a PNG, where ImageMagick writes it and libvips does not look."""
    behind = False
    with contextlib.suppress(OSError, struct.error), path.open("rb") as file:
        for kind, size in _png_chunks(file):
            behind |= kind == b"IDAT"
            if behind and kind == b"eXIf" and 0 < size <= _MAX_BYTES["exif"]:
                block, (checksum,) = file.read(size), struct.unpack(">I", file.read(4))
                return block if checksum == zlib.crc32(block, zlib.crc32(kind)) else None
    return None


def forget_png_resolution(descriptor: int) -> None:
    """Make a complete PNG say that its pixels are square, instead of how many go into a metre.

    Nothing has to move so; without the chunk, everything behind it would. Raises: OSError.
    """
    with os.fdopen(os.dup(descriptor), "r+b") as file:
        for kind, _ in _png_chunks(file):
            if kind == b"pHYs":
                square = kind + struct.pack(">IIB", 1, 1, 0)
                file.seek(-len(kind), os.SEEK_CUR)
                file.write(square + struct.pack(">I", zlib.crc32(square)))
            if kind in (b"pHYs", b"IDAT"):
                return


def _png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The kind and length of each chunk; the file then stands where its data begin. Raises: OSError, struct.error."""
    at = _PNG_SIGNATURE
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        yield kind, size
        if kind == b"IEND":
            return
        at += size + 12
