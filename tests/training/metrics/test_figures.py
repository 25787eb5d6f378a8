"""The figures against what their definitions give in NumPy, and what values that no file can hold
do to them."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from srflow_evaluation.metrics import Convention
from srflow_evaluation.pictures import Picture
from srflow_sdk.errors import ArgumentError
from srflow_training import figures
from srflow_training.resampling import enlarge_bicubic, round_to_8_bit


def random_photo(side):
    coarse = torch.rand(1, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(0))
    return round_to_8_bit(enlarge_bicubic(coarse, 4))


@pytest.fixture
def hr():
    return random_photo(64)


def noisy(image, size):
    return image + size * torch.randn(image.shape, generator=torch.Generator().manual_seed(1))


def levels(image):
    return np.rint(image.numpy().clip(0, 1) * 255).astype(np.float64)


def test_psnr_is_of_8_bit_values_inside_the_border(hr):
    image = noisy(hr, 0.1)
    image[..., :4, :] = 0.0
    error = np.mean((levels(image) - levels(hr))[..., 4:-4, 4:-4] ** 2)
    assert figures.psnr(image, hr, border=4) == pytest.approx(
        10 * np.log10(255**2 / error), abs=1e-3
    )
    assert figures.psnr(hr, hr, border=4) == 100


@pytest.mark.parametrize("side", [64, 400])
def test_ssim_is_scikit_images_at_full_size(side):
    hr = random_photo(side)
    image = noisy(hr, 0.1)
    inner = [levels(x)[0, :, 4:-4, 4:-4] / 255 for x in (image, hr)]
    settings = {
        "data_range": 1.0,
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
    }
    maps = structural_similarity(*inner, channel_axis=0, full=True, **settings)[1]
    assert figures.ssim(image, hr, border=4) == pytest.approx(maps[:, 5:-5, 5:-5].mean(), abs=1e-4)
    assert figures.ssim(hr, hr, border=4) == pytest.approx(1)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_figures_of_flat_images_are_those_of_equality(level):
    flat = torch.full((1, 3, 64, 64), level / 255)
    convention = Convention(scale=4)
    metrics = convention.metrics()
    picture = Picture(name="flat", hr=flat, lr=flat[..., ::4, ::4])
    equal = {
        metric.name: 100 if "psnr" in metric.name else 1 if metric.better == "higher" else 0
        for metric in metrics
    }
    found = {metric.name: metric.measure(flat, picture, convention) for metric in metrics}
    assert found == pytest.approx(equal, abs=1e-4)
    others = [metric.measure(noisy(flat, 0.1), picture, convention) for metric in metrics]
    others += [
        metric.measure(torch.full_like(flat, 0.25), picture, convention) for metric in metrics
    ]
    assert np.isfinite(others).all()


def test_the_difference_of_samples_and_the_colour_shift_are_in_255ths():
    grey = torch.full((1, 3, 32, 32), 100 / 255)
    tinted = grey + torch.tensor([3.0, -6.0, 0.0])[None, :, None, None] / 255
    assert figures.colour_shift(tinted, grey) == pytest.approx(3, abs=1e-3)
    assert figures.sample_difference(tinted, grey) == pytest.approx(3, abs=1e-3)
    checkered = grey.clone()
    checkered[..., ::2, :] += 10 / 255
    checkered[..., 1::2, :] -= 10 / 255
    assert figures.colour_shift(checkered, grey) == pytest.approx(0, abs=1e-3)
    assert figures.sample_difference(checkered, grey) == pytest.approx(10, abs=1e-3)


def test_diversity_is_the_standard_deviation_over_samples():
    photo = random_photo(32)
    samples = [noisy(photo, size) for size in (0.01, 0.1, 0.3)]
    stacked = np.stack([levels(sample) for sample in samples])
    c4 = np.pi**0.5 / 2  # of 3 values
    assert figures.diversity(samples) == pytest.approx(
        stacked.std(axis=0, ddof=1).mean() / c4, rel=1e-4
    )
    assert figures.variance(samples) == pytest.approx(stacked.var(axis=0, ddof=1).mean(), rel=1e-4)
    assert figures.diversity([photo, photo]) == 0
    grey = torch.full((1, 3, 32, 32), 100 / 255)
    assert figures.diversity([grey, grey + 2 / 255]) == pytest.approx(np.pi**0.5, rel=1e-4)
    assert figures.variance([grey, grey + 2 / 255]) == pytest.approx(2, rel=1e-4)
    with pytest.raises(ArgumentError, match="at least 2 samples"):
        figures.diversity([photo])


def test_values_that_are_not_finite_are_counted_and_spoil_no_figure(hr):
    image = hr.clone()
    image[0, 0, 20, :7] = float("nan")
    image[0, 1, 20, :2] = float("inf")
    assert figures.nonfinite(image) == 9
    assert figures.nonfinite(hr) == 0
    for name in ("gmsd", "haarpsi", "flip", "colour_shift", "sample_difference"):
        assert np.isfinite(getattr(figures, name)(image, hr)), name
    assert figures.psnr(image, hr, border=4) < 60


def test_y_psnr_is_that_of_the_unrounded_bt_601_luma():
    rng = np.random.default_rng(0)
    image, reference = (
        torch.from_numpy(rng.integers(0, 256, (1, 3, 24, 20)) / 255).float() for _ in range(2)
    )
    luma = [
        16 + 65.481 * x[0, 0].double() + 128.553 * x[0, 1].double() + 24.966 * x[0, 2].double()
        for x in (image[..., 4:-4, 4:-4], reference[..., 4:-4, 4:-4])
    ]
    expected = 10 * np.log10(255**2 / float((luma[0] - luma[1]).square().mean()))
    assert figures.y_psnr(image, reference, border=4) == pytest.approx(expected, abs=1e-4)
    assert figures.y_psnr(reference, reference, border=4) == 100


def test_ssim_with_uniform_windows_is_scikit_images():
    hr = random_photo(64)
    image = noisy(hr, 0.1)
    one, other = (levels(x)[0] / 255 for x in (image, hr))
    expected = structural_similarity(one, other, channel_axis=0, data_range=1.0, win_size=7)
    assert figures.uniform_ssim(image, hr, border=0) == pytest.approx(expected, abs=1e-5)


def test_specks_are_lone_pixels_where_the_photograph_has_none():
    photograph = torch.full((1, 3, 100, 100), 0.5)
    sand = photograph.clone()
    for place in (10, 30, 50):
        sand[..., place, place] += 10 / 255
    assert figures.specks(sand, photograph) == pytest.approx(3)
    # nobody sees 5/255
    assert figures.specks(photograph + (sand - photograph) / 2, photograph) == 0
    assert figures.specks(sand, sand) == 0
    line = photograph.clone()
    line[..., 40:42, :] += 0.3  # an edge is no speck
    assert figures.specks(line, photograph) == 0
    ink = photograph + 0.3 * (torch.arange(100) % 14 // 2 == 1)  # between letters nobody sees them
    assert figures.specks(ink + (sand - photograph), ink) == 0
