import io

import numpy as np
import pytest
from PIL import Image

from srflow_sdk.errors import ImageError
from srflow_sdk.pixels.in_memory import from_unit, to_unit, unpacked

SCALE = 4


def identity_upscale(image):
    """The image through the conversions alone, every pixel repeated SCALE times a side."""
    pixels, kind = unpacked(image)
    assert pixels.shape[2] == kind.channels
    repeated = from_unit(to_unit(pixels), kind.dtype).repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    return kind.wrapped(repeated)


def random_array(*shape, dtype=np.uint8):
    values = np.random.default_rng(1).random(shape)
    return (
        values.astype(np.float32)
        if dtype is np.float32
        else (values * np.iinfo(dtype).max).astype(dtype)
    )


def test_an_animation_is_refused_and_a_copy_of_a_frame_is_not(tmp_path):
    frames = [Image.new("RGB", (4, 4), (level, 0, 0)) for level in (0, 128, 255)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.gif") as image:
        with pytest.raises(ImageError, match="3 frames"):
            unpacked(image)
        image.seek(2)
        assert unpacked(image.copy())[0][0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4), (1, 1, 3)])
def test_arrays_come_back_of_the_same_kind_with_exact_values(shape, dtype):
    array = random_array(*shape, dtype=dtype)
    before = array.copy()
    out = identity_upscale(array)
    assert out.dtype == dtype
    assert out.shape == (shape[0] * SCALE, shape[1] * SCALE, *shape[2:])
    np.testing.assert_allclose(
        out[::SCALE, ::SCALE], before, atol=1e-6 if dtype is np.float32 else 0
    )
    if dtype is np.float32:  # float64 is computed as float32, and comes back
        double = identity_upscale(array.astype(np.float64))
        assert double.dtype == np.float64
        np.testing.assert_array_equal(double, out)
    np.testing.assert_array_equal(array, before)
    kind = unpacked(array)[1]
    assert (kind.colours, kind.has_alpha) == {
        1: (1, False),
        2: (1, True),
        3: (3, False),
        4: (3, True),
    }[kind.channels]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("L", "L"),
        ("RGBA", "RGBA"),
        ("1", "L"),
        ("P", "RGB"),
        ("CMYK", "RGB"),
        ("YCbCr", "RGB"),
        ("RGBa", "RGBA"),
    ],
)
def test_modes_that_the_network_cannot_see_are_converted(mode, expected):
    image = (
        Image.fromarray(random_array(6, 9, 4))
        .convert("RGBA" if mode == "RGBa" else "RGB")
        .convert(mode)
    )
    out = identity_upscale(image)
    assert out.mode == expected
    np.testing.assert_array_equal(
        np.asarray(out.convert("RGB"))[::4, ::4], np.asarray(image.convert(expected).convert("RGB"))
    )


def test_sixteen_bit_gray_stays_sixteen_bit_and_a_transparent_palette_becomes_rgba():
    file = io.BytesIO()
    Image.fromarray(random_array(6, 9, 3)).quantize(8).save(file, "PNG", transparency=3)
    palette = identity_upscale(Image.open(file))
    assert (palette.mode, np.asarray(palette)[..., 3].min()) == ("RGBA", 0)
    array = random_array(6, 9, dtype=np.uint16)
    for image in (Image.fromarray(array), Image.fromarray(array.astype(np.int32))):
        out = identity_upscale(image)
        assert out.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(out)[::4, ::4], array)


def test_big_endian_and_strided_arrays_are_read_as_what_they_are():
    array = random_array(6, 10, 3, dtype=np.uint16)
    swapped = identity_upscale(array.astype(">u2"))
    np.testing.assert_array_equal(swapped, identity_upscale(array))
    assert swapped.dtype == np.uint16
    np.testing.assert_array_equal(
        identity_upscale(array[:, ::2]), identity_upscale(array[:, ::2].copy())
    )


def test_values_are_clipped_and_rounded():
    values = np.array([-0.5, 1.7, 100.4 / 255], np.float32)
    assert from_unit(values, np.dtype(np.uint8)).tolist() == [0, 255, 100]
    assert from_unit(values, np.dtype(np.uint16)).tolist() == [0, 65535, 25803]
    assert from_unit(values, np.dtype(np.float32)).tolist()[:2] == [0, 1]
    assert values[0] == -0.5, "the input is not changed"


def test_profile_and_exif_of_a_pil_image_are_kept():
    image = Image.fromarray(random_array(4, 4, 3))
    image.info = {"icc_profile": b"profile", "exif": b"Exif", "comment": b"x"}
    assert identity_upscale(image).info == {"icc_profile": b"profile", "exif": b"Exif"}
    printed = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    printed.info = dict(image.info)
    out = identity_upscale(printed)
    assert (out.info, out.getpixel((0, 0))) == ({"exif": b"Exif"}, (255, 0, 0)), (
        "by Pillow's formula"
    )


ONE_NAN = np.zeros((9, 9, 3), np.float32)
ONE_NAN[4, 4, 1] = np.nan


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 4, 3), np.float16), "float16"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (ONE_NAN, "NaN"),
        (np.full((4, 4, 3), 1.01, np.float32), "clip"),
        ("text", "not str"),
        (Image.new("F", (3, 3)), 'mode "F"'),
        (Image.fromarray(np.full((3, 3), 70_000, np.int32)), "65535"),
    ],
)
def test_what_is_not_an_image_is_a_typed_error(array, reason):
    with pytest.raises(ImageError, match=reason):
        unpacked(array)


@pytest.mark.parametrize("kind", ["AVIF", "TIFF", "JPEG"])
def test_what_damaged_files_raise_in_pillow_is_a_typed_error(kind):
    stream = io.BytesIO()
    Image.fromarray(random_array(24, 32, 3)).save(stream, kind)
    data = bytearray(stream.getvalue())
    if kind == "AVIF":
        begin = data.index(b"mdat") + 4
        data[begin : begin + 30] = bytes(30)  # RuntimeError
    elif kind == "JPEG":
        del data[-100:]
    else:
        after = 10 + 12 * data[8]
        # TypeError: a second page, which has no size
        data[after : after + 4] = len(data).to_bytes(4, "little")
        data += bytes(6)
    with pytest.raises(ImageError, match="damaged"):
        unpacked(Image.open(io.BytesIO(bytes(data))))
