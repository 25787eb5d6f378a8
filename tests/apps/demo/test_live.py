"""A crop that is drawn alone has the pixels that the whole picture has there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srflow_apps.demo.live import LivePhoto
from srflow_sdk import read_image
from srflow_sdk.drawing.options import DrawOptions


def live_crop(upscaler, path: Path, *, place: tuple[int, int] | None = (0, 0), side: int = 24) -> LivePhoto:
    live = LivePhoto(upscaler, path, max_pixels=10**8)
    live.show(place=place, side=side)
    return live


def part(whole: np.ndarray, live: LivePhoto, shape: tuple[int, ...]) -> np.ndarray:
    top, left = live.crop.top * 4, live.crop.left * 4
    return whole[top : top + shape[0], left : left + shape[1]]


@pytest.mark.parametrize(("place", "tau"), [((13, 7), 0.8), ((999, 999), "auto"), ((-5, 20), 0.8), (None, "auto")])
def test_a_crop_is_that_part_of_the_file_that_the_sdk_writes(upscaler, uploaded, tmp_path, tau, place) -> None:
    upscaler.upscale_file(uploaded, tmp_path / "large.png", tau=tau, seed=3, sample=2)
    live = live_crop(upscaler, uploaded, place=place)
    drawn = live.draw(DrawOptions(tau=tau, seed=3, sample=2))
    assert drawn.shape[0] >= 24 * 4 - 4
    expected = part(read_image(tmp_path / "large.png").pixels, live, drawn.shape)
    assert np.abs(drawn.astype(int) - expected).max() <= 1
    assert (drawn != expected).mean() < 0.001


def test_the_same_crop_is_encoded_once(upscaler, uploaded, monkeypatch) -> None:
    encoded: list[object] = []
    encode = upscaler._painter.encode
    monkeypatch.setattr(upscaler._painter, "encode", lambda *a, **k: (encoded.append(a), encode(*a, **k))[1])
    live = live_crop(upscaler, uploaded, place=(4, 4))
    for tau in (0.1, 0.5, 0.9):
        live.show(place=(4, 4), side=24)
        live.draw(DrawOptions(tau=tau))
    assert len(encoded) == 1
    live.show(place=(8, 4), side=24)
    assert len(encoded) == 2


def test_samples_of_a_photo_smaller_than_the_crop_are_those_of_an_encoding(upscaler, uploaded, photo) -> None:
    drawn, std = live_crop(upscaler, uploaded, side=128).samples(4, DrawOptions(tau=0.8, seed=5))
    encoding = upscaler.encode(photo)
    for picture, expected in zip(drawn, encoding.samples(4, tau=0.8, seed=5), strict=True):
        np.testing.assert_array_equal(picture, expected)
    np.testing.assert_allclose(std, encoding.std(4, tau=0.8, seed=5), atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_gray_and_transparent_photos_keep_their_channels(upscaler, tmp_path, photo, mode) -> None:
    path = tmp_path / "photo.png"
    image = Image.fromarray(photo).convert(mode)
    if mode != "L":
        alpha = np.full(photo.shape[:2], 255, np.uint8)
        alpha[:, 12:] = 0
        image.putalpha(Image.fromarray(alpha))
    image.save(path)
    live = live_crop(upscaler, path)
    upscaler.upscale_file(path, tmp_path / "large.png", tau=0.8)
    saved = read_image(tmp_path / "large.png").pixels[:96, :96]
    drawn = live.draw(DrawOptions(tau=0.8))
    assert np.abs(drawn.astype(int) - saved)[:, :44].max() <= 1  # what is transparent has any colour
    assert live.bicubic().shape == drawn.shape == (96, 96, len(mode))
    if mode != "L":
        for picture in (drawn, live.bicubic(), *live.samples(2, DrawOptions(tau=0.8))[0]):
            np.testing.assert_array_equal(picture[..., -1], saved[..., -1])


def test_bicubic_is_that_of_the_whole_photo(upscaler, uploaded, photo) -> None:
    live = live_crop(upscaler, uploaded, place=(10, 12), side=20)
    height, width = photo.shape[:2]
    whole = np.asarray(Image.fromarray(photo).resize((4 * width, 4 * height), Image.Resampling.BICUBIC))
    shown = live.bicubic()
    assert np.abs(shown.astype(int) - part(whole, live, shown.shape)).max() <= 1
