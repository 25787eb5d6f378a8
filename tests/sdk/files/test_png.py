"""PNG chunks behind the pixels, as ImageMagick writes them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srflow_sdk.files import read_image
from tests.sdk.files.pictures import chunk, picture


def with_chunks_at_the_end(*chunks: bytes) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, "PNG")
    return stream.getvalue()[:-12] + b"".join(chunks) + stream.getvalue()[-12:]


def exif_chunk(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A], exif[0x011B], exif[0x0128] = orientation, "Acme", 150.0, 150.0, 2
    return chunk(b"eXIf", exif.tobytes()[6:])


@pytest.mark.parametrize(("orientation", "before"), [(1, None), (3, None), (6, None), (6, 1)])
def test_orientation_and_camera_are_found_behind_the_pixels_if_not_before_them(
    tmp_path: Path, orientation: int, before: int | None
) -> None:
    path = tmp_path / "a.png"
    data = with_chunks_at_the_end(exif_chunk(orientation))
    path.write_bytes(data if before is None else data[:33] + exif_chunk(before) + data[33:])
    file = read_image(path)
    turns = {1: 0, 3: 2, 6: 3}[before or orientation]
    np.testing.assert_array_equal(file.pixels, np.rot90(picture(), turns))
    assert file.metadata.resolution == pytest.approx((150 / 25.4, 150 / 25.4))
    exif = Image.Exif()
    exif.load(file.metadata.exif or b"")
    assert (exif[0x010F], exif[0x0112]) == ("Acme", 1)


@pytest.mark.parametrize(
    "bad",
    [
        chunk(b"eXIf", b""),
        chunk(b"eXIf", b"nonsense"),
        exif_chunk(6)[:-1] + b"?",
        exif_chunk(6).replace(struct.pack(">HHI", 0x0112, 3, 1), struct.pack(">HHI", 0x0112, 9, 1)),
        chunk(b"zzZz", b"") * 1000,
        struct.pack(">I4s", 0x7FFFFFFF, b"eXIf"),
    ],
    ids=range(6),
)
def test_damaged_chunks_behind_the_pixels_are_passed_over(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(with_chunks_at_the_end(bad))
    file = read_image(path)
    assert file.metadata.xmp is None
    assert file.pixels.shape in ((40, 56, 3), (56, 40, 3))


@pytest.mark.parametrize("frames", [struct.pack(">II", 3, 0), b"\xff" * 8, b""])
def test_of_an_animation_the_default_picture_is_read(tmp_path: Path, frames: bytes) -> None:
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, "PNG")
    data = stream.getvalue()
    (tmp_path / "a.png").write_bytes(data[:33] + chunk(b"acTL", frames) + data[33:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, picture())
