from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from srflow_sdk import Upscaler, read_image
from srflow_sdk.drawing.low_resolution import RowBuffer
from srflow_sdk.pixels.colour import conversion_for
from tests.sdk.pixels.icc_writer import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB_CURVE,
    gamma_curve,
    matrix_profile,
)

P3 = matrix_profile(DISPLAY_P3, SRGB_CURVE)


@pytest.mark.parametrize(("mode", "tile"), [("RGBA", 16), ("LA", None)])
def test_colour_under_transparency_does_not_show(tiny_bundle, photo, mode, tile):
    image = np.asarray(Image.fromarray(photo).convert(mode)).copy()
    image[12:30, 20:50, -1] = 0
    image[30:34, 20:50, -1] = 128
    other = image.copy()
    other[12:30, 20:50, :-1] = 255 - image[12:30, 20:50, :-1]
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=tile) as opened:
        one = opened.upscale(image, seed=1)
        two = opened.upscale(other, seed=1)
    np.testing.assert_array_equal(one[..., -1], two[..., -1])
    visible = one[..., -1] > 0
    assert 0.5 < visible.mean() < 0.9
    # The bicubic alpha reaches two pixels into the hole, where the network sees filled colours as
    # well.
    np.testing.assert_array_equal(one[visible], two[visible])


def test_colours_of_a_wide_profile_are_converted_for_the_network_and_come_back(upscaler, photo):
    conversion = conversion_for(P3, channels=3)
    assert conversion is not None
    image = Image.fromarray(photo)
    image.info["icc_profile"] = P3
    answer = upscaler.upscale(image, tau=0)
    assert answer.info["icc_profile"] == P3
    seen = upscaler.upscale(conversion.to_srgb(photo), tau=0)
    to_srgb = ImageCms.profileToProfile(
        answer,
        ImageCms.ImageCmsProfile(io.BytesIO(P3)),
        ImageCms.createProfile("sRGB"),
    )
    inside = np.abs(np.asarray(to_srgb, np.float32) - 255 * seen)
    assert np.percentile(inside, 95) < 2.5


def test_what_srgb_cannot_hold_is_kept(upscaler):
    image = Image.new("RGB", (20, 20), (10, 250, 20))  # of Display P3: far outside sRGB
    image.info["icc_profile"] = P3
    answer = np.asarray(upscaler.upscale(image, tau=0), np.float32)
    plain = np.asarray(
        upscaler.upscale(Image.new("RGB", (20, 20), (10, 250, 20)), tau=0),
        np.float32,
    )
    # The tiny network changes flat colours, so compare with how far it moves them without a
    # profile.
    moved = np.abs(plain - [10, 250, 20]).mean()
    assert np.abs(answer - [10, 250, 20]).mean() < moved + 8


def test_rows_that_were_forgotten_are_gone():
    buffer = RowBuffer()
    pixels = np.arange(30 * 3 * 2, dtype=np.uint8).reshape(30, 3, 2)
    buffer.append(pixels[:20])
    buffer.append(pixels[20:])
    buffer.forget(18)
    np.testing.assert_array_equal(buffer.rows(18, 30), pixels[18:])
    for top, bottom in ((17, 20), (18, 31)):
        with pytest.raises(AssertionError):
            buffer.rows(top, bottom)


# Gray in, gray out, also in RGB; and the hues of pictures with little colour.


@pytest.fixture(scope="module")
def up():
    with Upscaler("x4-small", device="cpu", threads=1, tile=16) as upscaler:
        yield upscaler


@pytest.fixture(scope="module")
def gray():
    """24×36×3, of noise and steps."""
    picture = (
        np.random.default_rng(0).normal(90, 25, (24, 36, 1))
        + 60 * (np.arange(36) > 20)[None, :, None]
    )
    return np.clip(picture, 0, 255).astype(np.uint8).repeat(3, axis=2)


def of_profile(gray):
    image = Image.fromarray(gray)
    image.info["icc_profile"] = matrix_profile(ADOBE_RGB, gamma_curve(2.2))
    return image


def files(up, gray, folder):
    Image.fromarray(gray).save(folder / "gray.png")
    targets = [folder / "picture.png", folder / "low.png", folder / "high.png"]
    up.upscale_file(folder / "gray.png", targets, interval=0.9)
    return [read_image(target).pixels for target in targets]


DOORS = {
    "array": lambda up, gray, _: up.upscale(gray, tau=1.2),
    "profile": lambda up, gray, _: up.upscale(of_profile(gray)),
    "float": lambda up, gray, _: up.upscale(gray / np.float32(255), scale=1.7, linear_light=True),
    "consistent": lambda up, gray, _: up.upscale(gray.astype(np.uint16) * 257, consistent=True),
    "samples": lambda up, gray, _: up.encode(gray).samples(2),
    "mean": lambda up, gray, _: up.encode(gray).mean(2),
    "std": lambda up, gray, _: up.encode(gray).std(2),
    "files": files,
    "restore": lambda up, gray, _: up.restore(gray, over="spatial", tau=0.5),
    "transfer": lambda up, gray, _: up.transfer(
        gray,
        gray[::-1].copy(),
        gray[..., 0] > 100,
        blend="none",
    ),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_gray_picture_comes_back_gray(up, gray, tmp_path, door):
    answers = DOORS[door](up, gray, tmp_path)
    for answer in answers if isinstance(answers, list) else [answers]:
        assert np.ptp(np.asarray(answer, np.float64), axis=2).max() == 0


def test_a_picture_of_one_hue_keeps_it_and_tiles_do_not_show(up, gray):
    sepia = np.clip(gray * 0.6 + (48, 40, 26), 0, 255).astype(np.uint8)
    with Upscaler("x4-small", device="cpu", threads=1, tile=None) as whole:
        drawn = whole.upscale(sepia, tau=1.2)
    assert np.abs(up.upscale(sepia, tau=1.2).astype(int) - drawn).max() <= 1
    luma = drawn @ [0.299, 0.587, 0.114]
    # none is clipped
    red, blue = ((drawn[..., channel] - luma)[(luma > 40) & (luma < 215)] for channel in (0, 2))
    assert red.min() > -1
    assert blue.max() < -6
