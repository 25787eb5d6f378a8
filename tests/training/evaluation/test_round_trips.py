"""Latents of bundles and of checkpoints, changed and decoded again."""

import numpy as np
import pytest
import torch

from srflow_export._unfolding import trainable_network
from srflow_sdk import Bundle
from srflow_sdk.errors import BundleError, NonFiniteError
from srflow_training import load_checkpoint, save_checkpoint
from srflow_training.evaluation.pictures import Cut, picture_files, read_picture
from srflow_training.evaluation.round_trips import check_round_trips, round_trip
from srflow_training.evaluation.subjects import open_subject
from tests.networks import random_srflow, tiny_config
from tests.sdk.flow_bundle import write_flow_bundle

CUT = Cut(scale=4, multiple=8)


@pytest.fixture(scope="module")
def unfolded(tmp_path_factory):
    path = tmp_path_factory.mktemp("unfolded") / "embedded.safetensors"
    save_checkpoint(path, trainable_network(Bundle.embedded().path))
    return path


@pytest.fixture
def picture(photos):
    return read_picture(picture_files(photos, lr=None, others={}, cut=CUT)[0], CUT, "bicubic")


@torch.no_grad()
def test_unchanged_latents_give_the_picture_back(picture, checkpoint):
    for model in (None, str(checkpoint)):
        again = round_trip(open_subject(model), picture.hr, picture.lr, lambda latents: latents)
        assert again.shape == picture.hr.shape
        assert torch.allclose(again, picture.hr, atol=1e-3)


@torch.no_grad()
def test_a_checkpoint_has_the_latents_and_pictures_of_its_bundle(picture, unfolded):
    found = []

    def halved(latents):
        found.append(latents)
        return latents.scaled(0.5)

    images = [round_trip(open_subject(model), picture.hr, picture.lr, halved) for model in (None, str(unfolded))]
    images = [image.clamp(0, 1) for image in images]  # a bundle's is clipped
    assert torch.allclose(*images, atol=1e-3)
    assert (images[0] - picture.hr).abs().max() > 0.02
    bundled, loaded = found
    assert (bundled.height, bundled.width) == (loaded.height, loaded.width) == (64, 72)
    for level, latent in bundled.levels.items():
        assert np.allclose(loaded.levels[level], latent, atol=0.02)
    assert loaded.bits_per_dimension == pytest.approx(bundled.bits_per_dimension, abs=1e-3)


def test_a_bundle_without_an_inverter_is_refused_and_a_checkpoint_is_not(tmp_path, checkpoint):
    old = write_flow_bundle(tmp_path / "old.srflow", inverter=False)
    with pytest.raises(BundleError, match=r"has no inverter\.onnx.*export its checkpoint again"):
        check_round_trips(open_subject(str(old)))
    check_round_trips(open_subject(str(checkpoint)))
    check_round_trips(open_subject(None))


@torch.no_grad()
def test_latents_that_are_not_finite_cannot_be_normalised(picture, tmp_path):
    model = random_srflow(tiny_config())
    model.encoder.conv_first.bias.data[0] = float("nan")
    save_checkpoint(tmp_path / "broken.safetensors", model)
    assert load_checkpoint(tmp_path / "broken.safetensors")
    subject = open_subject(str(tmp_path / "broken.safetensors"))
    with pytest.raises(NonFiniteError, match="level 1"):
        round_trip(subject, picture.hr, picture.lr, lambda latents: latents.normalised(0.9))
