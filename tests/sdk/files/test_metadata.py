"""What travels from file to file, as Pillow reads it."""

import io
import json
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, IptcImagePlugin

from srflow_sdk.files import Metadata, read_image, read_provenance, write_image, writing
from tests.sdk.files.pictures import WRITTEN, picture, profile
from tests.sdk.files.test_provenance import EXAMPLE
from tests.sdk.pixels.icc_writer import gamma_curve, gray_profile

WITH_EXIF = (".png", ".jpg", ".webp", ".avif")
DESCRIPTION = 0x010E
MAKE = 0x010F
MODEL = 0x0110
ORIENTATION = 0x0112
X_RESOLUTION = 0x011A
COPYRIGHT = 0x8298
EXIF_IFD = 0x8769
GPS_IFD = 0x8825
THUMBNAIL_IFD = 1
COLOUR_SPACE = 0xA001
PIXEL_WIDTH = 0xA002
PIXEL_HEIGHT = 0xA003
MAKER_NOTE = 0x927C
DATE = 0x9003


def exif_of(order="<"):
    """With camera, lens, exposure and GPS, as a camera writes it."""
    exif = Image.Exif()
    exif.endian = order
    exif[MAKE] = "Acme"
    exif[COPYRIGHT] = "someone"
    exif[DESCRIPTION] = "a hill"
    exif_ifd = exif.get_ifd(EXIF_IFD)
    exif_ifd.update(
        {DATE: "2024:05:06 07:08:09", MAKER_NOTE: b"secret" * 20, 0x8827: 200, 0xA434: "A lens"}
    )
    exif_ifd.update({PIXEL_WIDTH: 9, PIXEL_HEIGHT: 9, COLOUR_SPACE: 65535})
    exif.get_ifd(GPS_IFD).update({1: "N", 2: (52.0, 30.0, 1.5), 3: "E", 4: (13.0, 24.0, 0.0)})
    return exif


def camera_exif(orientation=1):
    """That, with a turn, a print size and a thumbnail."""
    exif = exif_of()
    stream = io.BytesIO()
    exif[MODEL] = "Box 1"
    exif[ORIENTATION] = orientation
    exif[0x0128] = 2
    exif[X_RESOLUTION] = exif[X_RESOLUTION + 1] = 300.0
    Image.new("RGB", (8, 6)).save(stream, "JPEG")
    return with_thumbnail(exif.tobytes(), stream.getvalue())


def with_thumbnail(block, jpeg):
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


@pytest.mark.parametrize(
    ("origin", "suffix", "orientation"),
    [
        (".jpg", ".png", 1),
        (".png", ".jpg", 6),
        (".webp", ".webp", 6),
        (".jpg", ".avif", 6),
        (None, ".jpg", 6),
    ],
)
def test_exif_tells_of_the_camera_and_of_the_new_picture(tmp_path, origin, suffix, orientation):
    exif = camera_exif(orientation)
    assert b"\xff\xd8\xff" in exif
    metadata = Metadata(exif=exif, resolution=(300 / 25.4, 300 / 25.4))  # a caller's own
    if origin is not None:
        Image.fromarray(picture()).save(tmp_path / f"a{origin}", exif=exif)
        metadata = read_image(tmp_path / f"a{origin}").metadata
    large = picture(height=224, width=160)
    write_image(tmp_path / f"b{suffix}", large, metadata=metadata.enlarged(4))
    with Image.open(tmp_path / f"b{suffix}") as image:
        new = image.getexif()
        block = image.info["exif"]
    detail = new.get_ifd(EXIF_IFD)
    gps = new.get_ifd(GPS_IFD)
    assert (new[MAKE], new[MODEL], new.get(ORIENTATION, 1)) == ("Acme", "Box 1", 1)
    assert detail[DATE] == "2024:05:06 07:08:09"
    assert detail[MAKER_NOTE] == b"secret" * 20
    assert (detail[PIXEL_WIDTH], detail[PIXEL_HEIGHT]) == large.shape[1::-1]
    assert gps[2] == (52.0, 30.0, 1.5)
    assert new[X_RESOLUTION] == pytest.approx(1200, rel=1e-3)
    assert not new.get_ifd(THUMBNAIL_IFD)
    assert b"\xff\xd8\xff" not in block


