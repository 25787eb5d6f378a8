"""OpenVINO's pictures: the CPU's, of any size, tile, precision and operation, with bfloat16 in the encoder alone."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

from srflow_sdk import Upscaler
from srflow_sdk.backends import Backend, OnnxRuntimeBackend
from srflow_sdk.backends.openvino import Graph, OpenVinoBackend
from srflow_sdk.model.bundle import Bundle
from tests.networks import GOLDEN
from tests.sdk.tiny_bundle import write_tiny_bundle

from .pictures import decibels, image, noise, opened, picture, sampling_gives


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(autouse=True)
def cache(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One for all of them: compiling the embedded model takes most of their time. test_cache.py tests the cache."""
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(compiled))
    return compiled


@pytest.mark.parametrize("name", Bundle.embedded_names())
def test_pictures_of_any_size_are_the_cpus(name: str) -> None:
    """Left alone, OpenVINO computes in bfloat16 where the processor can: 54 dB."""
    embedded = Bundle.embedded(name)
    with opened(embedded, "openvino") as found, OnnxRuntimeBackend(embedded, threads=1) as cpu:
        assert found.device == "openvino"
        for size in ((16, 16), (40, 24), (16, 16)):
            assert decibels(picture(found, embedded, *size), picture(cpu, embedded, *size)) > 90


@pytest.mark.slow  # exporting the golden network takes seconds
@pytest.mark.parametrize("both", [True, False])
def test_pictures_are_the_published_implementations(golden_bundle: Path, both: bool) -> None:
    expected = np.load(GOLDEN / "srflow_x4_small.npz")
    tau = float(expected["tau"])
    drawn = {level: (expected[f"latent_level{level}"] / tau).astype(np.float32) for level in (1, 3)}
    with OpenVinoBackend(Bundle.open(golden_bundle), threads=1, both=both) as backend:
        conditioning = backend.encode(expected["lr"].astype(np.float32))
        np.testing.assert_allclose(backend.sample(conditioning, drawn, tau), expected["sr"], atol=1e-4)
        np.testing.assert_allclose(backend.sample(conditioning, drawn, 0.0), expected["sr_tau0"], atol=1e-4)


@pytest.mark.parametrize("both", [True, False])
def test_bfloat16_changes_the_encoder_and_never_the_sampler(both: bool) -> None:
    embedded = Bundle.embedded()
    exact, coarse = (OpenVinoBackend(embedded, threads=1, both=both, hint=hint) for hint in ("f32", "bf16"))
    with exact, coarse:
        conditioning, drawn = exact.encode(image(16, 16)), noise(embedded, 16, 16)
        expected = exact.sample(conditioning, drawn, 0.8)
        np.testing.assert_allclose(coarse.sample(conditioning, drawn, 0.8), expected, atol=1e-4)
        capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        differs = not np.array_equal(coarse.sample(coarse.encode(image(16, 16)), drawn, 0.8), expected)
        assert differs == ("BF16" in capabilities)


def test_one_encoding_serves_a_batch_of_noise_and_a_batch_of_images(bundle: Bundle, backend: Backend) -> None:
    conditioning, drawn = backend.encode(image(8, 10)), noise(bundle, 8, 10, batch=3)
    assert conditioning.nbytes == 8 * 10 * bundle.manifest.conditioning_bytes_per_pixel
    together = backend.sample(conditioning, drawn, 0.7)
    several = backend.sample(backend.encode(image(8, 10, batch=3)), drawn, 0.7)
    for index in range(3):
        alone = {level: array[index : index + 1] for level, array in drawn.items()}
        np.testing.assert_allclose(backend.sample(conditioning, alone, 0.7)[0], together[index], atol=1e-6)
        one = backend.encode(image(8, 10, batch=3)[index : index + 1])
        np.testing.assert_allclose(backend.sample(one, alone, 0.7)[0], several[index], atol=1e-6)


def test_what_was_returned_does_not_change_with_later_runs_or_the_callers_arrays(
    bundle: Bundle, backend: Backend
) -> None:
    lr = image(16, 20)
    conditioning = backend.encode(lr)
    first = backend.sample(conditioning, noise(bundle, 16, 20), 0.8)
    kept = first.copy()
    lr[:] = 0
    for size in ((16, 20), (40, 20)):
        picture(backend, bundle, *size, tau=0.1)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(backend.sample(conditioning, noise(bundle, 16, 20), 0.8), kept)


