from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from srflow_sdk.drawing.finishing import lr_psnr, warn_if_inconsistent
from srflow_sdk.drawing.options import DrawOptions
from srflow_sdk.errors import ArgumentError, CancelledError
from srflow_sdk.files import read_image, write_image
from srflow_sdk.upscaler import Upscaler

from ..pixels.icc_writer import ADOBE_RGB, gamma_curve, matrix_profile
from ..pixels.reference import reduced
from ..tiny_bundle import tiny_manifest, write_tiny_bundle

SCALE = 4


def unit(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / (1 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max)


@pytest.fixture
def noise() -> np.ndarray:
    """A picture that the tiny network is far from reproducing, away from black and white."""
    return np.random.default_rng(0).integers(60, 190, (45, 61, 3), np.uint8)


@pytest.mark.parametrize("tile", [16, None])
def test_the_mean_and_deviation_are_those_of_the_samples(tiny_bundle: Path, photo: np.ndarray, tile: Any) -> None:
    image = unit(photo)
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=tile) as opened:
        encoding = opened.encode(image)
        samples = np.stack(encoding.samples(5, seed=3)).astype(np.float64)
        mean = encoding.mean(5, seed=3)
        deviation = encoding.std(5, seed=3)
    assert mean.shape == deviation.shape == (180, 244, 3)
    np.testing.assert_allclose(mean, samples.mean(0), atol=2e-6)
    np.testing.assert_allclose(deviation, samples.std(0, ddof=1), atol=2e-6)


def test_the_mean_is_of_the_images_kind_and_the_deviation_is_float(upscaler: Upscaler, photo: np.ndarray) -> None:
    assert upscaler.encode(Image.fromarray(photo)).mean(3).mode == "RGB"
    deviation = upscaler.encode(Image.fromarray(photo).convert("LA")).std(3)
    assert (deviation.dtype, deviation.shape) == (np.float32, (180, 244, 1))
    assert 0 < deviation.mean() < 1


@pytest.mark.slow
def test_the_mean_of_many_samples_holds_no_more_than_that_of_few(tiny_bundle: Path, photo: np.ndarray) -> None:
    image = unit(np.tile(photo, (4, 4, 1)))  # an answer has 8 MB
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=64) as opened:
        encoding = opened.encode(image)
        encoding.mean(2)
        before = psutil.Process().memory_info().rss
        encoding.mean(16)
        grown = psutil.Process().memory_info().rss - before
    assert grown < 60 << 20, "16 answers would be 134 MB"


def test_consistency_and_its_measure_are_of_the_reduction_that_the_model_was_trained_on(
    tmp_path: Path, noise: np.ndarray
) -> None:
    bundle = write_tiny_bundle(tmp_path / "bilinear.srflow", reduction="bilinear")
    write_image(tmp_path / "in.png", noise)
    with Upscaler(bundle, device="cpu", threads=1) as opened:
        answer = opened.upscale(noise, tau=0.3, consistent=True)
        result = opened.upscale_file(tmp_path / "in.png", tmp_path / "out.png", tau=0.3, consistent=True, report=True)
    exact = lr_psnr(answer, noise, reduction="bilinear")
    assert exact > 55 > 40 > lr_psnr(answer, noise)
    assert result.outputs[0].lr_psnr == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("tile", [16, None])
def test_a_consistent_answer_reduces_to_the_input(
    tiny_bundle: Path, noise: np.ndarray, dtype: type, channels: int, tile: Any
) -> None:
    steps = 255 if dtype is np.float32 else np.iinfo(dtype).max
    image = unit(noise[..., :channels])
    image = image if dtype is np.float32 else (image * steps).astype(dtype)
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=tile) as opened:
        plain = opened.upscale(image, tau=0.3)
        answer = opened.upscale(image, tau=0.3, consistent=True)
    np.testing.assert_array_less(np.abs(reduced(unit(answer), SCALE) - unit(image)), 0.5 / steps + 1e-4)
    assert lr_psnr(answer, image) > 50 > lr_psnr(plain, image)
    assert answer.dtype == plain.dtype


def test_consistent_answers_are_the_same_for_any_tile(tiny_bundle: Path) -> None:
    tall = np.random.default_rng(0).random((150, 20, 3), np.float32)
    with Upscaler(tiny_bundle, threads=1, tile=16) as tiled, Upscaler(tiny_bundle, threads=1, tile=None) as whole:
        one = tiled.upscale(tall, consistent=True)
        other = whole.upscale(tall, consistent=True)
    np.testing.assert_allclose(one, other, atol=2e-5)
    assert lr_psnr(one, tall) == pytest.approx(lr_psnr(other, tall), abs=0.01)


