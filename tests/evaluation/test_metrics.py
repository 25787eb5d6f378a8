"""The metrics, an entry each: what they compute by each convention, and which columns there are."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from srflow_evaluation.bench import open_bench
from srflow_evaluation.damaged import measure_damaged
from srflow_evaluation.metrics import METRICS, Convention, perceptual_metric
from srflow_evaluation.options import LevelTaus
from srflow_evaluation.pictures import Cut, picture_files, read_picture
from srflow_evaluation.sampling import random_samples, tau_sweep
from srflow_training import figures, save_checkpoint
from srflow_training.data import to_image
from srflow_training.lpips import LPIPS, MISSING
from srflow_training.resampling import enlarge_bicubic
from srflow_training.validation import runtime_noise
from tests.evaluation.outputs import lines_of
from tests.networks import random_srflow, tiny_config

CUT = Cut(scale=4, multiple=8)
TAUS = [LevelTaus((0.8,))]


@pytest.fixture
def picture(photos):
    return read_picture(picture_files(photos, cut=CUT)[0], CUT, "bicubic")


def found(name, picture, **networks):
    convention = Convention(name=name, scale=4, **networks)
    image = enlarge_bicubic(picture.lr, 4)
    return image, {
        metric.name: metric.measure(image, picture, convention) for metric in convention.metrics()
    }


@pytest.mark.parametrize(
    ("name", "border", "ssim", "says"),
    [
        ("default", 4, figures.ssim, "without a border of 4 pixels"),
        ("published", 0, figures.uniform_ssim, "no border left out"),
    ],
)
def test_the_published_one_takes_whole_pictures_and_uniform_windows(
    picture,
    name,
    border,
    ssim,
    says,
):
    image, row = found(name, picture)
    assert row["psnr"] == figures.psnr(image, picture.hr, border=border)
    assert row["y_psnr"] == figures.y_psnr(image, picture.hr, border=border)
    assert row["ssim"] == ssim(image, picture.hr, border=border)
    assert row["gmsd"] == figures.gmsd(image, picture.hr)
    if name == "default":
        assert row["lr_psnr"] == figures.lr_psnr(image, picture.lr, border=1)
    assert says in str(Convention(name=name, scale=4))


def matlab_1d(values, scale):
    """imresize's definition, one output at a time, in float64, along the first axis."""
    size = len(values)
    rows = []
    for out in range(size // scale):
        centre = out * scale + (scale - 1) / 2
        near = np.arange(math.floor(centre - 2 * scale), math.ceil(centre + 2 * scale) + 1)
        x = np.abs(near - centre) / scale
        weight = np.where(
            x <= 1,
            1.5 * x**3 - 2.5 * x**2 + 1,
            np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0),
        )
        mirrored = [
            p % (2 * size) if p % (2 * size) < size else 2 * size - 1 - p % (2 * size) for p in near
        ]
        rows.append(np.tensordot(weight / weight.sum(), values[mirrored], axes=1))
    return np.stack(rows)


def imresized(levels, scale):
    """Levels H×W×3 as imresize reduces uint8: the first axis, rounded and clipped, then the second
    likewise."""
    for _ in range(2):
        levels = np.clip(np.around(matlab_1d(levels.astype(np.float64), scale)), 0, 255).swapaxes(
            0, 1
        )
    return levels


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_published_lr_images_are_rounded_between_the_passes_of_their_reduction(scale):
    levels = np.random.default_rng(scale).integers(
        0,
        256,
        (8 * scale, 12 * scale, 3),
        dtype=np.uint8,
    )
    expected = imresized(levels, scale)
    found = Cut(scale=scale, multiple=scale, in_passes=True).reduce(to_image(levels), "bicubic")
    assert np.array_equal(
        found[0].permute(1, 2, 0).numpy(), (expected / np.float32(255)).astype(np.float32)
    )
    at_once = Cut(scale=scale, multiple=scale).reduce(to_image(levels), "bicubic")
    assert 0.01 < float((at_once != found).float().mean()) < 0.15


@torch.no_grad()
def test_a_published_measurement_reduces_in_passes_for_lr_images_and_for_lr_psnr(options, photos):
    levels = np.asarray(Image.open(photos / "c.png"))
    bench = open_bench(options(convention="published"))
    picture = bench.read(bench.pictures[2])
    assert np.array_equal(
        (picture.lr[0].permute(1, 2, 0).numpy() * 255).round(), imresized(levels, 4)
    )
    made = np.asarray(Image.open(photos / "c.png").effect_spread(2))
    error = np.mean(((imresized(made, 4) - imresized(levels, 4)) / 255) ** 2)
    assert bench.figures(to_image(made), picture)["lr_psnr"] == pytest.approx(
        -10 * np.log10(error), abs=1e-4
    )


