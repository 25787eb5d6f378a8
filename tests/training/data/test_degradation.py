"""LR images damaged as photographs are: what each operation does, and that crops stay reproducible
and aligned."""

import pickle

import numpy as np
import pytest
import torch

from srflow_training import figures
from srflow_training.data import MARGIN, degrade, loader
from srflow_training.model import RRDB
from srflow_training.resampling import mirror_pad, reduce_bicubic, reduce_bilinear, round_to_8_bit
from srflow_training.settings import Degradation
from srflow_training.validation import Validation, runtime_noise
from tests.networks import random_srflow, tiny_config
from tests.training import crops
from tests.training.crops import equal

NOTHING = {"passes": 1, "clean": 0, "blur": 0, "resize": 0, "noise": 0, "compression": 0}
EVERYTHING = {"preset": "strong", "clean": 0, "blur": 1, "resize": 1, "noise": 1, "compression": 1}


def crops_of(photos, degradation=None, **fields):
    return crops.crops_of(
        photos, degradation=degradation, **{"crop": 32, "iterations": 6, **fields}
    )


def damaged(image, *, seed=0, scale=1, **fields):
    """1×3×h×w → 1×3×h/scale×w/scale. At scale 1 the last resize changes nothing."""
    settings = Degradation(**{**NOTHING, **fields})
    return degrade(
        mirror_pad(image, MARGIN * scale),
        settings,
        scale=scale,
        rng=np.random.default_rng(seed),
    )


def flat(level, side=64):
    return torch.full((1, 3, side, side), level)