def test_the_report_measures_every_answer_and_warns_under_40_db(
    upscaler: Upscaler, noise: np.ndarray, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    write_image(tmp_path / "lr.png", noise)
    targets = [tmp_path / f"{number}.png" for number in range(3)]
    outputs = upscaler.upscale_file(tmp_path / "lr.png", targets, report=True).outputs
    values = [output.lr_psnr for output in outputs]
    for output, value in zip(outputs, values, strict=True):
        error = np.mean((reduced(unit(read_image(output.path).pixels), SCALE).astype(np.float64) - unit(noise)) ** 2)
        assert value == pytest.approx(-10 * np.log10(error), abs=0.001)
        assert value is not None
        assert value < 40
    assert len(caplog.records) == 1
    assert all(f"{value:.1f}" in caplog.records[0].getMessage() for value in values)
    caplog.clear()
    upscaler.upscale_file(tmp_path / "lr.png", targets[0], consistent=True, report=True)
    assert not caplog.records


def test_reductions_that_mean_nothing_are_typed_errors(upscaler: Upscaler, photo: np.ndarray) -> None:
    encoding = upscaler.encode(photo)
    for call in (lambda: encoding.mean(1), lambda: encoding.std(1), lambda: encoding.std(2, consistent=True)):
        with pytest.raises(ArgumentError):
            call()


def test_a_call_is_cancelled_before_its_next_tile(tiny_bundle: Path, photo: np.ndarray) -> None:
    cancel, seen = threading.Event(), []

    def stop_at_three(done: int, total: int) -> None:
        seen.append(done)
        if done == 3:
            cancel.set()

    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=16) as opened:
        with pytest.raises(CancelledError):
            opened.encode(photo).samples(2, progress=stop_at_three, cancel=cancel)
        assert seen == [1, 2, 3]
        with pytest.raises(CancelledError):
            opened.encode(photo).sample(cancel=cancel)
        with pytest.raises(CancelledError):
            opened.encode(photo, memory_budget=0, cancel=cancel)
        opened.upscale(photo, cancel=threading.Event())


def test_encoding_tells_the_tiles_that_it_keeps_and_is_cancelled_before_the_next(
    tiny_bundle: Path, photo: np.ndarray
) -> None:
    cancel, seen = threading.Event(), []

    def stop_at_three(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 3:
            cancel.set()

    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=16) as opened:
        with pytest.raises(CancelledError):
            opened.encode(photo, progress=stop_at_three, cancel=cancel)
        assert seen == [(1, 12), (2, 12), (3, 12)]
        seen.clear()
        half = opened.encode(photo).nbytes // 2
        kept = opened.encode(photo, memory_budget=half, progress=lambda done, total: seen.append((done, total)))
        assert seen == [(done, 12) for done in range(1, kept.kept_tiles + 1)]
        assert 1 <= kept.kept_tiles < 12
        for wrong in ({"progress": "x"}, {"cancel": True}):
            with pytest.raises(ArgumentError, match=next(iter(wrong))):
                opened.encode(photo, **wrong)  # type: ignore[call-overload]


@pytest.mark.slow
def test_concurrent_load_gives_equal_results_and_no_growth(tiny_bundle: Path, photo: np.ndarray) -> None:
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=16) as opened:
        expected = [opened.upscale(photo, seed=seed) for seed in range(3)]
        consistent = [opened.upscale(photo, seed=seed, consistent=True) for seed in range(3)]

        def work(number: int) -> bool:
            seed = number % 3
            if number % 2:
                return np.array_equal(opened.upscale(photo, seed=seed), expected[seed])
            answer = opened.upscale(photo, seed=seed, consistent=True)
            return np.array_equal(answer, consistent[seed]) and lr_psnr(answer, photo) > 50

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(24)))
            gc.collect()
            before = psutil.Process().memory_info().rss
            assert all(pool.map(work, range(48)))
            gc.collect()
            assert psutil.Process().memory_info().rss - before < 30 << 20


@pytest.mark.parametrize(("value", "warnings"), [(39.9, 1), (40.1, 0), (None, 0), (float("nan"), 0)])
def test_the_warning_begins_under_40_db(caplog: pytest.LogCaptureFixture, value: Any, warnings: int) -> None:
    warn_if_inconsistent("photo.png", [value], options=DrawOptions(), manifest=tiny_manifest())
    assert len(caplog.records) == warnings


@pytest.mark.parametrize(("consistent", "warnings"), [(False, 0), (True, 1)])
def test_a_model_that_removes_damage_need_not_match_its_input(
    caplog: pytest.LogCaptureFixture, consistent: bool, warnings: int
) -> None:
    options, manifest = DrawOptions(consistent=consistent), tiny_manifest(removes_damage=True)
    warn_if_inconsistent("photo.jpg", [32.6], options=options, manifest=manifest)
    assert len(caplog.records) == warnings


NO_NEARER = "a consistent output came no nearer, as pixels cannot be darker than black or brighter than white"


@pytest.mark.parametrize(
    ("consistent", "tau", "advice"),
    [
        (False, 0.8, "; lower tau, or ask for a consistent output"),
        (False, None, "; lower tau, or ask for a consistent output"),
        (False, 0.0, "; ask for a consistent output"),
        (True, 0.8, f"; {NO_NEARER}"),
        (True, 0.0, f"; {NO_NEARER}"),
    ],
)
def test_the_warning_does_not_advise_what_was_asked_for(
    caplog: pytest.LogCaptureFixture, consistent: bool, tau: float | None, advice: str
) -> None:
    options = DrawOptions(consistent=consistent, tau=np.ones((2, 2)) if tau is None else tau)
    warn_if_inconsistent("photo.png", [32.6], options=options, manifest=tiny_manifest())
    assert caplog.messages[0].endswith(f"(32.6 dB, below 40){advice}")


@pytest.mark.parametrize("gamma", [1.0, 1.8])
def test_an_answer_in_another_profile_is_consistent_in_that_profile(
    tiny_bundle: Path, noise: np.ndarray, gamma: float
) -> None:
    image = Image.fromarray(noise)
    image.info["icc_profile"] = matrix_profile(ADOBE_RGB, gamma_curve(gamma))
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=16) as opened:
        answer = opened.upscale(image, tau=0.3, consistent=True)
    assert np.abs(reduced(unit(np.asarray(answer)), SCALE) - unit(noise)).max() < 0.5 / 255 + 1e-4
    assert lr_psnr(answer, image) > 60
