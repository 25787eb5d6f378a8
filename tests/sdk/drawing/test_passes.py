import threading

import numpy as np
import pytest
from PIL import Image

from srflow_sdk.drawing.finishing import lr_psnr, warn_if_inconsistent
from srflow_sdk.drawing.options import DrawOptions
from srflow_sdk.errors import CancelledError, ImageError
from srflow_sdk.files import read_image, write_image
from srflow_sdk.upscaler import Upscaler

from ..pixels.icc_writer import ADOBE_RGB, gamma_curve, matrix_profile
from ..pixels.reference import reduced
from ..tiny_bundle import tiny_manifest, write_tiny_bundle

SCALE = 4


def unit(pixels):
    return pixels.astype(np.float32) / (
        1 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max
    )


@pytest.fixture
def noise():
    """A picture that the tiny network is far from reproducing, away from black and white."""
    return np.random.default_rng(0).integers(60, 190, (45, 61, 3), np.uint8)


def test_the_mean_and_deviation_are_those_of_the_samples(tiny_bundle, photo):
    image = unit(photo)
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=32) as opened:
        encoding = opened.encode(image)
        samples = np.stack(encoding.samples(5, seed=3)).astype(np.float64)
        mean = encoding.mean(5, seed=3)
        deviation = encoding.std(5, seed=3)
    assert mean.shape == deviation.shape == (180, 244, 3)
    np.testing.assert_allclose(mean, samples.mean(0), atol=2e-6)
    np.testing.assert_allclose(deviation, samples.std(0, ddof=1), atol=2e-6)


def test_the_mean_is_of_the_images_kind_and_the_deviation_is_float(upscaler, photo):
    assert upscaler.encode(Image.fromarray(photo)).mean(3).mode == "RGB"
    deviation = upscaler.encode(Image.fromarray(photo).convert("LA")).std(3)
    assert (deviation.dtype, deviation.shape) == (np.float32, (180, 244, 1))
    assert 0 < deviation.mean() < 1


def test_consistency_and_its_measure_are_of_the_reduction_that_the_model_was_trained_on(
    tmp_path, noise
):
    bundle = write_tiny_bundle(tmp_path / "bilinear.srflow", reduction="bilinear")
    write_image(tmp_path / "in.png", noise)
    with Upscaler(bundle, device="cpu", threads=1) as opened:
        answer = opened.upscale(noise, tau=0.3, consistent=True)
        result = opened.upscale_file(
            tmp_path / "in.png", tmp_path / "out.png", tau=0.3, consistent=True, report=True
        )
    exact = lr_psnr(answer, noise, reduction="bilinear")
    assert exact > 55 > 40 > lr_psnr(answer, noise)
    assert result.outputs[0].lr_psnr == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize(
    ("dtype", "channels", "tile"),
    [(np.uint8, 3, 16), (np.uint16, 1, None), (np.float32, 3, None), (np.float32, 1, 32)],
)
def test_a_consistent_answer_reduces_to_the_input(tiny_bundle, noise, dtype, channels, tile):
    steps = 255 if dtype is np.float32 else np.iinfo(dtype).max
    image = unit(noise[..., :channels])
    image = image if dtype is np.float32 else (image * steps).astype(dtype)
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=tile) as opened:
        plain = opened.upscale(image, tau=0.3)
        answer = opened.upscale(image, tau=0.3, consistent=True)
    np.testing.assert_array_less(
        np.abs(reduced(unit(answer), SCALE) - unit(image)), 0.5 / steps + 1e-4
    )
    assert lr_psnr(answer, image) > 50 > lr_psnr(plain, image)
    assert answer.dtype == plain.dtype


def test_the_report_measures_every_answer_and_warns_under_40_db(upscaler, noise, caplog, tmp_path):
    write_image(tmp_path / "lr.png", noise)
    targets = [tmp_path / f"{number}.png" for number in range(3)]
    outputs = upscaler.upscale_file(tmp_path / "lr.png", targets, report=True).outputs
    values = [output.lr_psnr for output in outputs]
    for output, value in zip(outputs, values, strict=True):
        error = np.mean(
            (reduced(unit(read_image(output.path).pixels), SCALE).astype(np.float64) - unit(noise))
            ** 2
        )
        assert value == pytest.approx(-10 * np.log10(error), abs=0.001)
        assert value is not None
        assert value < 40
    assert len(caplog.records) == 1
    assert all(f"{value:.1f}" in caplog.records[0].getMessage() for value in values)
    caplog.clear()
    upscaler.upscale_file(tmp_path / "lr.png", targets[0], consistent=True, report=True)
    assert not caplog.records


