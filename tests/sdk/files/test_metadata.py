"""What travels from file to file, as Pillow reads it."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, IptcImagePlugin

from srflow_sdk.files import Metadata, read_image, read_provenance, tiff, write_image
from tests.sdk.files.pictures import WRITTEN, picture, profile
from tests.sdk.files.test_provenance import EXAMPLE
from tests.sdk.pixels.icc_writer import gamma_curve, gray_profile

WITH_EXIF = (".png", ".jpg", ".webp", ".avif")
MAKE, MODEL, ORIENTATION, X_RESOLUTION = 0x010F, 0x0110, 0x0112, 0x011A
EXIF_IFD, GPS_IFD, THUMBNAIL_IFD = 0x8769, 0x8825, 1
PIXEL_WIDTH, PIXEL_HEIGHT, EXPOSURE, MAKER_NOTE, DATE = 0xA002, 0xA003, 0x829A, 0x927C, 0x9003


def camera_exif(orientation: int = 1) -> bytes:
    """With camera, exposure, GPS and a thumbnail, as a camera writes it."""
    exif = Image.Exif()
    exif[MAKE], exif[MODEL], exif[ORIENTATION] = "Acme", "Box 1", orientation
    exif[X_RESOLUTION] = exif[X_RESOLUTION + 1] = 300.0
    exif[0x0128] = 2
    exif.get_ifd(EXIF_IFD).update(
        {PIXEL_WIDTH: 56, PIXEL_HEIGHT: 40, MAKER_NOTE: b"secret" * 20, DATE: "2024:05:06 07:08:09"}
    )
    exif.get_ifd(GPS_IFD).update({1: "N", 2: (52.0, 30.0, 1.5), 3: "E", 4: (13.0, 24.0, 0.0)})
    block = exif.tobytes()
    stream = io.BytesIO()
    Image.new("RGB", (8, 6)).save(stream, "JPEG")
    return with_thumbnail(block, stream.getvalue())


def with_thumbnail(block: bytes, jpeg: bytes) -> bytes:
    """Append IFD1 to an EXIF block in Pillow's byte order."""
    order = {b"II": "<", b"MM": ">"}[block[6:8]]
    tiff = bytearray(block[6:])
    (first,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, first)
    tiff += b"\0" * (len(tiff) % 2)
    at = len(tiff)
    struct.pack_into(f"{order}I", tiff, first + 2 + 12 * count, at)
    tiff += struct.pack(f"{order}H", 3)
    tiff += struct.pack(f"{order}HHIHH", 0x0103, 3, 1, 6, 0)
    tiff += struct.pack(f"{order}HHII", 0x0201, 4, 1, at + 2 + 36 + 4)
    tiff += struct.pack(f"{order}HHII", 0x0202, 4, 1, len(jpeg)) + bytes(4) + jpeg
    return b"Exif\0\0" + bytes(tiff)


