"""A flow in both directions has one interface, for a bundle and for a checkpoint."""

import weakref

import numpy as np
import pytest
import torch

from srflow_evaluation import flows
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.pictures import Cut, picture_files, read_picture
from srflow_evaluation.subjects import open_subject
from srflow_export._unfolding import trainable_network
from srflow_sdk import Bundle, Latents, Upscaler
from srflow_sdk.errors import BundleError, NonFiniteError
from srflow_sdk.flow.inverting import dequantised
from srflow_training import load_checkpoint, save_checkpoint
from srflow_training.model.features import LevelFeatures
from srflow_training.model.srflow import PartsWhenNeeded
from tests.networks import random_srflow, tiny_config
from tests.sdk.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def picture(photos):
    cut = Cut(scale=4, multiple=8)
    return read_picture(picture_files(photos, lr=None, others={}, cut=cut)[0], cut, "bicubic")


@pytest.mark.parametrize("bundle", [True, False])
def test_decoding_inverts_inverting_and_sampling_decodes(picture, checkpoint, bundle):
    flow = open_subject(None if bundle else str(checkpoint)).flow(picture.lr)
    found = flow.invert(picture.hr)
    assert list(found.levels) == [1, 2, 3]
    assert {array.ndim for array in found.levels.values()} == {3}
    assert float((flow.decode(found) - picture.hr).abs().max()) < 1e-3
    sample = flow.sample(LevelTaus((0.8,)), 1)
    assert sample.shape == picture.hr.shape
    inside = sample.clamp(0, 1)
    again = flow.invert(inside)
    assert float((flow.decode(again) - inside).abs().max()) < 1e-3


def test_a_checkpoints_latents_and_nats_are_its_networks(picture, checkpoint):
    found = open_subject(str(checkpoint)).flow(picture.lr).invert(picture.hr)
    with torch.no_grad():
        latents, nats = load_checkpoint(checkpoint).encode(picture.hr, picture.lr)
    assert found.log_likelihood == pytest.approx(float(nats), rel=1e-6)
    for level, values in latents.items():
        assert np.allclose(found.levels[level], values[0].numpy(), atol=1e-5)


def test_a_picture_whose_conditioning_does_not_fit_into_memory_is_the_same_to_the_bit(picture, checkpoint, monkeypatch):
    subject, tau = open_subject(str(checkpoint)), LevelTaus((0.8,))
    found = []
    for free in (1 << 40, 0):
        monkeypatch.setattr(flows, "available_memory", lambda free=free: free)
        flow = subject.flow(picture.lr)
        assert all(
            isinstance(step, PartsWhenNeeded) == (free == 0) for parts in flow._condition.levels for step in parts
        )
        latents = flow.invert(picture.hr)
        found.append((flow.sample(tau, 1), latents.levels, latents.log_likelihood, flow.decode(latents)))
    kept, computed = found
    assert torch.equal(kept[0], computed[0])
    assert torch.equal(kept[3], computed[3])
    assert kept[2] == computed[2]
    for level, values in kept[1].items():
        np.testing.assert_array_equal(values, computed[1][level])


def test_of_what_is_computed_when_needed_one_part_is_held_at_a_time(picture, monkeypatch):
    network = random_srflow(tiny_config())
    parts, held = weakref.WeakSet(), []
    convolution = LevelFeatures.conv

    def counted(self, weight, bias):
        held.append(len(parts))
        parts.add(computed := convolution(self, weight, bias))
        return computed

    monkeypatch.setattr(LevelFeatures, "conv", counted)
    condition = network.condition_when_needed(picture.lr)
    assert not held
    with torch.no_grad():
        latents, _ = network.encode_conditioned(picture.hr, condition)
        network.decode_conditioned(condition, latents)
    nets = sum(len(step.nets()) for level in network.flow_levels() for step in level.all_steps())
    assert held == [0] * (2 * nets)  # before each convolution


def test_conditioning_is_as_large_as_it_is_said_to_be(picture, checkpoint):
    network = load_checkpoint(checkpoint)
    with torch.no_grad():
        parts = [part for level in network.condition(picture.lr).levels for step in level for part in step]
    assert network.conditioning_bytes(picture.lr) == sum(part.nbytes for part in parts)


def test_a_bundles_dequantised_likelihood_is_the_runtimes(picture):
    spread = torch.from_numpy(dequantised(picture.hr[0].numpy()))[None]
    found = open_subject(None).flow(picture.lr).invert(spread)
    pixels = [(x[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8) for x in (picture.hr, picture.lr)]
    with Upscaler("x4-small", device="cpu") as upscaler:
        latents = upscaler.encode(pixels[1]).invert(pixels[0], dequantise=True)
    assert found.log_likelihood == pytest.approx(latents.log_likelihood, rel=1e-5)


def test_a_bundle_without_an_inverter_only_samples(tmp_path, picture):
    subject = open_subject(str(write_tiny_bundle(tmp_path / "tiny.srflow")))
    with pytest.raises(BundleError, match=r"has no inverter\.onnx.*export its checkpoint again"):
        subject.both_ways()
    assert subject.condition(picture.lr)(LevelTaus((0.8,)), 0).shape == picture.hr.shape


def test_latents_that_are_not_finite_are_an_error(picture, tmp_path):
    model = random_srflow(tiny_config())
    model.encoder.conv_first.bias.data[0] = float("nan")
    save_checkpoint(tmp_path / "broken.safetensors", model)
    flow = open_subject(str(tmp_path / "broken.safetensors")).flow(picture.lr)
    with pytest.raises(NonFiniteError):
        flow.invert(picture.hr)
    sound = open_subject(str(tmp_path / "broken.safetensors"))
    shapes = model.latent_shapes(*picture.lr.shape[2:])
    height, width = picture.hr.shape[2:]
    zeros = {level: np.zeros(shape, np.float32) for level, shape in shapes.items()}
    latents = Latents(zeros, height=height, width=width, model_sha256=sound.sha256)
    with pytest.raises(NonFiniteError):
        sound.flow(picture.lr).decode(latents)


def test_a_checkpoint_has_the_latents_and_pictures_of_its_bundle(picture, tmp_path):
    save_checkpoint(tmp_path / "embedded.safetensors", trainable_network(Bundle.embedded().path))
    images, found = [], []
    for model in (None, str(tmp_path / "embedded.safetensors")):
        flow = open_subject(model).both_ways()(picture.lr)
        found.append(flow.invert(picture.hr))
        images.append(flow.decode(found[-1].scaled(0.5)))
    assert torch.allclose(*images, atol=1e-3)
    assert (images[0] - picture.hr).abs().max() > 0.02
    bundled, loaded = found
    assert (bundled.height, bundled.width) == (loaded.height, loaded.width) == (64, 72)
    for level, latent in bundled.levels.items():
        assert np.allclose(loaded.levels[level], latent, atol=0.02)
    assert loaded.bits_per_dimension == pytest.approx(bundled.bits_per_dimension, abs=1e-3)
