"""What travels with the pixels of a file: colour profile, EXIF, XMP, IPTC, resolution."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from srflow_sdk.files import exif, iptc, libvips

UNNAMED_RESOLUTION = 72 / 25.4
"""Pixels per mm written where none is known: libvips always writes one, and this is what software assumes of files
that name none."""

_MAX_BYTES = {"icc_profile": 4 << 20, "exif": 60_000, "xmp": 1 << 20, "iptc": 60_000}
_FIELDS = {"icc_profile": "icc-profile-data", "exif": "exif-data", "xmp": "xmp-data", "iptc": "iptc-data"}
_MAX_RESOLUTION = 1e5  # pixels per mm


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What travels from file to file beside the pixels; all of it optional.

    icc_profile: of the pixel values; None means sRGB.
    exif: as libvips' exif-data, with orientation 1 and without thumbnail; camera, exposure, GPS and notes are kept.
    xmp: the packet as it stands in the file. iptc: the records alone.
    resolution: pixels per mm, x and y; None where the file names none.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    resolution: tuple[float, float] | None = None

    def enlarged(self, scale: int) -> Metadata:
        """That of an image with `scale` times as many pixels a side, so that it prints at the same size."""
        if self.resolution is None:
            return self
        x, y = self.resolution
        return dataclasses.replace(self, resolution=(x * scale, y * scale))


def metadata_of(image: Any, *, channels: int, converted: bool, swapped: bool) -> Metadata:
    """Read it from an opened libvips image. Blocks that are broken or of absurd size are left out.

    channels: of the pixels as handed on. converted: whether their values were made sRGB, so that the file's profile is
    not theirs. swapped: whether applying the orientation exchanges x and y.
    """
    blocks = {name: _block(image, name) for name in _FIELDS}
    if converted or not _profile_fits(blocks["icc_profile"], channels):
        blocks["icc_profile"] = None
    if blocks["exif"] is not None:
        blocks["exif"] = exif.upright(blocks["exif"])
    if blocks["iptc"] is not None:
        blocks["iptc"] = iptc.captions(blocks["iptc"])
    resolution = _resolution(image)
    if resolution is None and blocks["exif"] is not None:  # WebP and AVIF have no other place for it
        loaded = _loaded(blocks["exif"])
        resolution = _resolution(loaded) if loaded is not None else None
    if resolution is not None and swapped:
        resolution = (resolution[1], resolution[0])
    return Metadata(**blocks, resolution=resolution)


def attach(image: Any, metadata: Metadata, *, jpeg: bool) -> Any:
    """A libvips image with the metadata set, for a saver, which brings EXIF's dimensions up to date itself.

    jpeg: whether it becomes one: only there can libvips write IPTC that others read, and only small XMP packets.
    """
    pyvips = libvips.pyvips()
    x, y = resolution = metadata.resolution or (UNNAMED_RESOLUTION, UNNAMED_RESOLUTION)
    image = image.copy(xres=x, yres=y)
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)
    if metadata.icc_profile is not None and _profile_fits(metadata.icc_profile, image.bands):
        image.set_type(pyvips.GValue.blob_type, _FIELDS["icc_profile"], metadata.icc_profile)
    if metadata.xmp is not None and len(metadata.xmp) <= max_xmp_bytes(jpeg=jpeg):
        image.set_type(pyvips.GValue.blob_type, _FIELDS["xmp"], metadata.xmp)
    if metadata.iptc is not None and jpeg and len(metadata.iptc) <= _MAX_BYTES["iptc"]:
        image.set_type(pyvips.GValue.blob_type, _FIELDS["iptc"], iptc.for_jpeg(metadata.iptc))
    block = exif.upright(metadata.exif) if metadata.exif is not None else None
    loaded = _loaded(exif.with_resolution(block, resolution)) if block is not None else None
    if loaded is not None:
        # The block and its entries one by one too: savers drop the entries of the block that are not on the image.
        for key in loaded.get_fields():
            if key.startswith("exif-"):
                image.set_type(loaded.get_typeof(key), key, loaded.get(key))
    return image


def max_xmp_bytes(*, jpeg: bool) -> int:
    """The largest XMP packet that is written; JPEG has one segment for it."""
    return 65_000 if jpeg else _MAX_BYTES["xmp"]


def _block(image: Any, name: str) -> bytes | None:
    value = libvips.field(image, _FIELDS[name])
    if not isinstance(value, bytes) or not 0 < len(value) <= _MAX_BYTES[name]:
        return None
    return value


def _profile_fits(profile: bytes | None, channels: int) -> bool:
    """Whether it is a profile at all, and for gray or RGB as the pixels are; libvips may refuse to write others."""
    if profile is None or len(profile) < 132 or profile[36:40] != b"acsp":
        return False
    if int.from_bytes(profile[:4], "big") != len(profile):
        return False
    return profile[16:20] == (b"GRAY" if channels <= 2 else b"RGB ")


def _resolution(image: Any) -> tuple[float, float] | None:
    x, y = float(image.xres), float(image.yres)
    # What libvips says where a file names none: 1, or 72 dots per inch, which only a PNG's rounding tells from a true
    # value, and other formats' unit.
    is_png = image.get("vips-loader").startswith("pngload")
    if x == y and (x in (1.0, 2.834) if is_png else x == 1.0 or not image.get_typeof("resolution-unit")):
        return None
    if not all(math.isfinite(value) and 0 < value < _MAX_RESOLUTION for value in (x, y)):
        return None
    return x, y


def _loaded(block: bytes) -> Any | None:
    """An image that libvips loaded with this EXIF in it; None if the block is too large."""
    if len(block) > _MAX_BYTES["exif"]:
        return None
    pyvips = libvips.pyvips()
    jpeg = pyvips.Image.black(1, 1).jpegsave_buffer(keep="none")
    try:
        return pyvips.Image.jpegload_buffer(exif.carrier(block, jpeg))
    except pyvips.Error:
        return None
