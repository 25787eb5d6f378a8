"""Losses beyond the likelihood: on decodings with the batch's own latents, with gradients that a
step can use."""

import math

import numpy as np
import pytest
import torch

from srflow_sdk.errors import ArgumentError, CheckpointError
from srflow_sdk.pixels import conservative_smoothing
from srflow_training import figures, load_checkpoint, lpips, lpips_weights
from srflow_training.model.transforms import Squeeze
from srflow_training.objective import PerceptualLoss, latents_of, objective_of
from srflow_training.settings import Objective
from tests.networks import random_srflow, tiny_config
from tests.training import lpips_files
from tests.training.crops import save
from tests.training.lpips_files import SMALL, small_shapes
from tests.training.runs import (
    PLAIN,
    SCHEDULE,
    TINY,
    assert_same_weights,
    scalars,
    settings,
    trainer,
)

DATA = {"crop": 32, "batch": 2}
KINDS = ["gmsd", "lpips_vgg", "ms_lpips_vgg"]
ALL = {"l1": 2.0, "l1_every": 2, "grid": 5.0, "perceptual": 3.0, "lr_consistency": 4.0}


@pytest.fixture
def weights(tmp_path, monkeypatch):
    for module in (lpips, lpips_weights):
        monkeypatch.setattr(module, "convolution_shapes", small_shapes)
    monkeypatch.setitem(lpips_weights.HEADS, "vgg", SMALL)
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))
    lpips_files.write_weights(tmp_path / "cache", "vgg")


def of_kind(kind, **changes):
    return {"perceptual": 1.0, "perceptual_loss": kind, **changes}


def perceptual_loss(kind):
    return PerceptualLoss(Objective(**of_kind(kind)))