@pytest.mark.parametrize(
    ("origin", "suffix"), [(".png", ".tif"), (".jpg", ".png"), (".tif", ".png")]
)
def test_the_print_size_stays_and_turns_with_the_picture(tmp_path, origin, suffix):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(picture()).save(tmp_path / f"a{origin}", dpi=(100, 300), exif=exif)
    metadata = read_image(tmp_path / f"a{origin}").metadata
    assert metadata.resolution == pytest.approx((300 / 25.4, 100 / 25.4), rel=1e-3)
    write_image(tmp_path / f"b{suffix}", picture(), metadata=metadata.enlarged(4))
    with Image.open(tmp_path / f"b{suffix}") as image:
        assert image.info["dpi"] == pytest.approx((1200, 400), rel=1e-3)


@pytest.mark.parametrize(
    ("origin", "suffix"),
    [(".png", ".jpg"), (".jpg", ".png"), (".tif", ".webp"), (".webp", ".tif"), (".png", ".avif")],
)
def test_a_file_without_resolution_and_exif_gets_neither(tmp_path, origin, suffix):
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


@pytest.mark.parametrize(
    ("suffix", "channels"),
    [*((suffix, 3) for suffix in WRITTEN), (".png", 1), (".jpg", 1), (".tif", 1)],
)
def test_the_profile_travels_and_its_absence_too(tmp_path, suffix, channels):
    # the header is what tells
    icc = profile() if channels == 3 else profile()[:16] + b"GRAY" + profile()[20:]
    path = tmp_path / f"a{suffix}"
    for given in (icc, None):
        write_image(path, picture(channels), metadata=Metadata(icc_profile=given))
        with Image.open(path) as image:
            assert image.info.get("icc_profile") == given
            if given:
                assert read_image(path).metadata.icc_profile == given
                image.save(path, icc_profile=given + bytes(3))
        assert read_image(path).metadata.icc_profile == given, "padding behind it is cut off"


@pytest.mark.parametrize("origin", [".jpg", ".tif"])
def test_iptc_travels_to_jpeg_without_what_photoshop_keeps_beside(tmp_path, origin):
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
        path.write_bytes(
            jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]
        )
    file = read_image(path)
    assert file.metadata.iptc == records
    write_image(tmp_path / "b.jpg", file.pixels, metadata=file.metadata)
    with Image.open(tmp_path / "b.jpg") as image:
        assert IptcImagePlugin.getiptcinfo(image) == {(2, 0x78): b"hello"}
    assert b"thumbnail" not in (tmp_path / "b.jpg").read_bytes()


@pytest.mark.parametrize(("suffix", "channels", "gamma"), [(".webp", 1, 1.0), (".avif", 2, 3.0)])
def test_gray_in_a_profile_looks_the_same_where_gray_becomes_rgb(tmp_path, suffix, channels, gamma):
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


@pytest.mark.parametrize(
    ("suffix", "icc", "words"),
    [
        (".png", b"nonsense" * 50, "damaged"),
        (".jpg", profile()[:300], "damaged"),
        (".webp", profile()[:16] + b"CMYK" + profile()[20:], "b'CMYK' values"),
        (".tif", gray_profile(gamma_curve(1.8)), "b'GRAY' values"),
        (".avif", b"large" + bytes(36) + b"acsp" + bytes(6 << 20), "damaged"),
        (
            ".png",
            (5 << 20).to_bytes(4, "big") + profile()[4:] + bytes((5 << 20) - len(profile())),
            "exceed the limit",
        ),
    ],
    ids=["nonsense", "cut", "CMYK", "gray", "zeros", "large"],
)
def test_a_profile_that_cannot_belong_to_the_pixels_is_named_once_and_left_out(
    tmp_path, suffix, icc, words, caplog
):
    path = tmp_path / f"a{suffix}"
    write_image(path, picture(), metadata=Metadata(icc_profile=icc))
    (message,) = caplog.messages
    assert message.startswith(f"{path}: colour profile left out: ")
    assert words in message
    assert read_image(path).metadata.icc_profile is None


