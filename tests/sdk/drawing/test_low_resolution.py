from __future__ import annotations

import io
import threading
from contextlib import closing

import numpy as np
import pytest
from PIL import Image, ImageCms

from srflow_sdk.drawing.low_resolution import ArrayRows, LowResolution, RowBuffer
from srflow_sdk.pixels.colour import conversion_for
from srflow_sdk.pixels.in_memory import ImageKind
from srflow_sdk.upscaler import Upscaler

from ..pixels.icc_writer import DISPLAY_P3, SRGB_CURVE, matrix_profile

P3 = matrix_profile(DISPLAY_P3, SRGB_CURVE)


def low_resolution(pixels, *, icc_profile=None, reach=6):
    kind = ImageKind(channels=pixels.shape[2], dtype=pixels.dtype, icc_profile=icc_profile)
    height, width = pixels.shape[:2]
    return LowResolution(source=ArrayRows(pixels), kind=kind, height=height, width=width, multiple=2, reach=reach)


def test_the_network_sees_the_image_padded_once_at_its_end():
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    lr = low_resolution(pixels)
    seen = lr.network_rows(0, 6)
    assert (seen.dtype, seen.shape) == (np.float32, (3, 6, 8))
    padded = np.pad(pixels, ((0, 1), (0, 1), (0, 0)), mode="edge").transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_array_equal(seen, padded.astype(np.float32))
    np.testing.assert_array_equal(lr.network_rows(2, 6), seen[:, 2:])
    gray = low_resolution(np.full((4, 4, 1), 51, np.uint8)).network_rows(0, 4)
    assert (gray.shape, np.unique(gray).tolist()) == ((3, 4, 4), [np.float32(0.2)])


def test_rows_do_not_depend_on_how_they_are_asked_for():
    pixels = np.random.default_rng(0).integers(0, 255, (60, 9, 4), np.uint8)
    pixels[20:40, 2:, 3] = 0
    lr = low_resolution(pixels)
    whole = lr.network_rows(0, 60)
    for top, bottom in [(0, 8), (10, 25), (22, 24), (36, 60)]:
        np.testing.assert_array_equal(lr.network_rows(top, bottom), whole[:, top:bottom])
    np.testing.assert_allclose(lr.enlarged_alpha(12, 30, 4), lr.enlarged_alpha(0, 60, 4)[48:120], atol=1)


@pytest.mark.parametrize(("mode", "tile"), [("RGBA", 16), ("LA", None)])
def test_colour_under_transparency_does_not_show(tiny_bundle, photo, mode, tile):
    image = np.asarray(Image.fromarray(photo).convert(mode)).copy()
    image[12:30, 20:50, -1] = 0
    image[30:34, 20:50, -1] = 128
    other = image.copy()
    other[12:30, 20:50, :-1] = 255 - image[12:30, 20:50, :-1]
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=tile) as opened:
        one, two = opened.upscale(image, seed=1), opened.upscale(other, seed=1)
    np.testing.assert_array_equal(one[..., -1], two[..., -1])
    visible = one[..., -1] > 0
    assert 0.5 < visible.mean() < 0.9
    # The bicubic alpha reaches two pixels into the hole, where the network sees filled colours as well.
    np.testing.assert_array_equal(one[visible], two[visible])


def test_an_opaque_image_costs_and_changes_nothing(upscaler, photo):
    opaque = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
    answer = upscaler.upscale(opaque)
    np.testing.assert_array_equal(answer[..., :3], upscaler.upscale(photo))
    assert (answer[..., 3] == 255).all()


def test_colours_of_a_wide_profile_are_converted_for_the_network_and_come_back(upscaler, photo):
    conversion = conversion_for(P3, channels=3)
    assert conversion is not None
    image = Image.fromarray(photo)
    image.info["icc_profile"] = P3
    answer = upscaler.upscale(image, tau=0)
    assert answer.info["icc_profile"] == P3
    seen = upscaler.upscale(conversion.to_srgb(photo), tau=0)
    to_srgb = ImageCms.profileToProfile(
        answer, ImageCms.ImageCmsProfile(io.BytesIO(P3)), ImageCms.createProfile("sRGB")
    )
    inside = np.abs(np.asarray(to_srgb, np.float32) - 255 * seen)
    assert np.percentile(inside, 95) < 2.5


def test_what_srgb_cannot_hold_is_kept(upscaler):
    image = Image.new("RGB", (20, 20), (10, 250, 20))  # of Display P3: far outside sRGB
    image.info["icc_profile"] = P3
    answer = np.asarray(upscaler.upscale(image, tau=0), np.float32)
    plain = np.asarray(upscaler.upscale(Image.new("RGB", (20, 20), (10, 250, 20)), tau=0), np.float32)
    # The tiny network changes flat colours, so compare with how far it moves them without a profile.
    moved = np.abs(plain - [10, 250, 20]).mean()
    assert np.abs(answer - [10, 250, 20]).mean() < moved + 8


def test_colours_beyond_srgb_reach_to_the_edge_of_what_is_visible():
    pixels = np.full((20, 20, 4), (10, 250, 20, 255), np.uint8)
    pixels[:, 10:] = (200, 0, 200, 0)
    lr = low_resolution(pixels, icc_profile=P3)
    own = lr.in_own_profile(lr.colours(0, 20).repeat(4, 0).repeat(4, 1), 0, 20, 4)
    np.testing.assert_allclose(own[:, : 4 * 12] * 255, np.broadcast_to([10, 250, 20], (80, 48, 3)), atol=1)


# The rows of a file, decoded ahead and dropped once they are done.

PIXELS = np.arange(40 * 3 * 2).reshape(40, 3, 2).astype(np.uint8)


class Decoder:
    def __init__(self):
        self.row = 0
        self.threads: set[str] = set()

    def read(self, count):
        self.threads.add(threading.current_thread().name)
        self.row += count
        assert self.row <= 40, "no more rows than there are"
        return PIXELS[self.row - count : self.row]


@pytest.mark.parametrize("ahead", [1, 7, 1000])
def test_streamed_rows_are_the_images(ahead):
    with closing(RowBuffer((decoder := Decoder()).read, height=40, ahead=ahead)) as rows:
        for top, bottom, forget in [(0, 9, 0), (3, 12, 5), (5, 30, 20), (20, 40, 39), (39, 40, 40)]:
            np.testing.assert_array_equal(rows.rows(top, bottom), PIXELS[top:bottom])
            rows.forget(forget)
    assert threading.current_thread().name not in decoder.threads, "they are decoded ahead"


def test_forgotten_rows_are_gone_and_their_memory_with_them():
    buffer = RowBuffer()
    buffer.append(PIXELS[:20])
    buffer.append(PIXELS[20:30])
    buffer.forget(18)
    assert buffer.bottom == 30
    np.testing.assert_array_equal(buffer.rows(18, 30), PIXELS[18:30])
    assert buffer.rows(18, 30).base.nbytes == PIXELS[18:30].nbytes
    with pytest.raises(IndexError):
        buffer.rows(17, 20)
    with pytest.raises(IndexError):
        buffer.rows(18, 31)


def test_what_failed_fails_again_for_everyone_who_asks():
    requests = []

    def fail(count):
        requests.append(count)
        raise ValueError("damaged")

    with closing(RowBuffer(fail, height=40, ahead=40)) as rows:
        for _ in range(3):
            with pytest.raises(ValueError, match="damaged"):
                rows.rows(0, 4)
    assert requests == [40]