def test_drawing_and_encoding_are_cancelled_before_the_next_tile(tiny_bundle, photo):
    cancel = threading.Event()
    seen = list[tuple[int, int]]()

    def stop_at_three(done, total):
        seen.append((done, total))
        if done == 3:
            cancel.set()

    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=16) as opened:
        encoding = opened.encode(photo)
        for call, total in (
            (lambda: encoding.samples(2, progress=stop_at_three, cancel=cancel), 24),
            (lambda: opened.encode(photo, progress=stop_at_three, cancel=cancel), 12),
        ):
            with pytest.raises(CancelledError):
                call()
            assert seen == [(1, total), (2, total), (3, total)]
            for later in (call, lambda: opened.encode(photo, memory_budget=0, cancel=cancel)):
                with pytest.raises(CancelledError):
                    later()
            seen.clear()
            cancel.clear()
        kept = opened.encode(
            photo, memory_budget=encoding.nbytes // 2, progress=lambda *step: seen.append(step)
        )
        assert seen == [(done, 12) for done in range(1, kept.kept_tiles + 1)], (
            "of those that it keeps"
        )
        assert 1 <= kept.kept_tiles < 12


def test_an_answer_in_another_profile_is_consistent_in_that_profile(tiny_bundle, noise):
    image = Image.fromarray(noise)
    image.info["icc_profile"] = matrix_profile(ADOBE_RGB, gamma_curve(1.8))
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=16) as opened:
        answer = opened.upscale(image, tau=0.3, consistent=True)
    assert np.abs(reduced(unit(np.asarray(answer)), SCALE) - unit(noise)).max() < 0.5 / 255 + 1e-4
    assert lr_psnr(answer, image) > 60


# lr_psnr, and the warning where it is low.


def random(*shape):
    return np.random.default_rng(len(shape)).integers(0, 256, shape, np.uint8)


def test_invisible_pixels_do_not_count():
    image = random(6, 8, 4)
    answer = random(24, 32, 4)
    image[..., 3] = 255
    image[:3, :, 3] = 0
    other = image.copy()
    other[:3, :, :3] = 255 - other[:3, :, :3]
    assert lr_psnr(answer, image) == lr_psnr(answer, other)
    assert lr_psnr(answer, image) != lr_psnr(answer, image[..., :3])
    image[..., 3] = 0
    assert np.isnan(lr_psnr(answer, image))


def test_paths_and_pil_images_are_taken(tmp_path, upscaler):
    photo = random(9, 11, 3)
    write_image(tmp_path / "lr.png", photo)
    answer = upscaler.upscale(photo)
    write_image(tmp_path / "sr.png", answer)
    expected = lr_psnr(answer, photo)
    assert lr_psnr(tmp_path / "sr.png", str(tmp_path / "lr.png")) == expected
    assert lr_psnr(Image.fromarray(answer), Image.fromarray(photo)) == expected


@pytest.mark.parametrize(
    ("answer", "image", "error", "says"),
    [
        (
            random(10, 8, 3),
            random(4, 4, 3),
            ImageError,
            "8×10 pixels does not match an image of 4×4",
        ),
        (random(8, 12, 3), random(4, 4, 3), ImageError, "not the same multiple"),
        (random(8, 8, 3), random(4, 4, 1), ImageError, "3 colour channels"),
        (3, random(4, 4, 3), ImageError, "int"),
    ],
)
def test_what_does_not_belong_together_is_a_typed_error(answer, image, error, says):
    with pytest.raises(error, match=says):
        lr_psnr(answer, image)


@pytest.mark.parametrize(
    ("value", "options", "removes_damage", "advice"),
    [
        (39.9, {}, False, "lower tau, or ask for a consistent output"),
        (39.9, {"tau": 0.0}, False, "ask for a consistent output"),
        (39.9, {}, True, None),
        (40.1, {}, False, None),
    ],
)
def test_an_output_that_does_not_match_its_input_is_warned_of_with_what_helps(
    caplog, value, options, removes_damage, advice
):
    manifest = tiny_manifest(removes_damage=removes_damage)
    warn_if_inconsistent("photo.png", [value], options=DrawOptions(**options), manifest=manifest)
    ends = [message.partition(" (39.9 dB, below 40)")[2] for message in caplog.messages]
    assert ends == ([] if advice is None else [f"; {advice}"])