def photograph(side=64, seed=0):
    coarse = torch.rand(2, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(coarse, scale_factor=4.0, mode="bilinear")
    return 0.25 + large / 2


# A teacher


@pytest.mark.parametrize("network", [PLAIN, {"kind": "rrdb", **TINY}])
def test_an_encoders_loss_is_the_mean_of_its_differences_to_photograph_and_teacher_by_share(
    network,
):
    of_run = settings(network=network, data={"teacher": "pictures"}, objective={"teacher": 0.25})
    model, hr, teacher, lr = (
        of_run.build().double(),
        *torch.rand(2, 2, 3, 32, 32).double(),
        torch.rand(2, 3, 8, 8),
    )
    given = hr, lr.double(), torch.empty(2, 0, 32, 32), teacher
    terms = objective_of(model, of_run)(*given, with_l1=False)
    to_photograph, to_teacher = (
        (model(lr.double()) - wanted).abs().mean() for wanted in (hr, teacher)
    )
    expected = {
        "loss": 0.75 * to_photograph + 0.25 * to_teacher,
        "photograph": to_photograph,
        "teacher": to_teacher,
    }
    torch.testing.assert_close(terms, expected)


def test_a_run_with_a_teacher_learns_its_pictures(tmp_path):
    """Taught by black pictures alone, of photographs that are white."""
    for folder, level in (("photos", 255), ("teacher", 0)):
        save(tmp_path / folder / "a.png", np.full((32, 32, 3), level, np.uint8))
    data = {"teacher": str(tmp_path / "teacher")}
    objective = {"teacher": 1.0}
    run = trainer(
        tmp_path / "run",
        tmp_path / "photos",
        network=PLAIN,
        data=data,
        objective=objective,
    )
    run.run()
    losses = scalars(tmp_path / "run")["training/teacher"]
    assert losses[6] < losses[2]


# Latents


@pytest.mark.parametrize("scale", [4, 8])
def test_noise_becomes_latents_value_by_value(scale):
    model = random_srflow(tiny_config(scale=scale))
    noise = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    shapes = model.latent_shapes(64 // scale, 96 // scale)
    latents = latents_of(noise, shapes)
    assert {level: tuple(latent.shape[1:]) for level, latent in latents.items()} == shapes
    assert torch.equal(latents[1], Squeeze().encode(noise)[0][:, : shapes[1][0]])
    for crop in range(2):
        values = torch.cat([latent[crop].flatten() for latent in latents.values()])
        assert torch.equal(values.sort().values, noise[crop].flatten().sort().values)


# Distances


@pytest.mark.parametrize("kind", KINDS)
def test_a_perceptual_loss_is_the_figure_without_rounding_averaged_over_the_batch(kind, weights):
    image = photograph()
    other = photograph(seed=1)
    distance = perceptual_loss(kind)
    figure = {
        "gmsd": figures.gmsd,
        "lpips_vgg": lambda *pair: figures.lpips(distance.lpips, *pair),
        "ms_lpips_vgg": lambda *pair: three_sizes(distance.lpips, *pair),
    }[kind]
    expected = sum(figure(image[i : i + 1], other[i : i + 1]) for i in range(2)) / 2
    assert float(distance(image, other)) == pytest.approx(expected, abs=2e-3)
    assert float(distance(image, image)) == pytest.approx(0, abs=2e-3)


def three_sizes(lpips, image, reference):
    """LPIPS of the middle of a 64×64 image and of all of it at a half and at a quarter."""
    found = [figures.lpips(lpips, image[..., 16:48, 16:48], reference[..., 16:48, 16:48])]
    for side in (32, 16):
        small = [
            torch.nn.functional.interpolate(x, size=(side, side), mode="area")
            for x in (image, reference)
        ]
        found.append(float(figures.lpips_loss(lpips, *small)))
    return sum(found) / 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", ["noise", "black", "saturated"])
def test_gradients_are_finite_whatever_the_image(kind, start, weights):
    reference = photograph()
    if start == "saturated":
        reference[..., :32] = 1.0
    image = {
        "noise": torch.randn(reference.shape, generator=torch.Generator().manual_seed(1)),
        "black": torch.zeros_like(reference),
        "saturated": reference * 1.5,
    }[start]
    image = image.clone().requires_grad_()
    perceptual_loss(kind)(image, reference).backward()
    assert bool(image.grad.isfinite().all())


def test_a_sample_that_is_not_finite_has_a_loss_and_gradient_that_are_not():
    image = photograph(32)
    image[0, 0, 3, 3] = math.inf
    image.requires_grad_()
    loss = perceptual_loss("gmsd")(image, photograph(32))
    loss.backward()
    assert not loss.isfinite()
    assert not bool(image.grad.isfinite().any())


def test_grid_measures_waves_of_its_period_and_little_else():
    photo = photograph()
    rows, columns = torch.arange(64)[:, None], torch.arange(64)
    wave = 0.02 * torch.cos(2 * math.pi * (rows + 2 * columns) / 4)
    assert float(figures.grid_loss(torch.full((1, 3, 64, 64), 0.5), period=4)) < 1e-7
    # A cosine is two of the fifteen waves, each of half its amplitude.
    grid = float(figures.grid_loss(0.5 + wave.expand(1, 3, -1, -1), period=4))
    assert grid == pytest.approx(0.02 / 15, rel=1e-3)
    slope = 0.5 + 0.005 * (rows + columns - 63.0).expand(1, 3, -1, -1)
    assert float(figures.grid_loss(slope, period=4)) < 0.01 * grid
    checkers = 0.01 * (-1.0) ** (rows + columns)
    assert float(figures.grid_loss(photo + checkers, period=4)) > 2 * float(
        figures.grid_loss(photo, period=4)
    )


# Terms


def test_smoothing_is_the_runtimes_and_has_gradients_of_the_pixels_that_it_takes():
    image = torch.rand(2, 3, 9, 12, generator=torch.Generator().manual_seed(1), requires_grad=True)
    smoothed = figures.smooth(image)
    for one, own in zip(smoothed.detach(), image.detach(), strict=True):
        picture = own.numpy().transpose(1, 2, 0)
        expected = conservative_smoothing.smooth(picture, slice(0, 9), slice(0, 12))
        np.testing.assert_allclose(one.numpy().transpose(1, 2, 0), expected, atol=1e-6)
    smoothed.sum().backward()
    # each pixel's luma is one pixel's, so that the shares of all add up
    torch.testing.assert_close(image.grad.sum(), torch.tensor(float(image.numel())))
    assert image.grad.std() > 0.1


@pytest.mark.parametrize("smoothed", [False, True])
def test_the_loss_is_the_weighted_sum_of_its_terms_on_the_decodings(tmp_path, photos, smoothed):
    objective = {**ALL, "l1_every": 1, "perceptual_tau": 0.5, "smoothed": smoothed}
    run = trainer(tmp_path, photos, data=DATA, objective=objective)
    batch = run.crops[0]
    run.step(batch)  # actnorms
    with torch.no_grad():
        terms = run.objective(*batch[:3], with_l1=run.settings.objective.l1 > 0)
        zeros = latents_of(0 * batch.noise, run.model.latent_shapes(8, 8))
        sample = run.model.decode(
            batch.lr,
            {k: 0.5 * z for k, z in latents_of(batch.noise, run.model.latent_shapes(8, 8)).items()},
        )
        if smoothed:
            sample = figures.smooth(sample)
        mean = run.model.decode(batch.lr, zeros)
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(terms["l1"], (mean - batch.hr).abs().mean(), **close)
    torch.testing.assert_close(terms["perceptual"], figures.gmsd_loss(sample, batch.hr), **close)
    error = figures.lr_consistency_loss(sample, batch.hr, scale=4, reduction="bicubic")
    torch.testing.assert_close(terms["lr_consistency"], error, **close)
    grids = figures.grid_loss(mean, period=4) + figures.grid_loss(sample, period=4)
    torch.testing.assert_close(terms["grid"], grids, **close)
    total = (
        terms["nll"]
        + 2 * terms["l1"]
        + 5 * terms["grid"]
        + 3 * terms["perceptual"]
        + 4 * terms["lr_consistency"]
    )
    torch.testing.assert_close(terms["loss"], total, **close)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("name", ["l1", "grid", "perceptual", "lr_consistency"])
def test_each_term_trains_the_flow_and_an_encoder_that_is_not_frozen(
    tmp_path,
    photos,
    name,
    frozen,
):
    run = trainer(tmp_path, photos, data=DATA, objective={"l1": 1.0, name: 1.0})
    batch = run.crops[0]
    run.step(batch)  # actnorms, and a ZerosConv that is no longer zero
    run.model.zero_grad(set_to_none=True)
    run.model.encoder.requires_grad_(not frozen)
    terms = run.objective(*batch[:3], with_l1=run.settings.objective.l1 > 0)
    run.fabric.backward(terms[name])
    assert (run.model.encoder.conv_first.weight.grad is None) == frozen
    assert float(run.model.levels[0].steps[0].mix.weight.grad.abs().max()) > 0
    if not frozen:
        assert float(run.model.encoder.conv_first.weight.grad.abs().max()) > 0


# Runs


@pytest.mark.parametrize("kind", ["gmsd", "ms_lpips_vgg"])
def test_perceptual_losses_train_in_bfloat16(tmp_path, photos, kind, weights):
    hardware = {"precision": "bf16"}
    data = {**DATA, "crop": 64}
    run = trainer(tmp_path / "run", photos, data=data, objective=of_kind(kind), hardware=hardware)
    with torch.no_grad():
        batch = run.crops[0]
        exact = run.objective.module.perceptual(batch.hr * 0.9, batch.hr)
        with run.fabric.autocast():
            rounded = run.objective.module.perceptual(batch.hr * 0.9, batch.hr)
    assert float(rounded) == pytest.approx(float(exact), rel=0.05 if "vgg" in kind else 1e-6)
    for iteration in range(2):
        assert run.step(run.crops[iteration])["loss"].isfinite()
    assert run.skipped == 0


def test_lpips_stays_as_it_is_and_out_of_the_checkpoint(tmp_path, photos, weights):
    run = trainer(tmp_path / "run", photos, data=DATA, objective=of_kind("lpips_vgg"))
    before = {
        name: tensor.clone()
        for name, tensor in run.objective.module.perceptual.state_dict().items()
    }
    run.run()
    after = run.objective.module.perceptual.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any("perceptual" in name for name in run.states.load_newest()["model"])
    assert_same_weights(run.trained, load_checkpoint(run.checkpoint))


# Refusals


def test_lpips_without_its_weights_is_refused_before_anything_starts(tmp_path, photos, monkeypatch):
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(
        CheckpointError, match=r"not on this machine: python -m srflow_training\.lpips_weights$"
    ):
        trainer(tmp_path / "run", photos, data=DATA, objective=of_kind("lpips_vgg"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": {"perceptual": 1.0}, "data": {"crop": 8}}, "at least 16 pixels, not 8"),
        (
            {"objective": {"perceptual": 1.0}, "network": {"kind": "rrdb", "scale": 4, **TINY}},
            "is for flows, and an LR encoder",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused_in_one_line(changes, message):
    with pytest.raises(ArgumentError, match=message) as error:
        settings(schedule=SCHEDULE, **changes)
    assert "\n" not in str(error.value)
