"""Damages: what each kind does to a picture, and which are refused."""

import io

import numpy as np
import pytest
from PIL import Image

from srflow_evaluation.damages import KNOWN, UNSEEN, Damage
from srflow_sdk.errors import ArgumentError


@pytest.fixture
def picture():
    coarse = np.random.default_rng(0).integers(0, 256, (12, 14, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((112, 96), Image.Resampling.BICUBIC))


def damaged(picture, text, seed=0):
    return Damage.parse(text).of(picture, np.random.default_rng(seed))


def gray(level=128, side=128):
    return np.full((side, side, 3), level, np.uint8)


def test_motion_spreads_a_point_along_a_line_of_its_length():
    point = np.zeros((65, 65, 3), np.uint8)
    point[31:34, 31:34] = 255
    spread = damaged(point, "motion:12", seed=3)[..., 0].astype(float)
    rows, columns = np.mgrid[:65, :65] - 32
    total = spread.sum()
    moments = [
        (spread * product).sum() / total for product in (rows**2, columns**2, rows * columns)
    ]
    covariance = np.array([[moments[0], moments[2]], [moments[2], moments[1]]])
    across, along = np.linalg.eigvalsh(covariance)
    assert along - across == pytest.approx(12**2 / 12, rel=0.05)  # the variance of a uniform line
    assert across < 1.2  # of the point itself, and interpolation
    assert total == pytest.approx(9 * 255, rel=0.05)
    assert not np.array_equal(spread, damaged(point, "motion:12", seed=4)[..., 0])  # another angle
    assert np.array_equal(damaged(gray(), "motion:12"), gray())


def test_speckle_grows_with_brightness():
    for level in (50, 150):
        assert damaged(gray(level), "speckle:10").astype(float).std() == pytest.approx(
            level / 10,
            rel=0.03,
        )


def test_bayer_keeps_what_the_sensor_saw_and_interpolates_the_rest(picture):
    seen = damaged(picture, "bayer:0.001")
    assert np.array_equal(seen[::2, ::2, 0], picture[::2, ::2, 0])
    assert np.array_equal(seen[::2, 1::2, 1], picture[::2, 1::2, 1])
    assert np.array_equal(seen[1::2, ::2, 1], picture[1::2, ::2, 1])
    assert np.array_equal(seen[1::2, 1::2, 2], picture[1::2, 1::2, 2])
    red = picture[..., 0].astype(float)
    assert seen[2, 3, 0] == np.rint((red[2, 2] + red[2, 4]) / 2)
    assert seen[3, 3, 0] == np.rint((red[2, 2] + red[2, 4] + red[4, 2] + red[4, 4]) / 4)
    green = picture[..., 1].astype(float)
    assert seen[4, 4, 1] == np.rint((green[3, 4] + green[5, 4] + green[4, 3] + green[4, 5]) / 4)
    assert np.array_equal(damaged(gray(), "bayer:0.001"), gray())
    noise = damaged(gray(), "bayer:8").astype(float) - 128
    assert noise[::2, ::2, 0].std() == pytest.approx(8, rel=0.05)
    neighbours = np.corrcoef(noise[2:-2:2, 2:-2:2, 0].ravel(), noise[2:-2:2, 3:-1:2, 0].ravel())[
        0, 1
    ]
    # 1/√2: half of an interpolated value is its neighbour
    assert neighbours == pytest.approx(0.71, abs=0.08)


def test_chroma_keeps_luma_and_loses_detail_of_colour():
    # nothing is clipped
    picture = np.random.default_rng(0).integers(90, 160, (96, 112, 3), dtype=np.uint8)
    luma, cb, _ = (
        np.asarray(part, float) for part in Image.fromarray(picture).convert("YCbCr").split()
    )
    shown = damaged(picture, "chroma:4")
    new_luma, new_cb, _ = (
        np.asarray(part, float) for part in Image.fromarray(shown).convert("YCbCr").split()
    )
    assert np.abs(new_luma - luma).max() <= 2
    assert np.abs(np.diff(new_cb, axis=1)).mean() < 0.15 * np.abs(np.diff(cb, axis=1)).mean()


def test_posterise_leaves_so_many_levels(picture):
    banded = damaged(picture, "posterise:16")
    assert set(np.unique(banded)) == {17 * level for level in range(16)}
    assert np.abs(banded.astype(int) - picture).max() <= 9


def test_fringe_moves_red_outwards_and_blue_inwards():
    ramp = np.repeat(np.arange(20, 148, dtype=np.uint8)[None, :, None], 128, axis=0).repeat(
        3,
        axis=2,
    )
    shifted = damaged(ramp, "fringe:2")[64, 8:120].astype(float) - ramp[64, 8:120]
    corner = 64 * np.sqrt(2)
    expected = (np.arange(8, 120) - 63.5) * 2 / corner
    # enlarged: each place shows what was nearer to the centre
    assert np.abs(shifted[:, 0] + expected).max() < 0.75
    assert np.abs(shifted[:, 1]).max() == 0
    assert np.abs(shifted[:, 2] - expected).max() < 0.75


def test_gif_leaves_so_many_colours(picture):
    few = damaged(picture, "gif:16")
    assert len(np.unique(few.reshape(-1, 3), axis=0)) <= 16
    assert np.abs(few.reshape(-1, 3).mean(axis=0) - picture.reshape(-1, 3).mean(axis=0)).max() < 4


def test_a_damage_takes_its_steps_in_order(picture):
    random = np.random.default_rng(0)
    by_hand = Damage.parse("jpeg:60").of(Damage.parse("noise:5").of(picture, random), random)
    assert np.array_equal(damaged(picture, "noise:5+jpeg:60"), by_hand)
    assert not np.array_equal(damaged(picture, "jpeg:60+noise:5"), by_hand)
    assert np.array_equal(damaged(picture, "clean"), picture)
    assert [str(Damage.parse(text)) for text in ("noise:5.0+jpeg:60", "clean")] == [
        "noise:5+jpeg:60",
        "clean",
    ]
    assert Damage.parse("blur:0.5+jpeg:60").folder == "blur-0.5_jpeg-60"
    with pytest.raises(ArgumentError, match=r"'clean'; it must be KIND:AMOUNT"):
        Damage.parse("clean+jpeg:60")


def test_every_damage_of_a_family_changes_the_picture_and_repeats(picture):
    for text in (*KNOWN, *UNSEEN):
        before = picture.copy()
        one = damaged(picture, text)
        again = damaged(picture, text)
        assert np.array_equal(picture, before)
        assert np.array_equal(one, again)
        assert one.shape == picture.shape
        assert one.dtype == np.uint8
        assert not np.array_equal(one, picture)


def test_noise_has_its_deviation_and_is_clipped_and_rounded():
    gray = np.full((200, 200, 3), 128, np.uint8)
    black = np.zeros((200, 200, 3), np.uint8)
    noise = damaged(gray, "noise:20").astype(float) - 128
    assert noise.std() == pytest.approx(20, rel=0.01)
    assert abs(noise.mean()) < 0.2
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02
    clipped = damaged(black, "noise:20")
    assert (clipped == 0).mean() == pytest.approx(0.5, abs=0.02)
    assert clipped.max() < 128  # nothing wrapped around
    assert not np.array_equal(damaged(gray, "noise:20", seed=1), damaged(gray, "noise:20", seed=2))


def test_jpeg_is_what_a_file_of_that_quality_holds(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=30)
    assert np.array_equal(damaged(picture, "jpeg:30"), np.asarray(Image.open(file)))
    errors = [
        np.abs(damaged(picture, f"jpeg:{quality}").astype(int) - picture).mean()
        for quality in (90, 30, 5)
    ]
    assert errors == sorted(errors)


def test_dots_are_black_and_white_in_their_share(picture):
    gray = np.full((300, 300, 3), 128, np.uint8)
    dotted = damaged(gray, "dots:2")
    assert (dotted == 0).all(axis=2).mean() == pytest.approx(0.01, abs=0.002)
    assert (dotted == 255).all(axis=2).mean() == pytest.approx(0.01, abs=0.002)
    assert (dotted == 128).all(axis=2).mean() == pytest.approx(0.98, abs=0.004)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("noise", "'noise'; it must be KIND:AMOUNT, such as noise:20"),
        ("noise:nan", "it must be KIND:AMOUNT"),
        ("rain:2", "there is no degradation 'rain'; there are noise, jpeg, blur, dots"),
        ("noise:-3", "the amount of noise must be above 0, at most 255"),
        ("jpeg:0", "a whole number from 1 to 100"),
        ("jpeg:30.5", "a whole number from 1 to 100"),
        ("blur:0", "above 0, at most 100"),
    ],
)
def test_what_is_no_degradation_is_refused(text, message):
    with pytest.raises(ArgumentError, match=message):
        Damage.parse(text)
