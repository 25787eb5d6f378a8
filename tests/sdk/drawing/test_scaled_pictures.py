"""Outputs that are smaller than the model's picture, against a reduction of the whole picture in
float64."""

import numpy as np
import pytest

from srflow_sdk import ArgumentError, lr_psnr
from srflow_sdk.files import Metadata, read_image, read_provenance, write_image

from ..pixels.icc_writer import ADOBE_RGB, DISPLAY_P3, SRGB_CURVE, gamma_curve, matrix_profile
from ..pixels.reference import whole

NEARLY_GRAY = 1e-4  # channels that differ by less become equal
SIZES = {2: (90, 122), 1.5: (68, 92), 3.9: (176, 238), 0.3: (14, 18)}


def linear(values):
    """IEC 61966-2-1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def not_linear(light):
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(
    ("scale", "reduction"),
    [(2, "bicubic"), (1.5, "lanczos"), (3.9, "bicubic"), (0.3, "lanczos")],
)
def test_a_smaller_picture_is_the_reduction_of_the_model_s(tiled, floats, scale, reduction):
    expected = np.clip(whole(tiled.upscale(floats, seed=3), SIZES[scale], reduction), 0, 1)
    got = tiled.upscale(floats, seed=3, scale=scale, reduction=reduction)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=NEARLY_GRAY)


def test_light_is_averaged_if_that_is_asked_for(tiled, floats):
    large = tiled.upscale(floats).astype(np.float64)
    got = tiled.upscale(floats, scale=2, linear_light=True)
    np.testing.assert_allclose(
        got,
        not_linear(whole(linear(large), SIZES[2], "bicubic")),
        atol=NEARLY_GRAY,
    )
    assert np.abs(got - tiled.upscale(floats, scale=2)).max() > 1e-3


def test_linear_light_is_that_of_the_image_s_profile(tiled, photo, tmp_path):
    profile = matrix_profile(ADOBE_RGB, gamma_curve(1.8))
    write_image(
        tmp_path / "lr.tif",
        photo.astype(np.uint16) * 257,
        metadata=Metadata(icc_profile=profile),
    )
    tiled.upscale_file(tmp_path / "lr.tif", tmp_path / "large.tif")
    tiled.upscale_file(tmp_path / "lr.tif", tmp_path / "sr.tif", scale=2, linear_light=True)
    large, out = (read_image(tmp_path / name).pixels / 65535 for name in ("large.tif", "sr.tif"))
    expected = np.clip(whole(large**1.8, SIZES[2], "bicubic"), 0, 1) ** (1 / 1.8)
    bright = expected > 0.1  # below, rounding of the large picture shows
    assert np.abs(out - expected)[bright].max() < 5e-4
    with_srgb = not_linear(whole(linear(large), SIZES[2], "bicubic"))
    assert np.abs(out - with_srgb)[bright].max() > 1e-2


def test_opaque_alpha_changes_nothing_and_transparent_colours_do_not_bleed(tiled, photo):
    opaque = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
    plain = tiled.upscale(photo, scale=2)
    got = tiled.upscale(opaque, scale=2)
    assert np.abs(got[..., :3].astype(int) - plain).max() <= 1  # a quotient of two float32
    assert np.all(got[..., 3] == 255)
    faint = opaque.copy()
    faint[:, 30:, :3] = 255, 0, 0
    faint[:, 30:, 3] = 2  # too little to be seen, but not transparent
    mixed = tiled.upscale(faint, scale=0.5, tau=0)
    large = tiled.upscale(faint, tau=0).astype(np.float64) / 255
    alpha = large[..., 3:]
    expected = whole(large[..., :3] * alpha, (23, 31), "bicubic") / whole(
        alpha,
        (23, 31),
        "bicubic",
    )
    seen = mixed[..., 3] > 40
    assert np.abs(mixed[..., :3] / 255 - np.clip(expected, 0, 1))[seen].max() < 1.5 / 255
    unweighted = np.clip(whole(large[..., :3], (23, 31), "bicubic"), 0, 1)
    assert np.abs(mixed[..., :3] / 255 - unweighted)[seen].max() > 50 / 255


def test_mean_is_reduced_and_a_deviation_of_smaller_samples_is_refused(tiled, floats):
    encoding = tiled.encode(floats)
    samples = encoding.samples(2, seed=5, scale=1.5)
    for number, sample in enumerate(samples):
        np.testing.assert_array_equal(
            sample,
            tiled.upscale(floats, seed=5, sample=number, scale=1.5),
        )
    mean = encoding.mean(2, seed=5, scale=1.5)
    np.testing.assert_allclose(
        mean,
        np.clip(whole(encoding.mean(2, seed=5), (68, 92), "bicubic"), 0, 1),
        atol=1e-6,
    )
    with pytest.raises(ArgumentError, match="omit consistent and scale"):
        encoding.std(2, seed=5, scale=1.5)


def test_what_is_consistent_and_measured_is_the_model_s_picture(tiled, tmp_path, photo):
    write_image(tmp_path / "lr.png", photo)
    floats = (photo / np.float32(255)).astype(np.float32)
    large = tiled.upscale(floats, consistent=True)
    got = tiled.upscale(floats, consistent=True, scale=2)
    np.testing.assert_allclose(got, np.clip(whole(large, (90, 122), "bicubic"), 0, 1), atol=1e-6)
    for consistent in (False, True):
        results = [
            tiled.upscale_file(
                tmp_path / "lr.png",
                tmp_path / "a.png",
                report=True,
                consistent=consistent,
                scale=scale,
            )
            for scale in (None, 2)
        ]
        assert results[1].outputs[0].lr_psnr == results[0].outputs[0].lr_psnr
    assert lr_psnr(tmp_path / "a.png", photo) > 35  # the smaller file itself is close to it


def test_a_file_says_its_scale_and_prints_at_the_same_size(tiled, tmp_path, photo):
    profile = matrix_profile(DISPLAY_P3, SRGB_CURVE)
    write_image(
        tmp_path / "lr.png",
        photo,
        metadata=Metadata(icc_profile=profile, resolution=(10.0, 12.0)),
    )
    tiled.upscale_file(
        tmp_path / "lr.png",
        tmp_path / "sr.tif",
        scale=1.5,
        reduction="lanczos",
        linear_light=True,
    )
    file = read_image(tmp_path / "sr.tif")
    made = read_provenance(tmp_path / "sr.tif")
    assert file.pixels.shape == (68, 92, 3)
    assert file.metadata.icc_profile == profile
    assert file.metadata.resolution == pytest.approx((15, 18))
    assert made is not None
    assert (made.scale, made.reduction, made.linear_light) == (1.5, "lanczos", True)
    tiled.upscale_file(tmp_path / "lr.png", tmp_path / "sr.tif")
    made = read_provenance(tmp_path / "sr.tif")
    assert made is not None
    assert (made.scale, made.reduction, made.linear_light) == (None, None, False)
