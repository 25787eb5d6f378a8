"""Reads image files through libvips: upright rows from the top as they are decoded, 8 and 16 bits exactly."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import ImageError
from srflow_sdk.files import bmp, formats, heic, libvips, png, tiff
from srflow_sdk.files.formats import MAX_PIXELS, RAISE_LIMIT, PathLike
from srflow_sdk.files.metadata.geo import read_geo_tags
from srflow_sdk.files.metadata.metadata import MAX_BLOCK_BYTES, Metadata, metadata_of
from srflow_sdk.files.provenance import Provenance, provenance_in
from srflow_sdk.files.steady import SteadyFile
from srflow_sdk.pixels.in_memory import check_dots
from srflow_sdk.system.interrupts import interruptible

_NAME_RANGE = 'name the range of its values (--range 1% 99%, value_range=("1%", "99%"))'
_BAND_ROWS = 128  # decoded at a time: enough to be quick, small beside the network's memory
_KEPT_INTERPRETATIONS = ("srgb", "rgb", "rgb16", "b-w", "grey16", "scrgb")
_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}
RAW_DTYPES = {name: np.dtype(dtype).name for name, dtype in _DTYPES.items()}
RAW_DTYPES |= {"char": "int8", "short": "int16", "int": "int32", "uint": "uint32"}
"""libvips' formats of pixels that can be read as they are, and numpy's names of their dtypes."""

_MAX_SIDE = 10_000_000  # libvips' own limit, in the versions where it is lowest
_PAGED = ("gifload", "webpload", "tiffload")
_HELD_WHOLE = ("webpload", "gifload")  # loaders for which libvips would read all into memory, in blocks of 4 kB
_MAX_HELD_BYTES = 1 << 30
_ORDERED_ORIENTATIONS = (1, 2)  # orientations for which rows come from the top


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image as read from a file.

    pixels: uint8, uint16 or float32 (in [0, 1]), upright: H×W×1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha).
    metadata: what else the file holds; pass it to :func:`~srflow_sdk.files.write_image`.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def icc_profile(self) -> bytes | None:
        """The values' colour profile; None means sRGB."""
        return self.metadata.icc_profile


def open_image(
    path: PathLike, *, max_pixels: int = MAX_PIXELS, page: int | None = None, raw: bool = False
) -> ImageReader:
    """Open a PNG, JPEG, WebP, TIFF, still GIF, BMP or (where libvips has them) AVIF or HEIC file, whatever its ending.

    Nothing is decoded yet. 16-bit files give uint16; floating-point TIFFs (16 or 32 bits) give float32 and must be
    in [0, 1]. EXIF orientation is applied. CMYK and Lab become sRGB; RGB and gray values stay in the file's own
    profile. Palettes become RGB, gray stays gray.

    Rows are decoded on demand, in memory that does not grow with the height. The exceptions are BMP, WebP, AVIF, HEIC,
    interlaced and progressive files and files that their orientation rotates: they are decoded whole (rotated ones
    into a temporary file beyond 100 MB).

    If a TIFF's further pages are smaller versions of the first, the first is read. TIFF's EXIF is read without maker's
    notes. Metadata that cannot be kept is logged.

    page: of a GIF, WebP or TIFF, the one frame or page to read, from 1.
    raw: values of 8, 16 or 32 bits as they are, in any range and in any number of channels.

    Raises: ImageError, one line, if the file is missing, empty, truncated, damaged, of another format, holds several
    frames or pages, or more than max_pixels pixels. MissingExtraError if libvips cannot be loaded.
    """
    source = Path(path)
    libvips.pyvips().vips_lib.vips_error_clear()  # its list of causes: successful calls leave some, too
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_steady(source))
        loader = _loader(file, max_pixels)
        image = _opened(file, loader, page=page)
        _check_supported(source, image, max_pixels, page=page, raw=raw)
        reader = ImageReader(file, image, loader, page=page, raw=raw)
        stack.pop_all()  # the reader closes it
        return reader


