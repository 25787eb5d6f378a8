"""EXIF in TIFF, where libvips has none, as Pillow and tifffile see it."""

import io
import json
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from srflow_sdk.files import Metadata, read_image, read_provenance, write_image, writing
from tests.sdk.files.pictures import picture, profile
from tests.sdk.files.test_provenance import EXAMPLE

DESCRIPTION, MAKE, STRIP_OFFSETS, COPYRIGHT = 0x010E, 0x010F, 0x0111, 0x8298
EXIF_IFD, GPS_IFD = 0x8769, 0x8825
COLOUR_SPACE, PIXEL_WIDTH, PIXEL_HEIGHT, MAKER_NOTE, DATE = 0xA001, 0xA002, 0xA003, 0x927C, 0x9003


def exif_of(order="<"):
    exif = Image.Exif()
    exif.endian = order
    exif[MAKE], exif[COPYRIGHT], exif[DESCRIPTION] = "Acme", "someone", "a hill"
    exif_ifd = exif.get_ifd(EXIF_IFD)
    exif_ifd.update({DATE: "2024:05:06 07:08:09", MAKER_NOTE: b"secret" * 20, 0x8827: 200, 0xA434: "A lens"})
    exif_ifd.update({PIXEL_WIDTH: 9, PIXEL_HEIGHT: 9, COLOUR_SPACE: 65535})
    exif.get_ifd(GPS_IFD).update({1: "N", 2: (52.0, 30.0, 1.5), 3: "E", 4: (13.0, 24.0, 0.0)})
    return exif


@pytest.mark.parametrize(
    ("big", "order", "dtype"), [(False, "<", np.uint8), (True, ">", np.uint8), (True, "<", np.float32)]
)
@pytest.mark.filterwarnings("error")
def test_others_find_what_was_written_and_all_that_was_there(tmp_path, monkeypatch, big, order, dtype):
    if big:
        monkeypatch.setattr(writing, "_BIGTIFF_BYTES", 1)
    path, pixels = tmp_path / "a.tif", picture(3, dtype, height=301)
    metadata = Metadata(exif=exif_of(order).tobytes(), icc_profile=profile(), resolution=(10.0, 20.0))
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
    assert set(block) == {DESCRIPTION, MAKE, COPYRIGHT, EXIF_IFD, GPS_IFD}  # nothing of how it keeps its pixels
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
    for number, description in enumerate([None, "ImageJ=1.54f\nimages=1\n", "<OME/>", json.dumps({"shape": [1]})]):
        tifffile.imwrite(tmp_path / f"{number}.tif", picture(), photometric="rgb", description=description)
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
        at = data.index(tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + pointer.to_bytes(4, "little")) + 8
        for bad in (0, 4, 8, len(data) - 1, 2**31, 2**32 - 1):
            broken = data[:at] + bad.to_bytes(4, "little") + data[at + 4 :]
            (tmp_path / "a.tif").write_bytes(broken)
            file = read_image(tmp_path / "a.tif")
            np.testing.assert_array_equal(file.pixels, picture())
            write_image(tmp_path / "b.tif", file.pixels, metadata=file.metadata)
            with Image.open(tmp_path / "b.tif") as image:
                np.testing.assert_array_equal(np.asarray(image), picture())
    assert capfd.readouterr().err == ""


def test_long_values_are_left_out_and_others_stay(tmp_path):
    exif = exif_of()
    exif[DESCRIPTION] = "x" * 5_000_000
    Image.fromarray(picture()).save(tmp_path / "a.tif", exif=exif.tobytes())
    file = read_image(tmp_path / "a.tif")
    assert file.metadata.exif is not None
    assert len(file.metadata.exif) < 60_000
    write_image(tmp_path / "b.jpg", file.pixels, metadata=file.metadata)
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getexif()[MAKE] == "Acme"
        assert image.getexif().get_ifd(EXIF_IFD)[DATE] == "2024:05:06 07:08:09"


def test_text_and_fractions_stay_as_they_are(tmp_path):
    exif = Image.Exif()
    exif[COPYRIGHT] = "© Ünal".encode()
    exif.endian = "<"
    exif.get_ifd(EXIF_IFD)[0x829D] = IFDRational(14, 5)
    fraction, reduced = struct.pack("<II", 28, 10), struct.pack("<II", 14, 5)
    block = exif.tobytes()
    assert reduced in block
    write_image(tmp_path / "a.tif", picture(), metadata=Metadata(exif=block.replace(reduced, fraction)))
    file = read_image(tmp_path / "a.tif")
    write_image(tmp_path / "b.tif", file.pixels, metadata=file.metadata)
    written = (tmp_path / "b.tif").read_bytes()
    assert "© Ünal".encode() in written
    assert fraction in written


@pytest.mark.parametrize("block", [b"x", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"])
def test_blocks_that_are_no_exif_leave_the_file_as_it_is(tmp_path, block):
    write_image(tmp_path / "a.tif", picture())
    assert read_image(tmp_path / "a.tif").metadata.exif is None
    write_image(tmp_path / "b.tif", picture(), metadata=Metadata(exif=block))
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_a_file_without_room_stays_as_it_is(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("srflow_sdk.files.tiff.MAX_CLASSIC_BYTES", 1000)
    write_image(tmp_path / "a.tif", picture())
    write_image(tmp_path / "b.tif", picture(), metadata=Metadata(exif=exif_of().tobytes()))
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    assert "b.tif: EXIF block left out" in caplog.text
