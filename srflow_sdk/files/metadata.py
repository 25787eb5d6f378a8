"""Metadata that travels with the pixels of a file: colour profile, EXIF, XMP, IPTC, resolution."""

from __future__ import annotations

import logging
import math
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from srflow_sdk.files import exif
from srflow_sdk.files.formats import Format
from srflow_sdk.files.tiff import GeoTags
from srflow_sdk.pixels.colour import PROFILE_FIELD, PROFILE_HEADER_BYTES, profile_space
from srflow_sdk.system import libvips

_LOGGER = logging.getLogger(__name__)

# Libvips' names of the blocks, what they are called, and how many bytes are read.
_BLOCKS = {
    "icc_profile": (PROFILE_FIELD, "colour profile", 4 << 20),
    "exif": ("exif-data", "EXIF block", 1 << 20),
    "xmp": ("xmp-data", "XMP packet", 1 << 20),
    "iptc": ("iptc-data", "IPTC block", 60_000),
}
_UNNAMED_RESOLUTION = 72 / 25.4  # in EXIF that needs one: what software assumes where none is known
_MAX_RESOLUTION = 1e5  # pixels per mm
_THUMBNAIL_PREFIX = "exif-ifd1-"
# how JPEGs store it: one of Photoshop's image resources
_PHOTOSHOP = b"Photoshop 3.0\0"
_IPTC = b"8BIM\4\4\0\0"
_COLOUR_SPACE = "exif-ifd2-ColorSpace"
_SRGB = "1 (sRGB, Short, 1 components, 2 bytes)"


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Metadata that travels from file to file with the pixels; all of it is optional.

    Attributes:
        icc_profile: the pixel values' profile, exactly as in the file, possibly damaged; None means
            sRGB.
        exif: the block, with orientation 1 and without a thumbnail; camera, exposure, GPS and notes
            are kept.
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
        """The metadata of an image with more pixels, so that it prints at the same size.

        Args:
            scale: output pixels for each input pixel, a side.
            sides: how many times as many columns and rows there are exactly, so that it covers the
                same ground.
        """
        geo = None if self.geo is None else self.geo.enlarged(*sides or (scale, scale))
        resolution = (
            None
            if self.resolution is None
            else (self.resolution[0] * scale, self.resolution[1] * scale)
        )
        return replace(self, resolution=resolution, geo=geo)


def read_metadata(
    image: Any, path: Path, *, converted: bool, swapped: bool, geo: GeoTags | None
) -> Metadata:
    """The metadata of an opened libvips image.

    What is damaged or absurdly large is logged. swapped: x and y.
    """
    blocks: dict[str, Any] = {}
    for name, (field, *_) in _BLOCKS.items():
        block = libvips.get_field(image, field)
        blocks[name] = block if block and _fits(block, name, path) else None
    if converted:
        blocks["icc_profile"] = None
        if image.interpretation == "cmyk" and not image.get_typeof(PROFILE_FIELD):
            says = "%s: CMYK without a colour profile: its colours are those that browsers show"
            _LOGGER.warning(says, path)
    elif (profile := blocks["icc_profile"]) and _declared_bytes(profile) > PROFILE_HEADER_BYTES:
        # Cut to its declared length: some software pads profiles, and libvips and others then
        # refuse them.
        blocks["icc_profile"] = profile[: _declared_bytes(profile)]
    if (block := blocks["exif"]) is not None:
        blocks["exif"] = exif.mark_upright(block)
        if blocks["exif"] is None:
            _LOGGER.warning("%s: EXIF block left out: it is damaged", path)
    block = blocks["iptc"]
    if block is not None and not block.startswith(b"\x1c"):  # Photoshop's resources
        _, _, records = block.partition(_IPTC)
        blocks["iptc"] = records[4 : 4 + int.from_bytes(records[:4], "big")] or None
    resolution = _resolution(image)
    # WebP and AVIF have no other place for it
    if resolution is None and blocks["exif"] is not None:
        loaded = _load_block(blocks["exif"])
        resolution = _resolution(loaded) if loaded is not None else None
    if resolution is not None and swapped:
        resolution = (resolution[1], resolution[0])
    return Metadata(**blocks, resolution=resolution, geo=geo)