@pytest.mark.parametrize(("scale", "side"), [(4, 72), (8, 72)])
@torch.no_grad()
def test_published_pictures_are_multiples_of_8_padded_by_reflection_and_truncated(
    options,
    tmp_path,
    scale,
    side,
):
    """At ×8 the LR side is odd, and the network takes even ones."""
    folder = tmp_path / "hr"
    folder.mkdir()
    Image.effect_noise((side + 7, side + 3), 50).convert("RGB").save(folder / "a.png")
    network = random_srflow(tiny_config(scale=scale))
    save_checkpoint(tmp_path / "flow.safetensors", network)
    save_checkpoint(tmp_path / "rrdb.safetensors", network.encoder)
    chosen = {
        "models": [str(tmp_path / "flow.safetensors")],
        "references": [tmp_path / "rrdb.safetensors"],
    }
    bench = open_bench(options(hr=folder, convention="published", **chosen))
    picture = bench.read(bench.pictures[0])
    assert picture.hr.shape[2:] == (side, side)
    lr = picture.lr
    if scale > 4:
        assert lr.shape[2] % 2 == 1
        lr = torch.cat([lr, lr[..., -2:-1, :]], dim=2)
        lr = torch.cat([lr, lr[..., :, -2:-1]], dim=3)
    noise = runtime_noise(network, lr, seed=3)
    drawn = network.decode(lr, {level: 0.8 * z for level, z in noise.items()})[..., :side, :side]
    levels = (drawn.clamp(0, 1) * 255).floor()
    assert torch.equal((bench.subject.sampler(picture.lr)(TAUS[0], 3) * 255).round(), levels)
    assert not torch.equal(levels, (drawn.clamp(0, 1) * 255).round())
    rrdb = bench.references["rrdb"](picture)
    assert torch.equal(
        (rrdb * 255).round(), (network.encoder(picture.lr).clamp(0, 1) * 255).floor()
    )
    flow = bench.subject.both_ways()(picture.lr)
    again = flow.decode(flow.invert(picture.hr))
    assert again.shape == picture.hr.shape
    assert (again - picture.hr).abs().max() < 1.1 / 255


def test_lpips_stands_for_perception_where_it_is_measured(picture, lpips):
    network = LPIPS.for_measuring()
    black = torch.zeros_like(picture.hr)
    for networks, best in (({}, "gmsd"), ({"lpips": network}, "lpips")):
        convention = Convention(scale=4, **networks)
        metrics = convention.metrics()
        assert perceptual_metric(metrics).name == best
        values = {metric.name: metric.measure(black, picture, convention) for metric in metrics}
        assert [name for name in values if name not in (best, "flip")] == [
            metric.name
            for metric in METRICS
            if metric.name in values and metric.name not in (best, "flip")
        ]
    assert list(values)[:3] == ["psnr", "lpips", "y_psnr"]
    assert values["lpips"] == figures.lpips(network, black, picture.hr) > 0
    assert "LPIPS, version 0.1, with AlexNet; " in str(convention)


def test_without_the_weights_a_sentence_says_how_to_get_them(options):
    table = tau_sweep(options(taus=TAUS, samples=2, most=1, metrics=()))
    assert MISSING in table.notes
    assert "python -m srflow_training.lpips_weights" in MISSING
    assert not any("LPIPS" in heading for heading in table.headings)


def test_only_the_metrics_that_are_named_are_measured(options, lpips, tmp_path):
    table = random_samples(options(samples=2, most=1, metrics=("lpips", "psnr")))
    assert table.headings == ["method", "PSNR, dB ↑", "LPIPS ↓", "diversity, /255"]
    names = ["picture", "method", "tau", "psnr", "lpips", "nonfinite", "diversity", "variance"]
    assert list(lines_of(tmp_path / "out")[0]) == names
    assert MISSING not in table.notes
    tables = measure_damaged(
        options(
            out=tmp_path / "damaged",
            most=1,
            centre=64,
            metrics=("ssim",),
            degradations=["noise:10"],
            taus=TAUS,
        )
    )
    assert tables[0].headings == ["method", "SSIM ↑"]  # which it leaves out otherwise
