"""Each convention computes what it says."""

import numpy as np
import pytest
import torch
from PIL import Image

from srflow_evaluation.bench import open_bench
from srflow_evaluation.convention import Convention, perceptual_metric
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.pictures import Cut, picture_files, read_picture
from srflow_training import figures, save_checkpoint
from srflow_training._lpips import LPIPS
from srflow_training._noise import runtime_noise
from srflow_training.data import to_image
from srflow_training.resampling import enlarge_bicubic
from tests.networks import random_srflow, tiny_config
from tests.sdk.pixels.test_consistency import matlab_1d


@pytest.fixture
def picture(photos):
    cut = Cut(scale=4, multiple=8)
    return read_picture(picture_files(photos, lr=None, others={}, cut=cut)[0], cut, "bicubic")


def found(name, picture, **networks):
    metrics = Convention(name=name, scale=4, reduction="bicubic").metrics(**networks)
    image = enlarge_bicubic(picture.lr, 4)
    return image, {metric.name: metric.measure(image, picture) for metric in metrics}


def test_the_default_leaves_out_a_border_and_has_gaussian_windows(picture):
    image, row = found("default", picture)
    assert row["psnr"] == figures.psnr(image, picture.hr, border=4)
    assert row["y_psnr"] == figures.y_psnr(image, picture.hr, border=4)
    assert row["ssim"] == figures.ssim(image, picture.hr, border=4)
    assert row["lr_psnr"] == figures.lr_psnr(image, picture.lr, border=1)
    assert "without a border of 4 pixels" in str(Convention(name="default", scale=4, reduction="bicubic"))


def test_the_published_one_takes_whole_pictures_and_uniform_windows(picture):
    image, row = found("published", picture)
    assert row["psnr"] == figures.psnr(image, picture.hr, border=0)
    assert row["y_psnr"] == figures.y_psnr(image, picture.hr, border=0)
    assert row["ssim"] == figures.uniform_ssim(image, picture.hr, border=0)
    assert "no border" in str(Convention(name="published", scale=4, reduction="bicubic"))


def imresized(levels, scale):
    """Levels H×W×3 as imresize reduces uint8: the first axis, rounded and clipped, then the second likewise."""
    for _ in range(2):
        levels = np.clip(np.around(matlab_1d(levels.astype(np.float64), scale)), 0, 255).swapaxes(0, 1)
    return levels


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_published_lr_images_are_rounded_between_the_passes_of_their_reduction(scale):
    levels = np.random.default_rng(scale).integers(0, 256, (8 * scale, 12 * scale, 3), dtype=np.uint8)
    expected = imresized(levels, scale)
    found = Cut(scale=scale, multiple=scale, in_passes=True).reduced(to_image(levels), "bicubic")
    assert np.array_equal(found[0].permute(1, 2, 0).numpy(), (expected / np.float32(255)).astype(np.float32))
    at_once = Cut(scale=scale, multiple=scale).reduced(to_image(levels), "bicubic")
    assert 0.01 < float((at_once != found).float().mean()) < 0.15


@torch.no_grad()
def test_a_published_measurement_reduces_in_passes_for_lr_images_and_for_lr_psnr(options, photos):
    levels = np.asarray(Image.open(photos / "c.png"))
    bench = open_bench(options(convention="published"))
    picture = read_picture(bench.pictures[2], bench.cut, "bicubic")
    assert np.array_equal((picture.lr[0].permute(1, 2, 0).numpy() * 255).round(), imresized(levels, 4))
    made = np.asarray(Image.open(photos / "c.png").effect_spread(2))
    error = np.mean(((imresized(made, 4) - imresized(levels, 4)) / 255) ** 2)
    assert bench.figures(to_image(made), picture)["lr_psnr"] == pytest.approx(-10 * np.log10(error), abs=1e-4)


