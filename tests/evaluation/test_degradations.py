"""Degradations: what each kind does to a picture, and which are refused."""

import io

import numpy as np
import pytest
from PIL import Image

from srflow_evaluation.degradations import Degradation, generator_of
from srflow_sdk.errors import ArgumentError


@pytest.fixture
def picture():
    coarse = np.random.default_rng(0).integers(0, 256, (12, 14, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((112, 96), Image.Resampling.BICUBIC))


def degraded(picture, text, seed=0):
    return Degradation.parse(text).of(picture, np.random.default_rng(seed))


def test_noise_has_its_deviation_and_is_clipped_and_rounded():
    gray, black = np.full((200, 200, 3), 128, np.uint8), np.zeros((200, 200, 3), np.uint8)
    noise = degraded(gray, "noise:20").astype(float) - 128
    assert noise.std() == pytest.approx(20, rel=0.01)
    assert abs(noise.mean()) < 0.2
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02
    clipped = degraded(black, "noise:20")
    assert (clipped == 0).mean() == pytest.approx(0.5, abs=0.02)
    assert clipped.max() < 128  # nothing wrapped around
    assert not np.array_equal(degraded(gray, "noise:20", seed=1), degraded(gray, "noise:20", seed=2))


def test_jpeg_is_what_a_file_of_that_quality_holds(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=30)
    assert np.array_equal(degraded(picture, "jpeg:30"), np.asarray(Image.open(file)))
    errors = [np.abs(degraded(picture, f"jpeg:{quality}").astype(int) - picture).mean() for quality in (90, 30, 5)]
    assert errors == sorted(errors)


def test_blur_spreads_a_point_by_its_deviation():
    point = np.zeros((65, 65, 3), np.uint8)
    point[28:37, 28:37] = 255
    spread = degraded(point, "blur:4")[..., 0].astype(float)
    away = np.arange(65) - 32
    variance = (spread.sum(axis=0) * away**2).sum() / spread.sum()
    assert variance == pytest.approx(4**2 + (9**2 - 1) / 12, rel=0.05)


def test_dots_are_black_and_white_in_their_share(picture):
    gray = np.full((300, 300, 3), 128, np.uint8)
    dotted = degraded(gray, "dots:2")
    assert (dotted == 0).all(axis=2).mean() == pytest.approx(0.01, abs=0.002)
    assert (dotted == 255).all(axis=2).mean() == pytest.approx(0.01, abs=0.002)
    assert (dotted == 128).all(axis=2).mean() == pytest.approx(0.98, abs=0.004)


def test_the_picture_itself_stays_and_a_name_has_its_own_noise(picture):
    before = picture.copy()
    one, again, other = (
        Degradation.parse("noise:20").of(picture, generator_of(name)) for name in ("a/b", "a/b", "a/c")
    )
    assert np.array_equal(picture, before)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("noise", "'noise'; it must be KIND:AMOUNT, such as noise:20"),
        ("noise:", "it must be KIND:AMOUNT"),
        ("noise:nan", "it must be KIND:AMOUNT"),
        ("20", "it must be KIND:AMOUNT"),
        ("rain:2", "there is no degradation 'rain'; there are noise, jpeg, blur, dots"),
        ("noise:-3", "the amount of noise must be above 0, at most 255"),
        ("noise:inf", "at most 255"),
        ("jpeg:0", "a whole number from 1 to 100"),
        ("jpeg:30.5", "a whole number from 1 to 100"),
        ("jpeg:101", "a whole number from 1 to 100"),
        ("blur:0", "above 0, at most 100"),
    ],
)
def test_what_is_no_degradation_is_refused(text, message):
    with pytest.raises(ArgumentError, match=message):
        Degradation.parse(text)


def test_text_and_parsing_are_inverse():
    assert [str(Degradation.parse(text)) for text in ("noise:20", "blur:1.50", "jpeg:30.0")] == [
        "noise:20",
        "blur:1.5",
        "jpeg:30",
    ]