@pytest.mark.parametrize(("precision", "bound"), [("bf16", 1e-5), ("fp16", 0.02), ("int8", 0.05)])
def test_bundles_of_every_precision_run(tmp_path: Path, precision: str, bound: float) -> None:
    """A bfloat16 bundle by the float32 graphs beside its own, like on the CPU."""
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "b.srflow", twins=precision == "bf16", precision=precision))
    with OpenVinoBackend(bundle, threads=1) as found, OnnxRuntimeBackend(bundle, threads=1) as cpu:
        np.testing.assert_allclose(picture(found, bundle), picture(cpu, bundle), atol=bound)


@pytest.mark.parametrize(
    ("precision", "twins", "both"), [("fp32", False, False), ("bf16", True, False), ("fp16", False, True)]
)
def test_onnxruntime_draws_from_float32_graphs(tmp_path: Path, precision: str, twins: bool, both: bool) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "b.srflow", twins=twins, precision=precision))
    with OpenVinoBackend(bundle, threads=1) as backend:
        assert isinstance(backend._sampler, Graph) == both
        assert backend.trims_memory != both


def test_inverting_gives_the_cpus_latents() -> None:
    embedded = Bundle.embedded()
    hr = np.random.default_rng(2).random((1, 3, 64, 64), np.float32)
    with OpenVinoBackend(embedded, threads=1) as found, OnnxRuntimeBackend(embedded, threads=1) as cpu:
        (one, density), (two, expected) = (of.invert(of.encode(image(16, 16)), hr) for of in (found, cpu))
        for level, latents in two.items():
            np.testing.assert_allclose(one[level], latents, atol=2e-3, rtol=1e-3)
        np.testing.assert_allclose(density, expected, rtol=1e-3)
    assert not OpenVinoBackend(embedded, both=True).can_invert


def test_a_picture_comes_back_from_its_latents_in_bfloat16() -> None:
    """Inverting and sampling see the same conditioning, however coarse it is."""
    embedded = Bundle.embedded()
    hr = np.random.default_rng(2).random((1, 3, 64, 64), np.float32)
    with OpenVinoBackend(embedded, threads=1, hint="bf16") as backend:
        conditioning = backend.encode(image(16, 16))
        latents, _ = backend.invert(conditioning, hr)
        assert decibels(backend.sample(conditioning, latents, 1.0), hr) > 45


def test_threads_share_one_backend(bundle: Bundle, backend: Backend) -> None:
    sizes = [(16, 16), (40, 24), (24, 40)] * 3
    expected = {size: picture(backend, bundle, *size) for size in sizes}
    same: list[bool] = []

    def draw(size: tuple[int, int]) -> None:
        same.append(np.array_equal(picture(backend, bundle, *size), expected[size]))

    threads = [threading.Thread(target=draw, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * len(sizes)


def test_tiles_are_the_whole_picture(tiny_bundle: Path) -> None:
    photo = np.random.default_rng(1).integers(0, 256, (60, 50, 3), np.uint8)
    with Upscaler(tiny_bundle, device="openvino", threads=1, tile=None) as whole:
        expected = whole.upscale(photo, seed=3)
    with Upscaler(tiny_bundle, device="openvino", threads=1, tile=16) as tiled:
        found = tiled.upscale(photo, seed=3).astype(int)
    assert np.abs(found - expected).max() <= 1


def test_restoring_and_transferring_give_the_cpus_pictures() -> None:
    photo, other = (np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8) for seed in range(2))
    mask = np.zeros((64, 64), bool)
    mask[16:32, 16:32] = True
    found = []
    for device in ("openvino", "cpu"):
        with Upscaler("x4-small", device=device, threads=1) as up:  # type: ignore[arg-type]
            found.append((up.restore(photo).astype(int), up.transfer(photo, other, mask).astype(int)))
    for one, two in zip(*found, strict=True):
        assert np.abs(one - two).max() <= 1, "OpenVINO's own inverter is off by 40 and more"


def test_a_tile_that_is_not_finite_is_computed_again_on_the_cpu(tmp_path: Path, caplog: Any) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "b.srflow"))
    photo = np.random.default_rng(1).random((32, 32, 3), np.float32)
    with Upscaler(bundle, device="openvino", threads=1) as up:
        expected = up.upscale(photo)
        with pytest.MonkeyPatch.context() as patch:
            sampling_gives(patch, times=np.nan)
            np.testing.assert_allclose(up.upscale(photo), expected, atol=1e-5)
    assert "computing it again in float32 on the CPU" in caplog.text
