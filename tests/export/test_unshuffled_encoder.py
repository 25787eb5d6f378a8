"""A bundle whose LR encoder has an unshuffled trunk: proved, padded, tiled, and turned back into a checkpoint."""

import numpy as np
import pytest
import torch

from srflow_export.exporter import ExportOptions, export_checkpoint
from srflow_export.halo import _MAX_ABS
from srflow_export.parity.photographs import photographs
from srflow_export.unfolding import write_checkpoint_of
from srflow_sdk import Bundle, Upscaler
from srflow_training import load_checkpoint, save_checkpoint
from tests.export.odd_pictures import drawn_twice
from tests.export.test_halo import worst
from tests.networks import random_srflow, tiny_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return random_srflow(tiny_config(unshuffle=4, steps=1))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, model):
    folder, lines = tmp_path_factory.mktemp("unshuffled"), []
    save_checkpoint(folder / "tiny.safetensors", model)
    options = ExportOptions(fused=True, inverter=False)
    export_checkpoint(folder / "tiny.safetensors", folder / "tiny.srflow", options, say=lines.append)
    assert "2 RRDB blocks of 8 channels at LR/4 (stacked 0, 1)" in lines[0]
    return Bundle.open(folder / "tiny.srflow")


def test_the_manifest_says_what_sizes_the_graphs_take(bundle):
    manifest = bundle.manifest
    assert manifest.size_multiple == manifest.model["unshuffle"] == 4
    assert manifest.halo % 4 == 0
    assert {row["graph"] for row in manifest.parity} == {"encoder+sampler", "fused"}
    assert all(row["psnr_db"] >= 90 for row in manifest.parity)


def test_an_image_of_an_odd_size_is_padded_as_the_network_needs(bundle, model):
    actual, expected = drawn_twice(bundle, model)
    assert actual.shape == (44, 28, 3)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_tiles_with_the_measured_halo_are_the_untiled_picture(bundle):
    halo = bundle.manifest.halo
    lr = photographs(4)[0].lr[..., : 16 + 2 * halo, :48]
    assert worst(bundle, lr, core=16, reach=halo, tau=0.8)[0] <= 2 * _MAX_ABS
    assert worst(bundle, lr, core=16, reach=0, tau=0.8)[0] > 2 * _MAX_ABS
    picture = np.ascontiguousarray(lr[0, :, :-3, :-1].transpose(1, 2, 0))
    with Upscaler(bundle, device="cpu", threads=1, tile=None) as upscaler:
        whole = upscaler.upscale(picture, tau=0.8, seed=1)
    with Upscaler(bundle, device="cpu", threads=1, tile=16) as upscaler:
        tiled = upscaler.upscale(picture, tau=0.8, seed=1)
    np.testing.assert_allclose(tiled, whole, atol=2 * _MAX_ABS)


@torch.no_grad()
def test_its_bundle_becomes_a_checkpoint_again(bundle, model, tmp_path):
    write_checkpoint_of(bundle.path, tmp_path / "again.safetensors")
    again = load_checkpoint(tmp_path / "again.safetensors")
    assert again.config == model.config
    lr = torch.rand(1, 3, 8, 12)
    latents = {level: 0.8 * torch.randn(1, *shape) for level, shape in model.latent_shapes(8, 12).items()}
    torch.testing.assert_close(again.decode(lr, latents), model.decode(lr, latents), rtol=1e-4, atol=1e-4)