@pytest.mark.parametrize(("scale", "side"), [(4, 72), (8, 72), (16, 80)])
@torch.no_grad()
def test_published_pictures_are_multiples_of_8_padded_by_reflection_and_truncated(options, tmp_path, scale, side):
    """At ×8 and ×16 the LR side is odd, and the network takes even ones."""
    folder = tmp_path / "hr"
    folder.mkdir()
    Image.effect_noise((side + 7, side + 3), 50).convert("RGB").save(folder / "a.png")
    network = random_srflow(tiny_config(scale=scale))
    save_checkpoint(tmp_path / "flow.safetensors", network)
    save_checkpoint(tmp_path / "rrdb.safetensors", network.encoder)
    chosen = {"models": [str(tmp_path / "flow.safetensors")], "references": [tmp_path / "rrdb.safetensors"]}
    bench = open_bench(options(hr=folder, convention="published", **chosen))
    picture = read_picture(bench.pictures[0], bench.cut, "bicubic")
    assert picture.hr.shape[2:] == (side, side)
    lr = picture.lr
    if scale > 4:
        assert lr.shape[2] % 2 == 1
        lr = torch.cat([lr, lr[..., -2:-1, :]], dim=2)
        lr = torch.cat([lr, lr[..., :, -2:-1]], dim=3)
    noise = runtime_noise(network, lr, seed=3)
    drawn = network.decode(lr, {level: 0.8 * z for level, z in noise.items()})[..., :side, :side]
    found = bench.sampler(picture.lr)(LevelTaus((0.8,)), 3)
    levels = (drawn.clamp(0, 1) * 255).floor()
    assert torch.equal((found * 255).round(), levels)
    assert not torch.equal(levels, (drawn.clamp(0, 1) * 255).round())
    rrdb = bench.references["rrdb"](picture)
    assert torch.equal((rrdb * 255).round(), (network.encoder(picture.lr).clamp(0, 1) * 255).floor())
    flow = bench.subject.both_ways()(picture.lr)
    again = flow.decode(flow.invert(picture.hr))
    assert again.shape == picture.hr.shape
    assert (again - picture.hr).abs().max() < 1.1 / 255


def test_it_says_how_many_scales_ms_ssim_has(options, picture, tmp_path):
    """64, 96 and 176 pixels a side: 3, 4 and 5 scales."""
    text = str(Convention(name="default", scale=4, reduction="bicubic"))
    assert "3 scales for pictures up to 80 pixels on the smaller side, 4 up to 160 and 5 above" in text
    counts = {side: figures.ms_ssim_scales(side, 999) for side in (64, 80, 81, 160, 161, 4000)}
    assert counts == {64: 3, 80: 3, 81: 4, 160: 4, 161: 5, 4000: 5}

    def notes():
        return [note for note in open_bench(options(hr=folder)).notes if "MS-SSIM" in note]

    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for side in (64, 72):
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / f"{side}.png")
    assert notes() == []
    Image.fromarray(rng.integers(0, 256, (176, 176, 3), dtype=np.uint8)).save(folder / "large.png")
    assert len(notes()) == 1
    assert "3 scales for some and 5 for others" in notes()[0]


def test_lr_psnr_is_of_the_models_reduction(picture):
    metrics = Convention(name="default", scale=4, reduction="bilinear").metrics()
    (metric,) = (metric for metric in metrics if metric.name == "lr_psnr")
    assert metric.measure(picture.hr, picture) == figures.lr_psnr(picture.hr, picture.lr, reduction="bilinear")
    assert metric.measure(picture.hr, picture) < 60


def test_lpips_stands_for_perception_where_it_is_measured(picture, lpips):
    convention = Convention(name="default", scale=4, reduction="bicubic")
    assert perceptual_metric(convention.metrics()).name == "gmsd"
    network = LPIPS.for_measuring()
    metrics = convention.metrics(lpips=network)
    assert [metric.name for metric in metrics][:3] == ["psnr", "lpips", "y_psnr"]
    assert perceptual_metric(metrics).name == "lpips"
    values = {metric.name: metric.measure(torch.zeros_like(picture.hr), picture) for metric in metrics}
    assert values["lpips"] == figures.lpips(network, torch.zeros_like(picture.hr), picture.hr) > 0


def test_flip_is_left_out_where_it_is_not_installed(picture, options, monkeypatch, tmp_path):
    image, row = found("default", picture)
    assert row["flip"] == figures.flip(image, picture.hr)
    assert "FLIP at 67 pixels per degree" in str(Convention(name="default", scale=4, reduction="bicubic"))
    monkeypatch.setattr(figures, "has_flip", lambda: False)
    assert "flip" not in found("default", picture)[1]
    assert "FLIP" not in str(Convention(name="default", scale=4, reduction="bicubic"))
    assert any("pip install flip-evaluator" in note for note in open_bench(options()).notes)


def test_the_photographs_features_are_computed_once_for_all_images_of_it(photos):
    cut = Cut(scale=4, multiple=8)
    pictures = [read_picture(files, cut, "bicubic") for files in picture_files(photos, lr=None, others={}, cut=cut)]
    seen = []

    def features(image):
        seen.append(image)
        return [image[..., ::2, ::2], image[..., 1::4, :]]

    metrics = Convention(name="default", scale=4, reduction="bicubic").metrics(vgg16=features)
    (distance,) = (metric for metric in metrics if metric.name == "vgg16_feature_distance")
    for picture in [*pictures[:2], pictures[0]]:
        images = [enlarge_bicubic(picture.lr, 4), picture.hr * 0.5, picture.hr]
        measured = [distance.measure(image, picture) for image in images]
        assert measured == [figures.vgg16_distance(features, image, picture.hr) for image in images]
        assert measured[0] > 0
        assert measured[2] == 0
    assert len(seen) == 3 * (1 + 3 + 3 * 2)
