"""Intervals of pictures in memory and in files: the bounds of samples, drawn tile by tile."""

import numpy as np
import pytest
from PIL import Image

from srflow_sdk.errors import ArgumentError, BundleError
from srflow_sdk.files import read_image, read_provenance, write_image
from srflow_sdk.upscaler import Upscaler
from tests.sdk.calibrated import INTERVALS, calibrated


@pytest.fixture
def photo(photo):
    """Of four tiles."""
    return photo[:21, :27]


@pytest.fixture(scope="module")
def path(tiny_bundle, tmp_path_factory):
    return calibrated(tiny_bundle, tmp_path_factory.mktemp("calibrated") / "tiny.srflow")


@pytest.fixture(scope="module")
def opened(path):
    with Upscaler(path, device="cpu", threads=1, tile=16) as upscaler:
        yield upscaler


def test_the_bounds_are_those_of_all_samples_at_once(opened, photo):
    """What streams, tile by tile, is what one would compute from all samples in float64."""
    # black and white too, where bounds end
    floats = np.clip(photo.astype(np.float32) / 127 - 0.5, 0, 1)
    encoding = opened.encode(floats)
    low, high = encoding.interval(8, coverage=0.8, seed=3)
    samples = np.stack(encoding.samples(8, seed=3)).astype(np.float64)
    half = INTERVALS.band(8, 0.8)(samples.std(axis=0, ddof=1).astype(np.float32))
    # A deviation on the edge of two classes may fall on either side.
    close = np.isclose(low, np.clip(samples.mean(axis=0) - half, 0, 1), atol=2e-6)
    close &= np.isclose(high, np.clip(samples.mean(axis=0) + half, 0, 1), atol=2e-6)
    assert close.mean() > 0.999
    assert low.dtype == high.dtype == np.float32


@pytest.mark.parametrize("kind", ["gray", "alpha", "sixteen", "pil"])
def test_bounds_are_pictures_of_the_images_kind(opened, photo, kind):
    images = {
        "gray": photo[..., :1],
        "alpha": np.dstack([photo, photo[..., :1]]),
        "sixteen": photo.astype(np.uint16) * 257,
        "pil": Image.fromarray(photo),
    }
    low, high = opened.encode(images[kind]).interval(4)
    sample = opened.upscale(images[kind])
    assert type(low) is type(high) is type(sample)
    low, high, sample = (np.asarray(picture) for picture in (low, high, sample))
    assert low.shape == high.shape == sample.shape
    assert low.dtype == high.dtype == sample.dtype
    colours = 3 if kind == "alpha" else low.shape[-1]
    assert (low[..., :colours] <= high[..., :colours]).all()
    assert (low[..., :colours] < high[..., :colours]).any()
    if kind == "alpha":
        np.testing.assert_array_equal(low[..., 3], high[..., 3])


def test_what_has_no_interval_is_refused(opened, upscaler, photo):
    encoding = opened.encode(photo)
    with pytest.raises(ArgumentError, match="omit consistent"):
        encoding.interval(8, consistent=True)
    with pytest.raises(ArgumentError, match="omit scale"):
        encoding.interval(8, scale=2)
    with pytest.raises(ArgumentError, match=r"coverage is 0\.99"):
        encoding.interval(8, coverage=0.99)
    with pytest.raises(BundleError, match="srflow-eval calibrate --model BUNDLE --hr PHOTOS"):
        upscaler.encode(photo).interval(8)
    with pytest.raises(ArgumentError, match="an interval needs three targets, not 1"):
        opened.upscale_file("photo.png", "large.png", interval=0.9)


def test_files_have_the_bounds_that_memory_has(opened, photo, tmp_path):
    source = tmp_path / "photo.png"
    targets = [tmp_path / f"{name}.png" for name in ("large", "low", "high")]
    write_image(source, photo)
    result = opened.upscale_file(source, targets, interval=0.9, seed=5, report=True)
    sample, low, high = (read_image(target).pixels for target in targets)
    np.testing.assert_array_equal(sample, opened.upscale(photo, seed=5))
    for found, wanted in zip((low, high), opened.encode(photo).interval(8, seed=5), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert [output.lr_psnr is None for output in result.outputs] == [False, True, True]
    made = [read_provenance(target) for target in targets]
    assert [(each.operation, each.sample) for each in made if each] == [
        ("upscale", 0),
        ("interval", 0),
        ("interval", 0),
    ]
    assert made[1] is not None
    assert made[1].settings == "low, 0.9 of 8 samples, factors 5 2.8 2.8 2.4"