@pytest.mark.parametrize("suffix", WITH_EXIF)
@pytest.mark.parametrize("origin", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_exif_tells_of_the_camera_and_of_the_new_picture(
    tmp_path: Path, origin: str, suffix: str, orientation: int
) -> None:
    exif = camera_exif(orientation)
    assert b"\xff\xd8\xff" in exif
    Image.fromarray(picture()).save(tmp_path / f"a{origin}", exif=exif)
    file = read_image(tmp_path / f"a{origin}")
    large = np.repeat(np.repeat(file.pixels, 4, 0), 4, 1)
    write_image(tmp_path / f"b{suffix}", large, metadata=file.metadata.enlarged(4))
    with Image.open(tmp_path / f"b{suffix}") as image:
        new = image.getexif()
        block = image.info["exif"]
    detail, gps = new.get_ifd(EXIF_IFD), new.get_ifd(GPS_IFD)
    assert (new[MAKE], new[MODEL], new.get(ORIENTATION, 1)) == ("Acme", "Box 1", 1)
    assert detail[DATE] == "2024:05:06 07:08:09"
    assert detail[MAKER_NOTE] == b"secret" * 20
    assert (detail[PIXEL_WIDTH], detail[PIXEL_HEIGHT]) == large.shape[1::-1]
    assert gps[2] == (52.0, 30.0, 1.5)
    assert new[X_RESOLUTION] == pytest.approx(1200, rel=1e-3)
    assert not new.get_ifd(THUMBNAIL_IFD)
    assert b"\xff\xd8\xff" not in block


def test_the_block_itself_is_upright_and_without_thumbnail(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.jpg", exif=camera_exif(6))
    exif = Image.Exif()
    block = read_image(tmp_path / "a.jpg").metadata.exif
    assert block is not None
    exif.load(block)
    assert (exif[ORIENTATION], exif[MAKE], exif.get_ifd(THUMBNAIL_IFD)) == (1, "Acme", {})


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("origin", [".png", ".jpg", ".tif"])
def test_the_print_size_stays(tmp_path: Path, origin: str, suffix: str) -> None:
    Image.fromarray(picture()).save(tmp_path / f"a{origin}", dpi=(150, 150))
    metadata = read_image(tmp_path / f"a{origin}").metadata
    assert metadata.resolution == pytest.approx((150 / 25.4, 150 / 25.4), rel=1e-3)
    write_image(tmp_path / f"b{suffix}", picture(), metadata=metadata.enlarged(4))
    with Image.open(tmp_path / f"b{suffix}") as image:
        assert image.info["dpi"] == pytest.approx((600, 600), rel=1e-3)


def test_resolution_turns_with_the_picture(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.tif", dpi=(100, 300), tiffinfo={ORIENTATION: 6})
    resolution = read_image(tmp_path / "a.tif").metadata.resolution
    assert resolution == pytest.approx((300 / 25.4, 100 / 25.4), rel=1e-3)


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("origin", [".png", ".jpg", ".tif", ".webp"])
def test_a_file_without_resolution_and_exif_gets_neither(tmp_path: Path, origin: str, suffix: str) -> None:
    Image.fromarray(picture()).save(tmp_path / f"a{origin}")
    metadata = read_image(tmp_path / f"a{origin}").metadata
    assert metadata.resolution is None
    assert metadata.enlarged(4) == metadata
    write_image(tmp_path / f"b{suffix}", picture(), metadata=metadata, provenance=EXAMPLE)
    assert read_image(tmp_path / f"b{suffix}").metadata.resolution is None
    assert read_provenance(tmp_path / f"b{suffix}") == EXAMPLE
    with Image.open(tmp_path / f"b{suffix}") as image:
        assert "dpi" not in image.info
        assert not image.getexif().get_ifd(0x8769)
        assert suffix == ".tif" or not image.getexif()


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_exif_that_is_written_for_the_resolution_alone_says_srgb(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / f"a{suffix}", picture(), metadata=Metadata(resolution=(10, 10)))
    with Image.open(tmp_path / f"a{suffix}") as image:
        exif = image.getexif()
        assert (exif[0x011A], exif.get_ifd(0x8769)[0xA001]) == (254, 1)


@pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_resolution_can_be_removed_from_any_tiff(tmp_path: Path, big: bool, order: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(), bigtiff=big, byteorder=order, resolution=(300, 200), resolutionunit=2)
    with path.open("r+b") as file:
        tiff.forget_resolution(file.fileno())
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        assert (tags[282].value, tags[283].value, tags[296].value) == ((1, 1), (1, 1), 1)
        np.testing.assert_array_equal(file.asarray(), picture())


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_profile_travels_and_its_absence_too(tmp_path: Path, suffix: str, channels: int) -> None:
    icc = profile() if channels == 3 else profile()[:16] + b"GRAY" + profile()[20:]  # the header is what tells
    path = tmp_path / f"a{suffix}"
    write_image(path, picture(channels), metadata=Metadata(icc_profile=icc))
    with Image.open(path) as image:
        written = image.info.get("icc_profile")
    if suffix not in (".webp", ".avif") or channels == 3:  # which hold gray as RGB, where a gray profile fits not
        assert written == icc
        assert read_image(path).metadata.icc_profile == icc
    write_image(path, picture(channels))
    with Image.open(path) as image:
        assert image.info.get("icc_profile") is None
    assert read_image(path).metadata.icc_profile is None


@pytest.mark.parametrize("origin", [".jpg", ".tif"])
def test_iptc_travels_to_jpeg_without_what_photoshop_keeps_beside(tmp_path: Path, origin: str) -> None:
    records = b"\x1c\x02\x78\x00\x05hello"
    path = tmp_path / f"a{origin}"
    if origin == ".tif":
        Image.fromarray(picture()).save(path, tiffinfo={33723: records})
    else:
        stream = io.BytesIO()
        Image.fromarray(picture()).save(stream, "JPEG")
        thumbnail = b"8BIM\x04\x0c\0\0" + struct.pack(">I", 9) + b"thumbnail\0"
        caption = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records
        segment = b"Photoshop 3.0\0" + thumbnail + caption
        jpeg = stream.getvalue()
        path.write_bytes(jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:])
    file = read_image(path)
    assert file.metadata.iptc == records
    write_image(tmp_path / "b.jpg", file.pixels, metadata=file.metadata)
    with Image.open(tmp_path / "b.jpg") as image:
        assert IptcImagePlugin.getiptcinfo(image) == {(2, 0x78): b"hello"}
    assert b"thumbnail" not in (tmp_path / "b.jpg").read_bytes()


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("gamma", [1.0, 1.8, 3.0])
def test_gray_in_a_profile_looks_the_same_where_gray_becomes_rgb(
    tmp_path: Path, suffix: str, channels: int, gamma: float
) -> None:
    gray = np.repeat(np.linspace(40, 255, 256).astype(np.uint8)[None, :, None], 32, 0)
    opaque = np.full_like(gray, 255)
    pixels = gray if channels == 1 else np.concatenate([gray, opaque], -1)
    icc = gray_profile(gamma_curve(gamma))
    write_image(tmp_path / f"a{suffix}", pixels, metadata=Metadata(icc_profile=icc))
    file = read_image(tmp_path / f"a{suffix}")
    light = (gray / 255) ** (round(gamma * 256) / 256)
    srgb = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    assert file.metadata.icc_profile is None
    assert np.abs(file.pixels[..., :3] / 255 - srgb).max() < 5 / 255


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_padding_behind_a_profile_is_cut_off(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(picture()).save(tmp_path / f"a{suffix}", icc_profile=profile() + bytes(3))
    assert read_image(tmp_path / f"a{suffix}").metadata.icc_profile == profile()


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize(
    ("icc", "words"),
    [
        (b"nonsense" * 50, "damaged"),
        (profile()[:300], "damaged"),
        (profile()[:16] + b"CMYK" + profile()[20:], "b'CMYK' values"),
        (gray_profile(gamma_curve(1.8)), "b'GRAY' values"),
        (bytes(36) + b"acsp" + bytes(6 << 20), "damaged"),
        ((5 << 20).to_bytes(4, "big") + profile()[4:] + bytes((5 << 20) - len(profile())), "exceed the limit"),
    ],
    ids=["nonsense", "cut", "CMYK", "gray", "zeros", "large"],
)
def test_a_profile_that_cannot_belong_to_the_pixels_is_named_once_and_left_out(
    tmp_path: Path, suffix: str, icc: bytes, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, picture(), metadata=Metadata(icc_profile=icc))
    (message,) = caplog.messages
    assert message.startswith(f"{path}: colour profile left out: ")
    assert words in message
    assert read_image(path).metadata.icc_profile is None


def test_blocks_too_large_to_be_read_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.webp"
    Image.fromarray(picture()).save(path, icc_profile=bytes(6 << 20), xmp=bytes(2 << 20))
    read_image(path)
    assert [message.split(" left out")[0] for message in caplog.messages] == [
        f"{path}: colour profile",
        f"{path}: XMP packet",
    ]


@pytest.mark.parametrize("suffix", [*WITH_EXIF, ".tif"])
def test_a_large_thumbnail_does_not_cost_the_rest(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.webp", exif=with_thumbnail(camera_exif(), bytes(300_000)))
    file = read_image(tmp_path / "a.webp")
    write_image(tmp_path / f"b{suffix}", file.pixels, metadata=file.metadata)
    with Image.open(tmp_path / f"b{suffix}") as image:
        assert image.getexif()[MAKE] == "Acme"
        assert (MAKER_NOTE in image.getexif().get_ifd(EXIF_IFD)) == (suffix != ".tif")
    assert not caplog.messages


@pytest.mark.parametrize("suffix", WITH_EXIF)
def test_exif_that_is_too_large_is_left_out_and_the_file_is_named(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    exif = Image.Exif()
    exif[MAKE] = "Acme"
    exif.get_ifd(EXIF_IFD).update({MAKER_NOTE: bytes(70_000), DATE: "2024:05:06 07:08:09"})
    Image.fromarray(picture()).save(tmp_path / "a.webp", exif=exif)
    file = read_image(tmp_path / "a.webp")
    write_image(tmp_path / f"b{suffix}", file.pixels, metadata=file.metadata)
    with Image.open(tmp_path / f"b{suffix}") as image:
        assert MAKE not in image.getexif()
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path / f'b{suffix}'}: EXIF block left out: its 70")


@pytest.mark.parametrize("suffix", [*WITH_EXIF, ".tif"])
@pytest.mark.parametrize("tagged", [False, True])
def test_exif_says_srgb_where_the_values_are(tmp_path: Path, suffix: str, tagged: bool) -> None:
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[0xA001] = 65535
    metadata = Metadata(exif=exif.tobytes(), icc_profile=profile() if tagged else None)
    write_image(tmp_path / f"a{suffix}", picture(), metadata=metadata)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.getexif().get_ifd(EXIF_IFD)[0xA001] == (65535 if tagged else 1)


@pytest.mark.parametrize("suffix", WITH_EXIF)
def test_a_block_of_a_callers_own_is_made_upright_too(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / f"a{suffix}", picture(), metadata=Metadata(exif=camera_exif(6)))
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.getexif().get(ORIENTATION, 1) == 1
        assert not image.getexif().get_ifd(THUMBNAIL_IFD)
        assert b"\xff\xd8\xff" not in image.info["exif"]


@pytest.mark.parametrize("suffix", WITH_EXIF)
def test_the_largest_blocks_that_are_kept_can_be_written(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[MAKER_NOTE] = bytes(59_000)
    metadata = Metadata(exif=exif.tobytes(), xmp=b"<x>" + bytes(80_000) + b"</x>")
    write_image(tmp_path / f"a{suffix}", picture(), metadata=metadata)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert len(image.getexif().get_ifd(EXIF_IFD)[MAKER_NOTE]) == 59_000
