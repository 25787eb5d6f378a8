"""GeoTIFF's tags: where the pixels lie on the ground. They travel with the new pixel size, so that corners stay."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from srflow_sdk.files.metadata import ifd
from srflow_sdk.files.metadata.ifd import TagValue, TiffLayout

_PIXEL_SCALE, _TIEPOINTS, _TRANSFORMATION, _KEYS, _NODATA = 33550, 33922, 34264, 34735, 42113
_TAGS = (_PIXEL_SCALE, _TIEPOINTS, _TRANSFORMATION, _KEYS, 34736, 34737, 42112, _NODATA)  # keys' numbers, texts; GDAL's
_PHOTOMETRIC, _AS_STORED = 262, (1, 2)  # black is zero, RGB
_CHANNELS = (_PHOTOMETRIC, 338)  # and what those beyond gray and RGB are
_RASTER_TYPE, _IS_POINT = 1025, 2
_MOST = 1 << 20
_DOUBLES = (_PIXEL_SCALE, _TIEPOINTS, _TRANSFORMATION, 34736)


@dataclass(frozen=True)
class GeoTags:
    """The tags of a file that has any. layout: the byte order of their values."""

    layout: TiffLayout
    tags: dict[int, TagValue] = field(default_factory=dict)

    @property
    def nodata(self) -> float | None:
        """GDAL's value of pixels without data, if the file names one."""
        with contextlib.suppress(KeyError, ValueError):
            return float(self.tags[_NODATA].data.rstrip(b"\0 ").decode())
        return None

    def enlarged(self, x: float, y: float) -> GeoTags:
        """The tags of a picture with so many times as many columns and rows, whose corners lie where they were.

        By OGC's GeoTIFF 1.1, raster coordinates begin at the first pixel's corner, or at its centre (PixelIsPoint).
        """
        shift, tags = 0.5 * self._is_point(), dict(self.tags)
        scale, points, matrix = (self._numbers(tag) for tag in _DOUBLES[:3])
        for at, times in enumerate((x, y)):
            scale[at : at + 1] = [one / times for one in scale[at : at + 1]]
            points[at::6] = [(one + shift) * times - shift for one in points[at::6]]
            for row in range(0, len(matrix) - 3, 4):
                matrix[row + 3] += matrix[row + at] * shift * (1 / times - 1)
                matrix[row + at] /= times
        for tag, numbers in zip(_DOUBLES, (scale, points, matrix), strict=False):
            if numbers:
                tags[tag] = TagValue(ifd.DOUBLE, len(numbers), self.layout.pack("d" * len(numbers), *numbers))
        return GeoTags(self.layout, tags)

    def _is_point(self) -> bool:
        data = self.tags[_KEYS].data if _KEYS in self.tags else b""
        keys = self.layout.unpack("H" * (len(data) // 2), data)
        return any(keys[at] == _RASTER_TYPE and keys[at + 3] == _IS_POINT for at in range(4, len(keys) - 3, 4))

    def _numbers(self, tag: int) -> list[float]:
        value = self.tags.get(tag)
        return [] if value is None else list(self.layout.unpack("d" * value.count, value.data))


def read_geo_tags(path: Path, *, raw: bool = False) -> GeoTags | None:
    """The tags in a TIFF's first IFD, if any. raw: also what the channels are, where they are read as stored."""
    try:
        with path.open("rb") as file:
            layout, first_ifd = ifd.read_header(file)
            entries, _ = ifd.read_ifd(file, layout, first_ifd)
            found = {
                entry.tag: value
                for entry in entries
                if entry.tag in (*_TAGS, *_CHANNELS * raw)
                and (value := ifd.read_value(file, layout, entry, max_bytes=_MOST)) is not None
                and (value.field_type == ifd.DOUBLE) == (entry.tag in _DOUBLES)
            }
    except ifd.IFD_ERRORS:
        return None
    if _PHOTOMETRIC in found and layout.integer(found[_PHOTOMETRIC].data) not in _AS_STORED:
        found = {tag: value for tag, value in found.items() if tag not in _CHANNELS}
    return GeoTags(layout, found) if found else None