def impulse(side=65):
    image = flat(0.0, side)
    image[..., side // 2, side // 2] = 1
    return image


def random_image(side=64):
    return torch.rand((1, 3, side, side), generator=torch.Generator().manual_seed(0))


def covariance(image):
    """2×2, of the position in rows and columns, weighted by brightness."""
    weights = image[0, 0].double().numpy()
    positions = np.indices(weights.shape).reshape(2, -1)
    return np.cov(positions, aweights=weights.ravel().clip(0), ddof=0)


def high_frequencies(image):
    return float(image.diff(dim=2).square().mean() + image.diff(dim=3).square().mean())


# Operations


def test_direct_damage_is_of_lr_pixels_and_comes_once():
    """Blur, noise and compression are as large as a camera's pixels.

    Nothing is resized but the plain reduction.
    """
    hr = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    plain = reduce_bicubic(mirror_pad(hr, MARGIN * 4), 4)[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert torch.equal(damaged(hr, scale=4, direct=1, resize=1), plain)
    noisy = damaged(
        hr,
        scale=4,
        direct=1,
        noise=1,
        noise_sigma=(10, 10),
        poisson=0,
        gray=0,
        passes=4,
    )
    assert 255 * (noisy - plain).std() == pytest.approx(10, rel=0.05), (
        "not less, as of noise that is reduced with HR"
    )
    blocks = damaged(hr, scale=4, direct=1, compression=1, quality=(10, 10), webp=0)
    assert not torch.equal(blocks, plain)
    assert torch.equal(255 * blocks, (255 * blocks).round()), "compression comes last"


def test_direct_damage_begins_with_the_reduction_of_the_data(photos):
    """The network of a run with `data.reduction: bilinear` must see bilinear reductions, in
    training and validation."""
    direct = Degradation(**NOTHING, direct=1)
    bicubic, bilinear = (
        crops_of(photos, NOTHING | {"direct": 1}, reduction=way)[0]
        for way in ("bicubic", "bilinear")
    )
    plain = crops_of(photos, reduction="bilinear")[0]
    assert torch.equal(bicubic.hr, bilinear.hr)
    assert not torch.equal(bicubic.lr, bilinear.lr)
    assert torch.equal(plain.lr, bilinear.lr)
    validation = Validation(
        photos,
        scale=4,
        multiple=8,
        degradation=direct,
        reduction="bilinear",
        count=1,
    )
    [hr] = validation.crops
    assert torch.equal(validation._reduce(hr, 0), round_to_8_bit(reduce_bilinear(hr, 4)))


def test_a_gaussian_blur_has_its_width_and_keeps_the_light():
    round_blur = damaged(impulse(), blur=1, sinc=0, anisotropic=0, blur_sigma=(1.5, 1.5))
    assert np.allclose(covariance(round_blur), np.eye(2) * 1.5**2, atol=0.03)
    assert float(round_blur.sum()) == pytest.approx(3, abs=1e-3)
    for seed in range(5):
        found = covariance(
            damaged(impulse(), seed=seed, blur=1, sinc=0, anisotropic=0, blur_sigma=(0.8, 2.5))
        )
        assert np.allclose(found, np.eye(2) * found[0, 0], atol=0.03)
    assert high_frequencies(damaged(random_image(), blur=1, sinc=0)) < high_frequencies(
        random_image()
    )


@pytest.mark.parametrize("passes", [1, 2, 4])
def test_the_widest_blurs_do_not_carry_light_round_the_window(passes):
    """White from a crop's right border on, to the end of the window: the left border stays
    black."""
    sigma = 3 / passes**0.5
    scale = 4
    side = 20 + 2 * MARGIN
    window = torch.zeros(1, 3, side * scale, side * scale)
    window[..., -MARGIN * scale :] = 1
    settings = Degradation(
        **{**NOTHING, "passes": passes, "blur": 1, "sinc": 0, "blur_sigma": (sigma, sigma)}
    )
    for seed in range(4):
        lr = degrade(window, settings, scale=scale, rng=np.random.default_rng(seed))
        assert float(lr[..., 0].abs().max()) * 255 < 0.7


def test_an_anisotropic_blur_has_two_widths_at_any_angle():
    angles = []
    for seed in range(20):
        blurred = damaged(
            impulse(),
            seed=seed,
            blur=1,
            sinc=0,
            anisotropic=1,
            blur_sigma=(0.8, 2.5),
        )
        values, vectors = np.linalg.eigh(covariance(blurred))
        assert 0.75**2 < values[0] < values[1] < 2.55**2
        angles.append(np.degrees(np.arctan2(*vectors[:, 1])) % 180)
    assert np.ptp(angles) > 90


def test_a_sinc_filter_cuts_frequencies_sharply_and_rings():
    filtered = damaged(impulse(), blur=1, sinc=1, sinc_cutoff=(0.3, 0.3))
    assert float(filtered.min()) < -0.01
    spectrum = torch.fft.fft2(filtered[0, 0]).abs().numpy()
    frequency = np.hypot(np.fft.fftfreq(65)[:, None], np.fft.fftfreq(65))
    assert np.allclose(spectrum[frequency < 0.25], 1, atol=0.05)
    assert np.allclose(spectrum[frequency > 0.35], 0, atol=0.05)


@pytest.mark.parametrize("poisson", [0, 1])
@pytest.mark.parametrize("level", [0.25, 0.64])
def test_noise_has_its_deviation_and_poissons_variance_is_that_of_white_times_brightness(
    poisson, level
):
    noise = damaged(flat(level), noise=1, poisson=poisson, gray=0, noise_sigma=(15, 15)) - level
    expected = 15 * level**0.5 if poisson else 15
    assert float(noise.std()) * 255 == pytest.approx(expected, rel=0.03)
    assert float(noise.mean()) * 255 == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("poisson", [0, 1])
def test_gray_noise_is_equal_in_the_channels_and_other_noise_is_not(poisson):
    image = flat(0.5) + torch.tensor([-0.2, 0, 0.2])[None, :, None, None]
    for gray in (0, 1):
        noise = (damaged(image, noise=1, poisson=poisson, gray=gray) - image)[0].flatten(1)
        correlation = torch.corrcoef(noise)[0, 1:]
        assert bool((correlation > 0.999).all() if gray else (correlation.abs() < 0.1).all())


def test_jpeg_makes_blocks_of_eight_pixels_anywhere():
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    phases = set()
    for seed in range(20):
        steps = (
            damaged(ramp, seed=seed, compression=1, webp=0, quality=(3, 3))
            .diff(dim=3)
            .abs()
            .mean(dim=(0, 1, 2))
        )
        by_phase = [float(steps[phase::8].mean()) for phase in range(8)]
        assert max(by_phase) > 4 * np.median(by_phase)
        phases.add(int(np.argmax(by_phase)))
    assert len(phases) > 4


def test_lr_is_not_shifted_against_hr():
    """The centre of a spot, in the mean of many LR images with all operations on."""
    scale = 4
    side = 24 * scale
    rows, columns = torch.meshgrid(
        torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij"
    )
    centre = 5.3 * scale, 18.6 * scale
    spot = torch.exp(
        -((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / (2 * (1.5 * scale) ** 2)
    )
    image = 0.2 + 0.6 * spot.expand(1, 3, -1, -1)
    mean = torch.stack(
        [
            damaged(image, seed=seed, scale=scale, **{**EVERYTHING, "passes": 2})
            for seed in range(40)
        ]
    )
    weights = (mean.mean(dim=(0, 1, 2)) - 0.2).double()
    weights *= weights > 0.05  # the noise far from the spot
    found = [
        float((weights.sum(1 - axis) * (torch.arange(24) + 0.5)).sum() / weights.sum())
        for axis in (0, 1)
    ]
    assert found == pytest.approx([5.3, 18.6], abs=0.1)


# Crops


@pytest.mark.parametrize(("scale", "crop"), [(4, 64), (16, 32)])
def test_lr_has_its_exact_size_and_8_bit_levels(photos, scale, crop):
    lr = crops_of(photos, EVERYTHING, scale=scale, crop=crop, batch=16)[0].lr
    assert lr.shape == (16, 3, crop // scale, crop // scale)
    assert lr.dtype == torch.float32
    assert torch.equal(lr, round_to_8_bit(lr))
    assert 0 <= float(lr.min()) < float(lr.max()) <= 1


def test_ranks_workers_threads_and_resuming_change_nothing(photos):
    state = torch.get_rng_state()
    whole = list(loader(crops_of(photos, EVERYTHING), start=0, workers=0))
    resumed = list(loader(crops_of(photos, EVERYTHING), start=2, workers=2))
    assert all(equal(a, b) for a, b in zip(whole[2:], resumed, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    share = pickle.loads(pickle.dumps(crops_of(photos, EVERYTHING, rank=1, ranks=2)))[5]
    assert torch.equal(share.lr, whole[5].lr[1::2])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert equal(crops_of(photos, EVERYTHING)[5], whole[5])
    finally:
        torch.set_num_threads(threads)


# Runs


def test_validation_damages_each_photograph_in_its_own_way_always(photos):
    torch.manual_seed(0)
    model = RRDB(scale=4, nf=8, growth=4, blocks=1)
    clean = Validation(photos, scale=4, multiple=8)
    first, again = (
        Validation(photos, scale=4, multiple=8, degradation=Degradation(clean=1, preset="strong"))
        for _ in range(2)
    )
    assert first.figures(model) == again.figures(model) == first.figures(model)
    assert (
        first.figures(model)["validation/psnr_bicubic"]
        < clean.figures(model)["validation/psnr_bicubic"]
    )
    assert torch.equal(first.grid(model), again.grid(model))
    first.crops = [first.crops[0]] * 2
    one, other = first.grid(model).split(128, dim=1)
    assert not torch.equal(one, other)


def test_the_validations_lr_psnr_is_that_against_the_clean_reduction(photos):
    """Against a damaged LR image, reproducing its noise and blocks would score best."""
    validation = Validation(
        photos,
        scale=4,
        multiple=8,
        degradation=Degradation(**EVERYTHING),
        count=1,
    )
    [hr], flow = validation.crops, random_srflow(tiny_config())
    lr = validation._reduce(hr, 0)
    with torch.no_grad():
        noise = runtime_noise(flow, lr, seed=0)
        sample = flow.decode(lr, {level: 0.8 * values for level, values in noise.items()})
    clean = figures.lr_psnr(sample, round_to_8_bit(reduce_bicubic(hr, 4)))
    assert validation.figures(flow)["validation/lr_psnr_tau0.8"] == pytest.approx(clean, rel=1e-4)
    assert figures.lr_psnr(sample, lr) != pytest.approx(clean, rel=1e-2)
