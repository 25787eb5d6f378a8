"""Pixels of other profiles reach the network as sRGB and come back; sRGB in all its forms is left
alone."""

import io
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from srflow_sdk.pixels import colour
from srflow_sdk.pixels.colour import conversion_for

# imported elsewhere first, pyvips would log libvips' warnings
from srflow_sdk.system import libvips
from tests.sdk.pixels.icc_writer import (
    ADOBE_RGB,
    D50,
    DISPLAY_P3,
    SRGB,
    SRGB_CURVE,
    gamma_curve,
    gray_profile,
    identity_curve,
    matrix_profile,
    parametric_curve,
    primaries_matrix,
    sampled_curve,
    table_profile,
)

P3 = matrix_profile(DISPLAY_P3, SRGB_CURVE)
ADOBE = matrix_profile(ADOBE_RGB, gamma_curve(563 / 256))
LINEAR = matrix_profile(SRGB, identity_curve())
SAMPLED = matrix_profile(ADOBE_RGB, sampled_curve([(n / 1023) ** 1.8 for n in range(1024)]))
MATRICES = {"p3": P3, "adobe": ADOBE, "linear": LINEAR, "sampled": SAMPLED}


def lab_from_adobe(rgb):
    xyz = rgb ** (563 / 256) @ primaries_matrix(ADOBE_RGB).T / D50
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


def adobe_from_lab(lab):
    y = (lab[:, 0] + 16) / 116
    f = np.stack([y + lab[:, 1] / 500, y, y - lab[:, 2] / 200], axis=1)
    xyz = np.where(f > 0.2069, f**3, (f - 16 / 116) / 7.787) * D50
    linear = np.clip(xyz @ np.linalg.inv(primaries_matrix(ADOBE_RGB)).T, 0, 1)
    return np.asarray(linear ** (256 / 563))


TABLES = table_profile(lab_from_adobe, adobe_from_lab)
CMYK = table_profile(
    lambda cmyk: lab_from_adobe((1 - cmyk[:, :3]) * (1 - cmyk[:, 3:])), None, device=b"CMYK"
)
ALL = MATRICES | {"tables": TABLES}


@pytest.fixture(autouse=True)
def _fresh():
    colour.conversion_for.cache_clear()


def conversion(profile):
    found = conversion_for(profile, channels=3)
    assert found is not None
    return found


def cube(levels=18):
    values = np.linspace(0, 255, levels).round().astype(np.uint8)
    return np.stack(np.meshgrid(values, values, values), axis=-1).reshape(levels, -1, 3)