def count_pixels(path: PathLike, *, max_pixels: int) -> int:
    """Number of pixels of a file, from its header; 0 for one that :func:`open_image` refuses. Nothing is logged."""
    source = Path(path)
    try:
        with _steady(source) as file:
            loader = _loader(file, max_pixels)
            if loader == "bmp":  # opening it would decode it
                width, height = bmp.claimed_size(file.head(bmp.HEAD_BYTES)) or (0, 0)
                return width * height
            image = _opened(file, loader)
            _check_supported(source, image, max_pixels)
            return int(image.width) * int(image.height)
    except (ImageError, OSError):
        return 0


def read_image(path: PathLike, *, max_pixels: int = MAX_PIXELS) -> ImageFile:
    """Read a whole file, with the conversions and errors of :func:`open_image`."""
    with open_image(path, max_pixels=max_pixels) as reader:
        pixels = reader.read_rows(reader.height)
        reader.check_unchanged()
        return ImageFile(pixels=pixels, metadata=reader.metadata)


def read_provenance(path: PathLike) -> Provenance | None:
    """Read from a file's header how it was made; None if it does not say, or not completely.

    Raises: ImageError if the file cannot be read, as :func:`open_image`, but without a limit on pixels.
    """
    with _steady(Path(path)) as file:
        loader = _loader(file, max_pixels=None)
        if loader == "bmp":  # it has no metadata, and opening it would decode it
            return None
        packet = libvips.get_field(_opened(file, loader), "xmp-data")
        return provenance_in(packet) if isinstance(packet, bytes) else None


class ImageReader(contextlib.AbstractContextManager["ImageReader"]):
    """An open image file, from :func:`open_image`. Close it, or use it as a context manager.

    path: the file. width, height: upright, in pixels. channels: 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB,
    alpha). dtype: uint8, uint16 or float32. metadata: what else the file holds.

    Any thread may read, one at a time.
    """

    def __init__(
        self, file: SteadyFile, image: Any, loader: str, *, page: int | None = None, raw: bool = False
    ) -> None:
        orientation = libvips.get_field(image, "orientation") or 1
        bilevel = libvips.get_field(image, "bits-per-sample") == 1
        self._decoded_whole = bilevel or orientation not in _ORDERED_ORIENTATIONS
        if self._decoded_whole:
            image = _opened(file, loader, access="random", page=page)
        with _errors_in_one_line(file):
            image = heic.decoded(image, file.path)
            upright = image.autorot()
            upright, converted = (upright, False) if raw else _converted(upright)
            if bilevel and not raw:
                check_dots(upright.numpy(), what=f"{file.path}: it")
            self.metadata = metadata_of(image, file.path, converted=converted, swapped=orientation > 4)
        if loader == "tiffload" and orientation == 1:
            self.metadata = dataclasses.replace(self.metadata, geo=read_geo_tags(file.path, raw=raw))
        self._raw = raw
        self.path = file.path
        self._file = file
        self.width: int = upright.width
        self.height: int = upright.height
        self.channels: int = upright.bands
        self.dtype: np.dtype[Any] = np.dtype(RAW_DTYPES[upright.format])
        self._image = upright
        self._region: Any = None
        self._row = 0

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file. Closing twice is harmless."""
        self._image = self._region = None
        self._file.close()

    def sha256(self) -> str:
        """The sha256 of the file's bytes, in 64 hexadecimal digits. Raises: ImageError if they have changed."""
        with _errors_in_one_line(self._file):
            return self._file.sha256()

    def check_unchanged(self) -> None:
        """Raises: ImageError if the file has changed since it was opened, or another one has its name now.

        Call it before you rely on rows that were read: their metadata, or the hash, might be another version's. It may
        be called after the reader was closed.
        """
        self._file.check()

    def read_rows(self, count: int) -> NDArray[Any]:
        """Read the next `count` rows, from top to bottom: count×width×channels of the dtype.

        Raises: ImageError if the file is damaged there, fewer rows are left, or it was closed.
        """
        if self._image is None:
            raise ImageError(f"{self.path}: the file was closed")
        if not 0 < count <= self.height - self._row:
            raise ImageError(f"{self.path}: {count} rows were requested with {self.height - self._row} left")
        rows = np.empty((count, self.width, self.channels), self.dtype)
        for start in range(0, count, _BAND_ROWS):
            band = rows[start : start + _BAND_ROWS]
            with _errors_in_one_line(self._file):
                if self._region is None:
                    if self._decoded_whole:
                        libvips.start_threads()
                    self._region = libvips.pyvips().Region.new(self._image)
                fetch = functools.partial(self._region.fetch, 0, self._row, self.width, len(band))
                data = interruptible(fetch, stop=self._file.stop)
            self._file.check()  # now: what is decoded whole would be drawn to its end, and then refused
            band[...] = np.frombuffer(data, self.dtype).reshape(band.shape)
            self._row += len(band)
            if self.dtype == np.float32 and not self._raw:
                _check_range(self.path, band)
        return rows


