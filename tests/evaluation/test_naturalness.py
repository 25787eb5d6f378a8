"""NIQE and BRISQUE against other programs on photographs, and what they do with pictures that have no statistics.

Stored values: NIQE by BasicSR 1.4.2 (which agrees with the authors' MATLAB program to four digits), BRISQUE by the
package brisque 0.2.0 with OpenCV, each of the rounded luma. The package counts values of exactly 0 among the positive
ones, the authors' program does not: only pictures with few black and white areas compare.
"""

import numpy as np
import pytest
import torch
from skimage import data

from srflow_evaluation import naturalness
from srflow_evaluation.bench import open_bench
from srflow_evaluation.convention import Convention
from srflow_evaluation.crop_report import report
from srflow_evaluation.pictures import Picture
from srflow_sdk.errors import ArgumentError
from srflow_training.data import to_image

with_niqe = pytest.mark.skipif(not naturalness.has_niqe(), reason="pip install --no-deps mmeval==0.2.1")
with_brisque = pytest.mark.skipif(not naturalness.has_brisque(), reason="pip install --no-deps brisque==0.2.0")


def coarse(pixels):
    """4×4 pixels become one."""
    height, width = (side // 4 for side in pixels.shape[:2])
    means = pixels[: 4 * height, : 4 * width].reshape(height, 4, width, 4, 3).mean(axis=(1, 3))
    return np.rint(means.repeat(4, axis=0).repeat(4, axis=1)).astype(np.uint8)


def noisy(pixels):
    noise = np.random.default_rng(0).normal(0, 10, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


PICTURES = {
    "coffee": data.coffee,
    "noisy astronaut": lambda: noisy(data.astronaut()),
    "coarse chelsea": lambda: coarse(data.chelsea()),
    "astronaut": data.astronaut,
    "chelsea": data.chelsea,
}


def image_of(name):
    return to_image(PICTURES[name]())


@with_niqe
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("coffee", 4.056146),
        ("noisy astronaut", 6.444257),
        ("coarse chelsea", 11.581538),
        ("astronaut", 3.063039),
        ("chelsea", 2.572089),
    ],
)
def test_niqe_is_that_of_another_program(name, reference):
    assert naturalness.niqe(image_of(name)) == pytest.approx(reference, rel=3e-3)


@with_brisque
@pytest.mark.parametrize(
    ("name", "reference"), [("coffee", 3.106185), ("noisy astronaut", 24.284530), ("coarse chelsea", 62.324655)]
)
def test_brisque_is_that_of_another_program(name, reference):
    assert naturalness.brisque(image_of(name)) == pytest.approx(reference, abs=0.1)


@with_niqe
@with_brisque
def test_a_picture_without_texture_has_no_figures():
    for grey in (0.0, 0.5):
        image = torch.full((1, 3, 256, 256), grey)
        assert np.isnan(naturalness.niqe(image))
        assert np.isnan(naturalness.brisque(image))


@with_niqe
def test_niqe_refuses_a_picture_of_less_than_two_blocks_each_way():
    with pytest.raises(ArgumentError, match="191×300 pixels; NIQE needs 192"):
        naturalness.niqe(torch.zeros(1, 3, 300, 191))
    assert "niqe" not in naturalness.of_size(191, 300)
    assert "niqe" in naturalness.of_size(192, 300)


@with_niqe
@with_brisque
def test_they_are_columns_beside_the_other_metrics(options, photos):
    image = image_of("coffee")
    picture = Picture(name="coffee", hr=image, lr=image[..., ::4, ::4], others={})
    convention = Convention(name="default", scale=4, reduction="bicubic")
    metrics = {metric.name: metric for metric in convention.metrics(niqe=True)}
    assert metrics["niqe"].measure(image + 1e-4, picture) == naturalness.niqe(image)
    assert metrics["brisque"].measure(image + 1e-4, picture) == naturalness.brisque(image)
    bench = open_bench(options())
    assert "niqe" not in {metric.name for metric in bench.metrics}
    assert any("NIQE is not measured, because a picture has less than 192 pixels" in note for note in bench.notes)


def test_without_their_parameters_they_are_left_out_with_the_command(monkeypatch, options):
    monkeypatch.setattr(naturalness, "has_niqe", lambda: False)
    monkeypatch.setattr(naturalness, "has_brisque", lambda: False)
    convention = Convention(name="default", scale=4, reduction="bicubic")
    assert {"niqe", "brisque"}.isdisjoint(metric.name for metric in convention.metrics(niqe=True))
    assert "NIQE" not in str(convention)
    notes = open_bench(options()).notes
    for package in ("mmeval==0.2.1", "brisque==0.2.0"):
        assert any(f"pip install --no-deps {package}" in note for note in notes)


def test_other_parameters_than_the_published_ones_are_not_taken(monkeypatch):
    other = naturalness._Published("numpy", "1", "numpy/__init__.py", "0" * 64)
    monkeypatch.setattr(naturalness, "_SVM", other)
    assert not naturalness.has_brisque()
    naturalness._regression.cache_clear()
    with pytest.raises(ArgumentError, match=r"is not installed: pip install --no-deps numpy==1"):
        naturalness.brisque(torch.rand(1, 3, 64, 64))


@with_niqe
@with_brisque
def test_the_report_of_crops_has_them(checkpoint, tmp_path):
    from PIL import Image

    Image.fromarray(data.chelsea()[:256, :256]).save(tmp_path / "chelsea.png")
    rows = report(checkpoint, tmp_path, [])
    assert rows[0].method == "bicubic"
    assert rows[0].niqe > naturalness.niqe(to_image(data.chelsea()[:256, :256])) + 1
    assert rows[0].brisque is not None