def test_blocks_too_large_to_be_read_are_named(tmp_path, caplog):
    path = tmp_path / "a.webp"
    huge = bytes(6 << 20)
    Image.fromarray(picture()).save(path, icc_profile=huge, xmp=huge)
    metadata = read_image(path).metadata
    assert (metadata.icc_profile, metadata.xmp) == (None, None)
    assert [message.split(" left out")[0] for message in caplog.messages] == [
        f"{path}: colour profile",
        f"{path}: XMP packet",
    ]


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_exif_that_is_too_large_is_left_out_and_the_file_is_named(tmp_path, suffix, caplog):
    exif = Image.Exif()
    exif[MAKE] = "Acme"
    exif.get_ifd(EXIF_IFD).update({MAKER_NOTE: bytes(70_000), DATE: "2024:05:06 07:08:09"})
    Image.fromarray(picture()).save(tmp_path / "a.webp", exif=exif.tobytes())
    write_image(
        tmp_path / f"a{suffix}", picture(), metadata=read_image(tmp_path / "a.webp").metadata
    )
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path / f'a{suffix}'}: EXIF block left out: its 70")
    caplog.clear()
    thumbnail = with_thumbnail(camera_exif(), bytes(300_000))  # which alone does not cost the rest
    Image.fromarray(picture()).save(tmp_path / "b.webp", exif=thumbnail)
    write_image(
        tmp_path / f"c{suffix}", picture(), metadata=read_image(tmp_path / "b.webp").metadata
    )
    with Image.open(tmp_path / f"a{suffix}") as large, Image.open(tmp_path / f"c{suffix}") as image:
        assert MAKE not in large.getexif()
        assert image.getexif()[MAKE] == "Acme"
        assert MAKER_NOTE in image.getexif().get_ifd(EXIF_IFD)
    assert not caplog.messages


@pytest.mark.parametrize(
    ("suffix", "tagged", "given"),
    [
        (".png", False, True),
        (".jpg", True, True),
        (".tif", False, True),
        (".avif", False, False),
        (".jpg", False, False),
    ],
)
def test_exif_says_srgb_where_the_values_are(tmp_path, suffix, tagged, given):
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[COLOUR_SPACE] = 65535
    icc = profile() if tagged else None
    # Without a block of its own, one is written for the resolution.
    metadata = Metadata(
        exif=exif.tobytes() if given else None, icc_profile=icc, resolution=(10, 10)
    )
    write_image(tmp_path / f"a{suffix}", picture(), metadata=metadata)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.getexif().get_ifd(EXIF_IFD)[COLOUR_SPACE] == (65535 if tagged else 1)
        assert given or image.getexif()[X_RESOLUTION] == 254


@pytest.mark.parametrize("suffix", WITH_EXIF)
def test_the_largest_blocks_that_are_kept_can_be_written(tmp_path, suffix):
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[MAKER_NOTE] = bytes(59_000)
    metadata = Metadata(exif=exif.tobytes(), xmp=b"<x>" + bytes(80_000) + b"</x>")
    write_image(tmp_path / f"a{suffix}", picture(), metadata=metadata)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert len(image.getexif().get_ifd(EXIF_IFD)[MAKER_NOTE]) == 59_000


# EXIF in TIFF, where libvips has none, as Pillow and tifffile see it.


