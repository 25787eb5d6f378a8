"""The golden case: what the published implementation computed with known weights."""

import numpy as np
import pytest
import torch

from srflow_training import SRFlow, load_checkpoint
from tests.networks import GOLDEN, golden_checkpoint

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    model = load_checkpoint(golden_checkpoint(tmp_path_factory.mktemp("golden") / "published.pth"))
    assert isinstance(model, SRFlow)
    return model


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "srflow_x4_small.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def difference(a, b):
    return float((a - b).abs().max())


@torch.no_grad()
def test_decode_gives_the_published_image(model, golden):
    latents = {level: golden[f"latent_level{level}"] for level in (1, 3)}
    assert difference(model.decode(golden["lr"], latents), golden["sr"]) < TOLERANCE
    assert difference(model.sample(golden["lr"], tau=0.0), golden["sr_tau0"]) < TOLERANCE


@torch.no_grad()
def test_encode_gives_the_published_latents_and_log_likelihood(model, golden):
    latents, log_likelihood = model.encode(golden["hr"], golden["lr"])
    for level in (1, 3):
        assert difference(latents[level], golden[f"encoded_level{level}"]) < TOLERANCE
    assert float(log_likelihood) == pytest.approx(float(golden["log_likelihood"]), rel=1e-6)
    bits = -log_likelihood / (np.log(2) * golden["hr"].shape[2] * golden["hr"].shape[3])
    assert float(bits) == pytest.approx(float(golden["nll_bits_per_pixel"]), rel=1e-6)


@torch.no_grad()
def test_encoder_image_is_the_published_one(model, golden):
    assert difference(model.encoder(golden["lr"]), golden["encoder_out"]) < TOLERANCE
