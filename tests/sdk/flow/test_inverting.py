"""Encoding.invert and decode: the latents that make a picture, and the picture that latents make."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srflow_sdk.errors import ArgumentError, BundleError, CancelledError, ImageError, NonFiniteError
from srflow_sdk.flow.inverting import reduced_image
from srflow_sdk.latents.picture_latents import Latents
from srflow_sdk.latents.random_field import window_noise
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.upscaler import Upscaler

from ..flow_bundle import write_flow_bundle

SCALE = 4


@pytest.fixture(scope="module")
def flow_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flow_bundle(tmp_path_factory.mktemp("flow") / "flow.srflow")


@pytest.fixture(scope="module")
def flow(flow_bundle: Path) -> Upscaler:
    return Upscaler(flow_bundle, device="cpu", threads=1, tile=None)


@pytest.fixture
def hr() -> np.ndarray:
    """A uint8 picture with detail, 96×80."""
    y, x = np.mgrid[0:96, 0:80]
    waves = np.stack([np.sin(x / 5 + shift) * np.cos(y / 3 - shift) for shift in (0, 1, 2)], -1)
    noise = np.random.default_rng(0).normal(0, 8, waves.shape)
    return np.clip(np.rint(127.5 + 70 * waves + noise), 0, 255).astype(np.uint8)


def lr_of(hr: np.ndarray, upscaler: Upscaler) -> np.ndarray:
    return reduced_image(hr, upscaler.bundle.manifest)


KINDS = {
    "uint8": lambda hr: hr,
    "uint16": lambda hr: hr.astype(np.uint16) * 257,
    "float32": lambda hr: hr / np.float32(255),
    "gray": lambda hr: hr[..., :1],
    "PIL": Image.fromarray,
}


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_the_latents_of_a_picture_gives_the_picture(flow: Upscaler, hr: np.ndarray, kind: str) -> None:
    lr, image = KINDS[kind](lr_of(hr, flow)), KINDS[kind](hr)
    encoding = flow.encode(lr)
    decoded = encoding.decode(encoding.invert(image))
    assert type(decoded) is type(image)
    tolerance = {"uint8": 0, "uint16": 4, "float32": 2e-5, "gray": 0, "PIL": 0}[kind]
    np.testing.assert_allclose(np.asarray(decoded), np.asarray(image), atol=tolerance, rtol=0)


def test_decoding_drawn_latents_gives_the_sample_to_the_bit(flow: Upscaler, hr: np.ndarray) -> None:
    encoding = flow.encode(lr_of(hr, flow) / np.float32(255))
    manifest = flow.bundle.manifest
    drawn = window_noise(manifest.latent_levels, scale=SCALE, seed=5, sample=0, height=24, width=20)
    latents = Latents(drawn, height=96, width=80, model_sha256=manifest.digest)
    np.testing.assert_array_equal(encoding.decode(latents), encoding.sample(tau=1, seed=5))


@pytest.mark.parametrize("tile", [16, 18, 40])
def test_tiles_give_the_same_latents_and_nats(flow: Upscaler, flow_bundle: Path, tile: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (320, 240, 3), np.uint8)
    lr = lr_of(image, flow)
    whole = flow.encode(lr).invert(image)
    with Upscaler(flow_bundle, device="cpu", threads=1, tile=tile) as tiled:
        encoding = tiled.encode(lr)
        assert encoding.tiles > 1
        latents = encoding.invert(image)
        for level, expected in whole.levels.items():
            np.testing.assert_allclose(latents.levels[level], expected, atol=1e-3)
        assert latents.log_likelihood == pytest.approx(whole.log_likelihood, abs=1e-4 * image.size)
        np.testing.assert_allclose(encoding.decode(latents).astype(int), image, atol=1)


def test_tiles_in_parts_after_memory_ran_out_give_the_same(flow_bundle: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (320, 240, 3), np.uint8)
    with Upscaler(flow_bundle, device="cpu", threads=1, tile=48) as upscaler:
        encoding = upscaler.encode(lr_of(image, upscaler), memory_budget=0)
        expected = encoding.invert(image)
        encoding._kept.largest_core = 16
        latents = encoding.invert(image)
    for level, array in expected.levels.items():
        np.testing.assert_allclose(latents.levels[level], array, atol=1e-3)
    assert latents.log_likelihood == pytest.approx(expected.log_likelihood, abs=1e-4 * image.size)


@pytest.mark.parametrize(("height", "width"), [(93, 80), (96, 77), (94, 79), (89, 73), (1, 1)])
def test_pictures_of_any_size_come_back_and_their_padding_counts_nothing(
    flow: Upscaler, hr: np.ndarray, height: int, width: int
) -> None:
    image = np.ascontiguousarray(hr[:height, :width])
    encoding = flow.encode(lr_of(image, flow))
    latents = encoding.invert(image)
    assert (latents.height, latents.width) == (height, width)
    assert latents.log_likelihood is not None
    assert latents.bits_per_dimension is not None
    np.testing.assert_array_equal(encoding.decode(latents), image)
    if height > 1:  # less of the picture is less of its nats
        whole = flow.encode(lr_of(hr, flow)).invert(hr)
        assert whole.bits_per_dimension == pytest.approx(latents.bits_per_dimension, abs=0.35)


def test_the_log_likelihood_is_the_inversions(flow: Upscaler, hr: np.ndarray) -> None:
    lr = lr_of(hr, flow)
    expected = flow.encode(lr).invert(hr).log_likelihood
    assert flow.log_likelihood(hr) == flow.log_likelihood(hr, lr) == pytest.approx(expected, rel=1e-6)
    shifted = np.roll(hr, 5, axis=1)
    assert flow.log_likelihood(shifted, lr) < flow.log_likelihood(hr, lr), "it is not its reduction"


def test_dequantisation_stays_within_each_level_and_is_the_same_for_any_tiles(
    flow: Upscaler, flow_bundle: Path, hr: np.ndarray
) -> None:
    lr = lr_of(hr, flow)
    encoding = flow.encode(lr / np.float32(255))
    once, again = (encoding.invert(hr, dequantise=True) for _ in range(2))
    plain = encoding.invert(hr)
    spread = encoding.decode(once) * 256
    assert np.all(np.floor(spread + 1e-2) >= hr)
    assert np.all(np.floor(spread - 1e-2) <= hr)
    assert once.log_likelihood == again.log_likelihood != plain.log_likelihood
    with Upscaler(flow_bundle, device="cpu", threads=1, tile=16) as tiled:
        latents = tiled.encode(lr / np.float32(255)).invert(hr, dequantise=True)
    np.testing.assert_allclose(latents.levels[1], once.levels[1], atol=1e-3)


@pytest.mark.parametrize("size", [(96, 84), (100, 80), (92, 80), (24, 20)])
def test_a_picture_of_another_size_is_refused(flow: Upscaler, hr: np.ndarray, size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="needs 80×96"):
        flow.encode(lr_of(hr, flow)).invert(np.zeros((*size, 3), np.uint8))


def test_latents_of_another_model_or_size_are_refused(flow: Upscaler, hr: np.ndarray, tmp_path: Path) -> None:
    encoding = flow.encode(lr_of(hr, flow))
    with Upscaler(write_flow_bundle(tmp_path / "other.srflow", variant="published"), threads=1) as other:
        latents = other.encode(lr_of(hr, other)).invert(hr)
    with pytest.raises(ArgumentError, match="are of the model"):
        encoding.decode(latents)
    smaller = flow.encode(lr_of(hr[:40], flow)).invert(hr[:40])
    with pytest.raises(ArgumentError, match="a picture of 80×40"):
        encoding.decode(smaller)
    levels = {level: array for level, array in encoding.invert(hr).levels.items() if level != 2}
    with pytest.raises(ArgumentError, match="a picture of 80×96"):
        encoding.decode(Latents(levels, height=96, width=80, model_sha256=flow.bundle.model_sha256))


def test_a_bundle_without_an_inverter_upscales_and_says_what_is_missing(hr: np.ndarray, tmp_path: Path) -> None:
    bundle = write_flow_bundle(tmp_path / "old.srflow", inverter=False)
    assert "inverter.onnx" not in Bundle.open(bundle).manifest.files
    with Upscaler(bundle, threads=1) as upscaler:
        encoding = upscaler.encode(lr_of(hr, upscaler))
        assert encoding.sample().shape == hr.shape
        with pytest.raises(BundleError, match=r"has no inverter\.onnx.*export its checkpoint again"):
            encoding.invert(hr)


def test_progress_counts_tiles_and_cancel_ends_it(flow_bundle: Path, hr: np.ndarray) -> None:
    calls: list[tuple[int, int]] = []
    with Upscaler(flow_bundle, device="cpu", threads=1, tile=16) as upscaler:
        encoding = upscaler.encode(lr_of(hr, upscaler))
        latents = encoding.invert(hr, progress=lambda *count: calls.append(count))
        assert calls == [(number, encoding.tiles) for number in range(1, encoding.tiles + 1)]
        cancel = threading.Event()
        cancel.set()
        for call in (lambda: encoding.invert(hr, cancel=cancel), lambda: encoding.decode(latents, cancel=cancel)):
            with pytest.raises(CancelledError):
                call()


@pytest.mark.parametrize(("name", "value"), [("progress", 3), ("cancel", True)])
def test_wrong_options_are_typed_errors(flow: Upscaler, hr: np.ndarray, name: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=name):
        flow.encode(lr_of(hr, flow)).invert(hr, **{name: value})


def test_latents_without_a_finite_picture_are_an_error_of_their_own(flow: Upscaler, hr: np.ndarray) -> None:
    encoding = flow.encode(lr_of(hr, flow))
    latents = encoding.invert(hr)
    broken = {level: np.full_like(array, np.nan) for level, array in latents.levels.items()}
    given = Latents(broken, height=latents.height, width=latents.width, model_sha256=latents.model_sha256)
    with pytest.raises(NonFiniteError, match="from latents, in rows 0 to 23 and columns 0 to 19 of the LR image; "):
        encoding.decode(given)