def attach(image: Any, metadata: Metadata, path: Path, *, kind: Format) -> tuple[Any, str]:
    """A libvips image with all that the format can hold, and what its saver is to keep.

    The rest is logged.
    """
    pyvips = libvips.pyvips()
    x, y = resolution = metadata.resolution or (_UNNAMED_RESOLUTION, _UNNAMED_RESOLUTION)
    image = image.copy(xres=x, yres=y)
    has_profile = metadata.icc_profile is not None and _profile_fits(
        metadata.icc_profile, image.bands, path
    )
    if has_profile:
        image.set_type(pyvips.GValue.blob_type, PROFILE_FIELD, metadata.icc_profile)
        if image.bands <= 2 and not kind.holds_gray:  # to RGB that looks the same without a profile
            options = {"intent": "relative", "black_point_compensation": True, "depth": 8}
            image = image.icc_transform("srgb", embedded=True, **options).copy()
            image.remove(PROFILE_FIELD)
            has_profile = False
    if metadata.xmp is not None and _fits(metadata.xmp, "xmp", path, kind.max_xmp):
        image.set_type(pyvips.GValue.blob_type, "xmp-data", metadata.xmp)
    records = metadata.iptc if kind.holds_iptc else None
    if records is not None and _fits(records, "iptc", path):
        resource = (
            _PHOTOSHOP + _IPTC + struct.pack(">I", len(records)) + records + bytes(len(records) % 2)
        )
        image.set_type(pyvips.GValue.blob_type, "iptc-data", resource)
    block = None
    if metadata.exif is not None and not kind.has_directories:
        block = exif.mark_upright(metadata.exif, resolution)
    loaded = (
        _load_block(block)
        if block is not None and _fits(block, "exif", path, exif.MAX_BYTES)
        else None
    )
    if loaded is not None:
        # Also set the entries one by one: savers drop entries of the block that are not on the
        # image.
        for key in loaded.get_fields():
            if key.startswith("exif-") and not key.startswith(_THUMBNAIL_PREFIX):
                image.set_type(loaded.get_typeof(key), key, loaded.get(key))
    # libvips would write "uncalibrated"
    if not has_profile and (loaded is None or image.get_typeof(_COLOUR_SPACE)):
        image.set_type(pyvips.GValue.gstr_type, _COLOUR_SPACE, _SRGB)
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)
    # libvips would write an EXIF block in any case. WebP, JPEG and AVIF need one for the
    # resolution.
    needs_exif = metadata.exif or (metadata.resolution and kind.forget_resolution is None)
    return image, "all" if needs_exif else "xmp:iptc:icc:other"


def _fits(block: bytes, name: str, path: Path, limit: int | None = None) -> bool:
    _, called, most = _BLOCKS[name]
    most = limit or most
    if len(block) > most:
        says = "%s: %s left out: its %d bytes exceed the limit of %d"
        _LOGGER.warning(says, path, called, len(block), most)
    return len(block) <= most


def _profile_fits(profile: bytes, channels: int, path: Path) -> bool:
    """True if a profile is complete and for the pixels' gray or RGB.

    Libvips may refuse to write others.
    """
    space = profile_space(profile)
    expected = b"GRAY" if channels <= 2 else b"RGB "
    if space is None or _declared_bytes(profile) != len(profile):
        why = "it is damaged"
    elif space != expected:
        why = f"it is for {space!r} values, but the pixels are {expected!r}"
    else:
        return _fits(profile, "icc_profile", path)
    _LOGGER.warning("%s: colour profile left out: %s", path, why)
    return False


def _resolution(image: Any) -> tuple[float, float] | None:
    x, y = float(image.xres), float(image.yres)
    # For files without a resolution libvips gives 1 or 72 dots per inch; only a PNG's rounding, or
    # other formats' unit, tells that from a real value.
    is_png = image.get("vips-loader").startswith("pngload")
    if x == y and (
        x in (1.0, 2.834) if is_png else x == 1.0 or not image.get_typeof("resolution-unit")
    ):
        return None
    if not all(math.isfinite(value) and 0 < value < _MAX_RESOLUTION for value in (x, y)):
        return None
    return x, y


def _load_block(block: bytes) -> Any | None:
    """A libvips image loaded with this EXIF; None if the block is too large or cannot be parsed."""
    if len(block) > exif.MAX_BYTES:
        return None
    pyvips = libvips.pyvips()
    libvips.start_threads()
    jpeg = pyvips.Image.black(1, 1).jpegsave_buffer(keep="none")
    try:
        return pyvips.Image.jpegload_buffer(exif.put_in_jpeg(block, jpeg))
    except pyvips.Error:
        return None


def _declared_bytes(profile: bytes) -> int:
    """The length in bytes that the profile declares."""
    return int.from_bytes(profile[:4], "big")
