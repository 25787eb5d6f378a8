"""A run is watched by the same figures as after it, from the same latents, at one encoding a
photograph."""

import math

import pytest
import torch

from srflow_training import figures
from srflow_training.data import read_photo, to_image
from srflow_training.resampling import (
    enlarge_bicubic,
    reduce_bicubic,
    reduce_bilinear,
    round_to_8_bit,
)
from srflow_training.validation import Validation, runtime_noise
from tests.networks import random_srflow, tiny_config
from tests.photos import write_photo
from tests.training.crops import places


@pytest.fixture(scope="module")
def validation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photo(folder / "a.png", 140, 70, seed=1)
    write_photo(folder / "b.png", 72, 72, seed=2)
    return Validation(folder, scale=4, multiple=64, count=2)


@pytest.fixture
def flow():
    return random_srflow(tiny_config())


def lr_of(hr):
    return round_to_8_bit(reduce_bicubic(hr, 4))


def sample(flow, lr, tau, seed=0):
    with torch.no_grad():
        return flow.decode(
            lr, {level: tau * noise for level, noise in runtime_noise(flow, lr, seed=seed).items()}
        )


def test_a_flows_figures_are_those_of_the_runtimes_samples(validation, flow):
    pairs = [(hr, lr_of(hr)) for hr in validation.crops]
    assert [tuple(hr.shape) for hr, _ in pairs] == [(1, 3, 128, 64), (1, 3, 64, 64)]

    def of_one(hr, lr):
        with torch.no_grad():
            bits = -float(flow.encode(hr, lr)[1]) / hr.numel() / math.log(2)
        mean = sample(flow, lr, 0)
        drawn = sample(flow, lr, 0.8)
        return {
            "nll": bits,
            "bits_per_dimension": 8 + bits,
            "psnr_bicubic": figures.psnr(enlarge_bicubic(lr, 4), hr, border=4),
            "psnr_tau0": figures.psnr(mean, hr, border=4),
            "y_psnr_tau0": figures.y_psnr(mean, hr, border=4),
            "ssim_tau0": figures.ssim(mean, hr, border=4),
            "gmsd_tau0.8": figures.gmsd(drawn, hr),
            "haarpsi_tau0.8": figures.haarpsi(drawn, hr),
            "lr_psnr_tau0.8": figures.lr_psnr(drawn, lr),
            "sample_difference_tau0.8": figures.sample_difference(
                drawn, sample(flow, lr, 0.8, seed=1)
            ),
            "nonfinite_tau0.8": 0,
        }

    one, other = (of_one(*pair) for pair in pairs)
    expected = {f"validation/{name}": (one[name] + other[name]) / 2 for name in one}
    assert validation.figures(flow) == pytest.approx(expected, rel=1e-4)
    assert one["sample_difference_tau0.8"] > 1


def test_validation_reduces_as_the_training_reduces(tmp_path, flow):
    write_photo(tmp_path / "a.png", 64, 64)
    validation = Validation(tmp_path, scale=4, multiple=8, reduction="bilinear")
    hr = validation.crops[0]
    lr = round_to_8_bit(reduce_bilinear(hr, 4))
    assert not torch.equal(lr, lr_of(hr))
    found = validation.figures(flow)
    assert found["validation/psnr_bicubic"] == pytest.approx(
        figures.psnr(enlarge_bicubic(lr, 4), hr, border=4)
    )
    image = sample(flow, lr, 0.8)
    expected = figures.psnr(reduce_bilinear(figures.as_shown(image), 4), lr, border=1)
    assert found["validation/lr_psnr_tau0.8"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_and_the_random_numbers_of_training_are_left_alone(validation, flow, training):
    flow.train(training)
    weights = {name: tensor.clone() for name, tensor in flow.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = validation.figures(flow)
    assert not validation.grid(flow).requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training == training for module in flow.modules())
    assert all(parameter.grad is None for parameter in flow.parameters())
    assert all(torch.equal(flow.state_dict()[name], tensor) for name, tensor in weights.items())
    assert validation.figures(flow) == first


def test_mixed_precision_of_training_does_not_reach_the_figures(validation, flow):
    for model in (flow, flow.encoder):
        expected = validation.figures(model)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert validation.figures(model) == pytest.approx(expected, rel=1e-6)
            assert validation.grid(model).dtype == torch.float32


def test_values_that_are_not_finite_are_counted_in_all_crops_together(validation, flow):
    flow.encoder.conv_first.bias.data.fill_(float("nan"))
    found = validation.figures(flow)
    assert found["validation/nonfinite_tau0.8"] == sum(hr.numel() for hr in validation.crops)
    assert math.isfinite(found["validation/psnr_tau0"])


def test_a_flows_grid_shows_lr_bicubic_four_temperatures_and_hr(validation, flow):
    grid = validation.grid(flow)
    assert grid.shape == (3, 2 * 128, 7 * 128)
    assert float(grid.min()) >= 0
    assert float(grid.max()) <= 1
    hr = validation.crops[0]  # 128×64
    lr = lr_of(hr)
    cells = [cell[:, :128, :64] for cell in grid.split(128, dim=2)]
    assert torch.equal(cells[0], lr[0].repeat_interleave(4, dim=1).repeat_interleave(4, dim=2))
    expected = [enlarge_bicubic(lr, 4), *(sample(flow, lr, tau) for tau in (0, 0.5, 0.8, 1.0)), hr]
    for cell, image in zip(cells[1:], expected, strict=True):
        torch.testing.assert_close(cell, image[0].clamp(0, 1), rtol=0, atol=1e-5)
    assert bool((grid[:, :128, 64:128] == 1).all())  # the margin of a narrow crop
    assert torch.equal(grid[:, 128 : 128 + 64, -128:-64], validation.crops[1][0])


def centre_of(path, side):
    image = to_image(read_photo(path))
    top, left = ((size - side) // 2 for size in image.shape[2:])
    return image[..., top : top + side, left : left + side]


def test_crops_are_spread_over_all_photographs(tmp_path):
    for index in range(10):
        write_photo(tmp_path / f"{index}.png", 80, 72, seed=index)
    few = Validation(tmp_path, scale=4, multiple=8, count=4, size=64).crops
    assert len(few) == 4
    for crop, index in zip(few, (0, 2, 5, 7), strict=True):
        assert torch.equal(crop, centre_of(tmp_path / f"{index}.png", 64))


def test_with_fewer_photographs_than_crops_each_gives_several_places(tmp_path):
    for index in range(3):
        write_photo(tmp_path / f"{index}.png", 200, 300, seed=index)
    crops = Validation(tmp_path, scale=4, multiple=8, count=7, size=64).crops
    assert [tuple(crop.shape) for crop in crops] == [(1, 3, 64, 64)] * 7
    assert len({crop.numpy().tobytes() for crop in crops}) == 7
    photos = [read_photo(tmp_path / f"{index}.png") for index in range(3)]
    found = [
        [(index, *place) for index in range(3) for place in places(photos[index], crop[0])]
        for crop in crops
    ]
    assert [index for [(index, _, _)] in found] == [0, 0, 0, 1, 1, 2, 2]
    # each photograph's centre first
    assert {found[first][0][1:] for first in (0, 3, 5)} == {(68, 118)}
    again = Validation(tmp_path, scale=4, multiple=8, count=7, size=64).crops
    assert all(torch.equal(crop, other) for crop, other in zip(crops, again, strict=True))