def pillow_to_srgb(pixels, profile):
    image = ImageCms.profileToProfile(
        Image.fromarray(pixels),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert image is not None
    return np.asarray(image)


@pytest.mark.parametrize(
    ("name", "tolerance"), [("p3", 1.1), ("adobe", 1.1), ("linear", 1.1), ("tables", 2.5)]
)
def test_to_srgb_agrees_with_another_engine(name, tolerance):
    pixels = cube()
    expected = pillow_to_srgb(pixels, ALL[name]).astype(np.float32)
    result = conversion(ALL[name]).to_srgb(pixels)
    assert (result.dtype, result.shape) == (np.float32, pixels.shape)
    for other in (pixels.astype(np.uint16) * 257, (pixels / 255).astype(np.float32)):
        np.testing.assert_allclose(conversion(ALL[name]).to_srgb(other), result, atol=2e-5)
    difference = np.abs(result * 255 - expected)
    assert difference.mean() <= 0.5
    bright = (pixels >= 32).all(axis=2)  # in shadows, eight bits of the other engine are coarse
    assert np.quantile(difference[bright], 0.99) <= tolerance


@pytest.mark.parametrize("profile", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colours_that_srgb_holds_come_back(profile, dtype):
    levels = np.array([0, 1, 2, 3, 5, 8, 13, 21, 40, 80, 140, 200, 254, 255]) / 255
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(14, -1, 3)
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    pixels = (colours * white).round(0 if white > 1 else 9).astype(dtype)
    there = conversion(profile).to_srgb(pixels)
    held = (
        ((there > 0) & (there < 1)).all(axis=2)
        | (pixels == 0).all(axis=2)
        | (pixels == white).all(axis=2)
    )
    assert held.sum() > 200
    back = conversion(profile).from_srgb(there)
    # a sampled curve may begin with several zeros
    assert np.abs(back - pixels / white)[held].max() <= 0.3 / 255


def test_colours_come_back_from_lookup_tables_within_their_grid():
    pixels = np.clip(cube(12), 110, 160)  # away from the edges of what either space holds
    there = conversion(TABLES).to_srgb(pixels)
    difference = np.abs(conversion(TABLES).from_srgb(there) * 255 - pixels)
    assert difference.mean() < 0.5
    assert difference.max() < 4


def test_every_kind_of_curve_is_inverted():
    curves = [
        gamma_curve(2.2),
        sampled_curve([0, 0.2, 0.5, 1]),
        parametric_curve(0, 2.2),
        parametric_curve(1, 2.0, 0.9, 0.1),
        parametric_curve(2, 2.0, 0.8, 0.1, 0.05),
        SRGB_CURVE,
        parametric_curve(4, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045, 0.0, 0.0),
    ]
    grays = np.repeat(np.linspace(0.2, 0.95, 50, dtype=np.float32)[None, :, None], 3, axis=2)
    for curve in curves:
        there = conversion(matrix_profile(DISPLAY_P3, curve)).to_srgb(grays)
        np.testing.assert_allclose(
            conversion(matrix_profile(DISPLAY_P3, curve)).from_srgb(there), grays, atol=1e-4
        )


def srgb_profiles():
    plain = libvips.pyvips().Image.black(1, 1, bands=3).copy(interpretation="srgb")
    samples = [n / 1023 for n in range(1024)]
    curve = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in samples]
    return {
        "pillow": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "parametric": matrix_profile(SRGB, SRGB_CURVE),
        "sampled": matrix_profile(SRGB, sampled_curve(curve)),
        "libvips": plain.icc_transform("srgb", input_profile="srgb").get("icc-profile-data"),
    }


@pytest.mark.parametrize("profile", srgb_profiles().values(), ids=srgb_profiles())
def test_srgb_profiles_in_their_many_forms_need_no_conversion(profile, caplog):
    assert conversion_for(profile, channels=3) is None
    assert conversion_for(profile, channels=4) is None
    assert conversion_for(matrix_profile(SRGB, gamma_curve(2.2)), channels=3) is not None, (
        "a plain gamma is another"
    )
    assert not caplog.records


@pytest.mark.parametrize("channels", [1, 2])
def test_gray_images_and_images_without_a_profile_keep_their_values(channels, caplog):
    assert conversion_for(None, channels=3) is None
    assert conversion_for(gray_profile(gamma_curve(1.8)), channels=channels) is None
    assert conversion_for(P3, channels=channels) is None
    assert not caplog.records


UNUSABLE = {
    "empty": b"",
    "garbage": b"not a profile " * 40,
    "header only": P3[:128],
    "cut short": P3[:300],
    "cut tables": TABLES[:3000],
    "CMYK": CMYK,
    "gray": gray_profile(gamma_curve(2.2)),
    "one direction": table_profile(lab_from_adobe, None),
}


@pytest.mark.parametrize("profile", UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_profiles_warn_once_and_keep_the_values(profile, caplog):
    with caplog.at_level(logging.WARNING, "srflow_sdk"):
        for _ in range(3):
            assert conversion_for(profile, channels=3) is None
    messages = [
        record.getMessage() for record in caplog.records if record.name.startswith("srflow_sdk")
    ]
    assert len(messages) == 1
    assert "colour profile" in messages[0]
    assert "\n" not in messages[0]


@pytest.mark.parametrize("profile", [ADOBE, TABLES], ids=["formulas", "libvips"])
def test_many_threads_and_strips_get_what_one_gets(profile, monkeypatch):
    pictures = [np.random.default_rng(seed).random((40, 60, 3), np.float32) for seed in range(4)]
    expected = [
        conversion(profile).from_srgb(conversion(profile).to_srgb(picture)) for picture in pictures
    ]
    monkeypatch.setattr(colour, "_STRIP", 200)  # as of large pictures
    colour.conversion_for.cache_clear()
    start = threading.Barrier(4)

    def there_and_back(picture):
        start.wait()
        for _ in range(2):
            found = conversion(profile)
            result = found.from_srgb(found.to_srgb(picture))
        return result

    with ThreadPoolExecutor(4) as pool:
        for result, alone in zip(pool.map(there_and_back, pictures), expected, strict=True):
            np.testing.assert_array_equal(result, alone)