@pytest.mark.parametrize(
    ("big", "order", "dtype"),
    [(False, "<", np.uint8), (True, ">", np.uint8), (True, "<", np.float32)],
)
@pytest.mark.filterwarnings("error")
def test_others_find_what_was_written_and_all_that_was_there(
    tmp_path, monkeypatch, big, order, dtype
):
    if big:
        monkeypatch.setattr(writing, "_BIGTIFF_BYTES", 1)
    path = tmp_path / "a.tif"
    pixels = picture(3, dtype, height=301)
    metadata = Metadata(
        exif=exif_of(order).tobytes(), icc_profile=profile(), resolution=(10.0, 20.0)
    )
    write_image(path, pixels, metadata=metadata, provenance=EXAMPLE)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff == big
        assert len(file.pages) == 1
        tags = file.pages[0].tags
        assert (tags["Make"].value, tags["Copyright"].value) == ("Acme", "someone")
        assert tags["ExifTag"].value["DateTimeOriginal"] == "2024:05:06 07:08:09"
        assert tags["ExifTag"].value["ISOSpeedRatings"] == 200
        assert tags["ExifTag"].value["PixelXDimension"] == 56
        assert "MakerNote" not in tags["ExifTag"].value
        assert tags["GPSTag"].value["GPSLatitude"] == (52, 1, 30, 1, 3, 2)
        assert tags["XResolution"].value[0] / tags["XResolution"].value[1] == pytest.approx(254)
        np.testing.assert_array_equal(file.asarray(), pixels)
    if dtype == np.uint8:
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels)
            assert image.getexif().get_ifd(EXIF_IFD)[0xA434] == "A lens"
            assert image.getexif().get_ifd(GPS_IFD)[2] == (52.0, 30.0, 1.5)
            assert image.info["icc_profile"] == profile()
    back = read_image(path)
    np.testing.assert_array_equal(back.pixels, pixels)
    assert back.metadata.resolution == pytest.approx((10, 20))
    assert read_provenance(path) == EXAMPLE


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_what_pillow_wrote_travels_on(tmp_path, suffix):
    Image.fromarray(picture()).save(tmp_path / "a.tif", exif=exif_of().tobytes())
    file = read_image(tmp_path / "a.tif")
    block = Image.Exif()
    block.load(file.metadata.exif or b"")
    # nothing of how it keeps its pixels
    assert set(block) == {DESCRIPTION, MAKE, COPYRIGHT, EXIF_IFD, GPS_IFD}
    write_image(tmp_path / f"b{suffix}", file.pixels, metadata=file.metadata)
    with Image.open(tmp_path / f"b{suffix}") as image:
        image.load()
        exif = image.getexif()
        assert (exif[MAKE], exif[COPYRIGHT], exif[DESCRIPTION]) == ("Acme", "someone", "a hill")
        exif_ifd = exif.get_ifd(EXIF_IFD)
        assert (exif_ifd[DATE], exif_ifd[0x8827]) == ("2024:05:06 07:08:09", 200)
        assert (exif_ifd[PIXEL_WIDTH], exif_ifd[COLOUR_SPACE]) == (56, 1)
        assert MAKER_NOTE not in exif_ifd
        assert exif.get_ifd(GPS_IFD)[4] == (13.0, 24.0, 0.0)


def test_descriptions_of_the_array_stay_behind(tmp_path):
    for number, description in enumerate(
        [None, "ImageJ=1.54f\nimages=1\n", "<OME/>", json.dumps({"shape": [1]})]
    ):
        tifffile.imwrite(
            tmp_path / f"{number}.tif", picture(), photometric="rgb", description=description
        )
        block = read_image(tmp_path / f"{number}.tif").metadata.exif
        exif = Image.Exif()
        exif.load(block or b"")
        assert exif.get(DESCRIPTION) is None


@pytest.mark.filterwarnings("error")
def test_damaged_directories_are_left_out_without_a_word(tmp_path, capfd):
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, "TIFF", exif=exif_of().tobytes())
    data = stream.getvalue()
    with Image.open(io.BytesIO(data)) as image:
        pointers = {tag: image.getexif()[tag] for tag in (EXIF_IFD, GPS_IFD)}
    for tag, pointer in pointers.items():
        at = (
            data.index(tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + pointer.to_bytes(4, "little"))
            + 8
        )
        for bad in (0, 4, 8, len(data) - 1, 2**31, 2**32 - 1):
            broken = data[:at] + bad.to_bytes(4, "little") + data[at + 4 :]
            (tmp_path / "a.tif").write_bytes(broken)
            file = read_image(tmp_path / "a.tif")
            np.testing.assert_array_equal(file.pixels, picture())
            write_image(tmp_path / "b.tif", file.pixels, metadata=file.metadata)
            with Image.open(tmp_path / "b.tif") as image:
                np.testing.assert_array_equal(np.asarray(image), picture())
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "block", [b"x", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"]
)
def test_blocks_that_are_no_exif_leave_the_file_as_it_is(tmp_path, block):
    write_image(tmp_path / "a.tif", picture())
    assert read_image(tmp_path / "a.tif").metadata.exif is None
    write_image(tmp_path / "b.tif", picture(), metadata=Metadata(exif=block))
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