@contextlib.contextmanager
def _errors_in_one_line(file: SteadyFile) -> Iterator[None]:
    """Turn errors of libvips and the system into an ImageError that begins with the path."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ImageError(f"{file.path}: {_unreadable(error)}") from error
    except libvips.pyvips().Error as error:
        file.check()  # what libvips says about a file that has changed is misleading
        if file.error is not None:
            raise ImageError(f"{file.path}: {_unreadable(file.error)}") from error
        raise ImageError(f"{file.path}: {_explained(libvips.reason(error))}") from error


def _unreadable(error: OSError | ValueError) -> str:
    return f"the file cannot be read: {getattr(error, 'strerror', None) or error}"


def _steady(source: Path) -> SteadyFile:
    """Open a file. Raises: ImageError if it is not a regular file, or is empty."""
    try:
        status = source.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{source}: this is a directory; name the files in it")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{source}: this is not a regular file")
        if status.st_size == 0:
            raise ImageError(f"{source}: the file is empty")
        return SteadyFile(source)
    except FileNotFoundError:
        raise ImageError(f"{source}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{source}: {_unreadable(error)}") from error


def _loader(file: SteadyFile, max_pixels: int | None) -> str:
    """The libvips loader for a file, by its content. Raises: ImageError if it has an unsupported format."""
    source = file.path
    with _errors_in_one_line(file):
        head = file.head(formats.SNIFFED_BYTES)
    loader = formats.loader_of(head, name=source.name)
    if loader is None:
        foreign = formats.foreign_format(head, name=source.name)
        if foreign is None:
            raise ImageError(f"{source}: this is not an image file in a supported format")
        raise ImageError(f"{source}: this is {foreign} file, which is not supported; convert it to PNG or TIFF")
    if max_pixels is not None and loader == "heifload" and head[4:12] in formats.ANIMATIONS:
        raise ImageError(f"{source}: the file holds an animation; save the frame you want as its own file")
    for width, height in formats.claimed_sizes(head, loader=loader):
        _check_size(source, width, height, max_pixels)
    if loader == "tiffload":
        _check_size(source, *tiff.claimed_size(source), max_pixels)
    if loader in _HELD_WHOLE and file.size > _MAX_HELD_BYTES:
        raise ImageError(f"{source}: {file.size:,} bytes, far more than such pictures have; convert it to PNG or TIFF")
    return loader


def _opened(
    file: SteadyFile, loader: str, *, access: str = "sequential", fail_on: str = "error", page: int | None = None
) -> Any:
    with _errors_in_one_line(file):
        if loader == "bmp":
            return bmp.load(file.path)
        load = getattr(libvips.pyvips().Image, f"{loader}_source")
        source = file.source_in_memory() if loader in _HELD_WHOLE else file.source()
        opening = functools.partial(load, source, access=access, fail_on=fail_on)
        if page is not None and loader in _PAGED:
            pages = libvips.get_field(interruptible(opening, stop=file.stop), "n-pages") or 1
            opening = functools.partial(opening, page=min(max(page, 1), pages) - 1)
        return _with_missed_metadata(interruptible(opening, stop=file.stop), file.path, loader)


def _with_missed_metadata(image: Any, source: Path, loader: str) -> Any:
    """The image with what libvips misses: a TIFF's EXIF, or a PNG's metadata after the pixels."""
    fields: dict[str, bytes | None] = {}
    if loader == "tiffload":
        fields["exif-data"] = tiff.read_exif(source)
    elif loader == "pngload":
        fields |= png.missed_fields(source, max_bytes=MAX_BLOCK_BYTES)
    for name, value in fields.items():
        if value is not None and not image.get_typeof(name):
            image = image.copy()
            image.set_type(libvips.pyvips().GValue.blob_type, name, value)  # from EXIF, libvips takes the orientation
    return image


def _check_supported(source: Path, image: Any, max_pixels: int, *, page: int | None = None, raw: bool = False) -> None:
    """Raises: ImageError if the header shows that the file is unsupported."""
    _check_size(source, image.width, image.height, max_pixels)
    loader = image.get("vips-loader")
    pages = libvips.get_field(image, "n-pages") or 1
    if page is not None and not 1 <= page <= pages:
        raise ImageError(f"{source} has no frame {page}, but {pages}: the first is 1")
    is_variants = page is not None or loader.startswith("heifload")  # a HEIC's further images are variants of the first
    if pages > 1 and not is_variants and not (loader.startswith("tiffload") and tiff.is_one_picture(source)):
        raise ImageError(
            f"{source}: the file holds {pages} frames or pages; save the one you want as its own file, or let "
            "srflow-upscale --frame N take it"
        )
    if image.interpretation in ("lab", "labs", "labq", "cmyk"):
        return
    if image.format not in (RAW_DTYPES if raw else _DTYPES):
        fix = f"save it with 8 or 16 bits per channel or as float32, or {_NAME_RANGE}"
        raise ImageError(f"{source}: its pixels are of type {image.format}; {fix}")
    mixed_up = loader.startswith("tiffload") and (image.bands == 2 or image.format == "float" or raw)
    if mixed_up and tiff.is_planar(source):
        raise ImageError(f"{source}: its channels are stored one after another (planar); save it interleaved")
    if raw and loader.startswith("tiffload") and tiff.is_negative(source):
        raise ImageError(f"{source}: zero is white in it, so its values would be turned round; save it with zero black")
    if image.bands > 4 and not raw:
        fix = f"save it as gray or RGB, with or without alpha, or {_NAME_RANGE}"
        raise ImageError(f"{source}: it has {image.bands} channels; {fix}")


def _check_size(source: Path, width: int, height: int, max_pixels: int | None) -> None:
    if max_pixels is not None and width * height > max_pixels:
        raise ImageError(f"{source}: {width}×{height} pixels exceed the limit of {max_pixels:,}; {RAISE_LIMIT}")
    if max(width, height) > _MAX_SIDE:
        raise ImageError(f"{source}: {width}×{height} pixels; the file is damaged, or larger than libvips can read")


def _converted(image: Any) -> tuple[Any, bool]:
    """The image as gray or RGB of a supported dtype, and whether its values were converted to sRGB for that."""
    depth = 16 if image.format == "ushort" else 8
    if image.interpretation == "cmyk":
        return image.icc_transform("srgb", embedded=True, intent="perceptual", depth=depth), True
    if image.format == "float" and image.interpretation not in ("lab", "xyz"):
        return image, False
    if image.interpretation not in _KEPT_INTERPRETATIONS and image.bands >= 3:
        deep = depth == 16 or image.interpretation == "labs"
        image = image.colourspace("rgb16" if deep else "srgb")
        return image.cast("ushort" if deep else "uchar"), True
    return image.cast("ushort" if depth == 16 else "uchar"), False


def _check_range(path: Path, rows: NDArray[np.float32]) -> None:
    low, high = float(rows.min()), float(rows.max())
    if math.isnan(low):
        raise ImageError(f"{path}: some of its values are not numbers (NaN); save it without them")
    if low < 0 or high > 1:
        raise ImageError(
            f"{path}: its values reach from {low:.4g} to {high:.4g}; floating-point files must be in [0, 1]: scale it, "
            f"save it with 16 bits per channel, or {_NAME_RANGE}"
        )


def _explained(cause: str) -> str:
    if "samples out of range" in cause:
        return "its pixels are of a type that libvips cannot read (64 bits?); save it with 16 bits or as float32"
    if "labq" in cause:
        return "its colours are Lab with 8 bits, which libvips cannot read; save it as RGB"
    if "HEVC" in cause:
        return 'HEIC needs a decoder: pip install "srflow-sdk[heic]", or save the photo as JPEG'
    if "codec" in cause.lower() or "decoder" in cause.lower() or "plugin" in cause.lower():
        return f"this build of libvips cannot decode it ({cause})"
    if cause:
        return f"the file is damaged, truncated or unsupported ({cause}); copy or download it again, or save it as PNG"
    return "the file is damaged or truncated; copy or download it again"
