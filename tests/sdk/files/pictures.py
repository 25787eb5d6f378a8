"""Pictures for the tests of files, and other libraries' readings of what we write."""

from __future__ import annotations

import functools
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageCms

LOSSLESS = (".png", ".tif")
LOSSY = (".jpg", ".webp", ".avif")
WRITTEN = (*LOSSLESS, *LOSSY)


def picture(
    channels: int = 3, dtype: type = np.uint8, *, height: int = 40, width: int = 56
) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    planes = [(np.sin(x / 9 + shift) * np.cos(y / 7) + 1) / 2 for shift in range(channels)]
    unit = np.stack(planes, -1)
    return (
        unit.astype(dtype)
        if dtype == np.float32
        else np.rint(unit * np.iinfo(dtype).max).astype(dtype)
    )


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header has this size, and which has hardly any pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@functools.cache  # its header holds the second in which it was made
def profile(name: str = "sRGB") -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def read_by_another_library(path: Path, channels: int, dtype: type) -> np.ndarray:
    """H×W×C: by tifffile for TIFF, by OpenCV for 16-bit PNG (Pillow keeps 8 bits of colour), else
    by Pillow."""
    if path.suffix == ".tif":
        array = tifffile.imread(path)
    elif path.suffix == ".png" and dtype == np.uint16:
        array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        array = (
            array
            if channels == 1
            else array[..., {2: [0, 3], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]]
        )
    else:
        with Image.open(path) as image:
            array = np.asarray(image)
    return array.reshape(*array.shape[:2], channels)


IRREGULAR = ("FIFO", "device", "folder")


def make_irregular(path: Path, kind: str) -> None:
    """Put one of IRREGULAR at this path."""
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
