"""Encoding.invert and decode: the latents that make a picture, and the picture that latents
make."""

import threading

import numpy as np
import pytest

from srflow_sdk.drawing.inverting import reduced_image
from srflow_sdk.drawing.low_resolution import ChromaBounds
from srflow_sdk.errors import ArgumentError, BundleError, CancelledError, ImageError, NonFiniteError
from srflow_sdk.latents.picture_latents import Latents
from srflow_sdk.latents.random_field import window_noise
from srflow_sdk.upscaler import Upscaler

from ..flow_bundle import write_flow_bundle
from .conftest import noisy_waves

SCALE = 4


@pytest.fixture
def hr():
    """A uint8 picture with detail, 96×80."""
    return noisy_waves(96, 80, noise=8)


def lr_of(hr, upscaler):
    return reduced_image(hr, upscaler.bundle.manifest)


KINDS = {  # and how far each may be off
    "uint8": (lambda hr: hr, 0),
    "uint16": (lambda hr: hr.astype(np.uint16) * 257, 4),
    "float32": (lambda hr: hr / np.float32(255), 2e-5),
    "gray": (lambda hr: hr[..., :1], 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_the_latents_of_a_picture_gives_the_picture(flow, hr, kind):
    make, tolerance = KINDS[kind]
    encoding = flow.encode(make(lr_of(hr, flow)))
    np.testing.assert_allclose(
        encoding.decode(encoding.invert(make(hr))),
        make(hr),
        atol=tolerance,
        rtol=0,
    )


def test_decoding_drawn_latents_gives_the_sample_to_the_bit(flow, hr, monkeypatch):
    # which samples alone have
    monkeypatch.setattr(ChromaBounds, "limit", lambda self, picture: picture)
    encoding = flow.encode(lr_of(hr, flow) / np.float32(255))
    manifest = flow.bundle.manifest
    drawn = window_noise(manifest.latent_levels, scale=SCALE, seed=5, sample=0, height=24, width=20)
    latents = Latents(drawn, height=96, width=80, model_sha256=manifest.digest)
    np.testing.assert_array_equal(encoding.decode(latents), encoding.sample(tau=1, seed=5))


@pytest.mark.parametrize(("tile", "parts"), [(16, None), (18, None), (40, 16)])
def test_tiles_and_their_parts_give_the_same_latents_and_nats(flow, flow_bundle, tile, parts):
    image = np.random.default_rng(1).integers(0, 256, (240, 172, 3), np.uint8)
    lr = lr_of(image, flow)
    whole = flow.encode(lr).invert(image)
    with Upscaler(flow_bundle, device="cpu", threads=1, tile=tile) as tiled:
        encoding = tiled.encode(lr, memory_budget=0)
        assert encoding.tiles > 1
        encoding._picture.kept.largest_core = parts  # as after memory ran out
        latents = encoding.invert(image)
        for level, expected in whole.levels.items():
            np.testing.assert_allclose(latents.levels[level], expected, atol=1e-3)
        assert latents.log_likelihood == pytest.approx(whole.log_likelihood, abs=1e-4 * image.size)
        np.testing.assert_allclose(encoding.decode(latents).astype(int), image, atol=1)


@pytest.mark.parametrize(("height", "width"), [(93, 80), (89, 73), (1, 1)])
def test_pictures_of_any_size_come_back_and_their_padding_counts_nothing(flow, hr, height, width):
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


def test_the_log_likelihood_is_the_inversions(flow, hr):
    lr = lr_of(hr, flow)
    expected = flow.encode(lr).invert(hr).log_likelihood
    assert (
        flow.log_likelihood(hr) == flow.log_likelihood(hr, lr) == pytest.approx(expected, rel=1e-6)
    )
    shifted = np.roll(hr, 5, axis=1)
    assert flow.log_likelihood(shifted, lr) < flow.log_likelihood(hr, lr), "it is not its reduction"


def test_dequantisation_stays_within_each_level_and_is_the_same_for_any_tiles(
    flow, flow_bundle, hr
):
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


def test_progress_counts_tiles_and_cancel_ends_it(flow_bundle, hr):
    calls = []
    with Upscaler(flow_bundle, device="cpu", threads=1, tile=16) as upscaler:
        encoding = upscaler.encode(lr_of(hr, upscaler))
        latents = encoding.invert(hr, progress=lambda *count: calls.append(count))
        assert calls == [(number, encoding.tiles) for number in range(1, encoding.tiles + 1)]
        cancel = threading.Event()
        cancel.set()
        for call in (
            lambda: encoding.invert(hr, cancel=cancel),
            lambda: encoding.decode(latents, cancel=cancel),
        ):
            with pytest.raises(CancelledError):
                call()


def test_what_does_not_belong_together_is_a_typed_error(flow, hr, tmp_path):
    encoding = flow.encode(lr_of(hr, flow))
    latents = encoding.invert(hr)
    usual = {"height": 96, "width": 80, "model_sha256": flow.bundle.model_sha256}
    with Upscaler(write_flow_bundle(tmp_path / "other.srflow", name="other"), threads=1) as other:
        foreign = other.encode(lr_of(hr, other)).invert(hr)
    smaller = flow.encode(lr_of(hr[:40], flow)).invert(hr[:40])
    without = Latents(
        {level: array for level, array in latents.levels.items() if level != 2}, **usual
    )
    broken = Latents(
        {level: np.full_like(array, np.nan) for level, array in latents.levels.items()}, **usual
    )
    place = "from latents, in rows 0 to 23 and columns 0 to 19 of the LR image; "
    cases = [
        (lambda: encoding.invert(np.zeros((96, 84, 3), np.uint8)), ImageError, "needs 80×96"),
        (lambda: encoding.invert(np.zeros((24, 20, 3), np.uint8)), ImageError, "needs 80×96"),
        (lambda: encoding.decode(foreign), ArgumentError, "are of the model"),
        (lambda: encoding.decode(smaller), ArgumentError, "a picture of 80×40"),
        (lambda: encoding.decode(without), ArgumentError, "a picture of 80×96"),
        (lambda: encoding.decode({}), ArgumentError, "latents is dict; it must be Latents"),
        (lambda: encoding.decode(broken), NonFiniteError, place),
    ]
    for call, error, says in cases:
        with pytest.raises(error, match=says):
            call()


def test_a_bundle_without_an_inverter_upscales_and_the_others_are_refused_before_any_work(
    hr, tmp_path, monkeypatch
):
    with Upscaler(
        write_flow_bundle(tmp_path / "old.srflow", inverter=False), device="cpu", threads=1
    ) as upscaler:
        encoding = upscaler.encode(lr_of(hr, upscaler))
        assert encoding.sample().shape == hr.shape
        monkeypatch.setattr(
            upscaler.engine.painter.backend,
            "encode",
            lambda *_, **__: pytest.fail("it went to work"),
        )
        mask = np.ones(hr.shape[:2], bool)
        for call in (
            encoding.invert,
            upscaler.restore,
            lambda image: upscaler.transfer(image, image, mask),
        ):
            with pytest.raises(
                BundleError,
                match=r"has no inverter\.onnx.*export its checkpoint again",
            ):
                call(hr)
