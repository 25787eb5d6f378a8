"""A bundle whose network has a plain encoder, and nets of another size at each level: proved,
tiled, and had back."""

import numpy as np
import onnx
import pytest
import torch

from srflow_export.exporter import ExportOptions, export_checkpoint
from srflow_export.graphs import EncoderGraph, SamplerGraph
from srflow_export.halo import _MAX_ABS
from srflow_export.parity.photographs import photographs
from srflow_export.plain import draw_as_runtime
from srflow_sdk import Bundle
from srflow_sdk.drawing.low_resolution import ChromaBounds
from srflow_sdk.geometry.tiles import Window
from srflow_training import PlainEncoder, load_checkpoint, save_checkpoint
from srflow_training.validation import runtime_noise
from tests.export.running import run
from tests.export.test_halo import worst
from tests.networks import PLAIN, PLAIN_X2, random_srflow, tiny_config

NETWORKS = {
    "x4": {**PLAIN, "image_base": "nearest", "residual": True},
    "x2": {**PLAIN_X2, "image_base": "bicubic"},
}


@pytest.fixture(scope="module", params=["x4", pytest.param("x2", marks=pytest.mark.slow)])
def model(request):
    return random_srflow(tiny_config(**NETWORKS[request.param]))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("plain")
    lines = []
    save_checkpoint(folder / "tiny.safetensors", model)
    export_checkpoint(
        folder / "tiny.safetensors",
        folder / "tiny.srflow",
        ExportOptions(fused=True),
        say=lines.append,
    )
    assert "2 plain blocks of 8 channels, L = " in lines[0]
    return Bundle.open(folder / "tiny.srflow")


def test_its_graphs_are_the_networks(bundle, model):
    manifest = bundle.manifest
    assert (manifest.scale, manifest.size_multiple) == (model.config.scale, 2)
    assert manifest.model["encoder"] == "plain"
    assert {row["graph"] for row in manifest.parity} == {"encoder+sampler", "fused"}
    assert all(row["psnr_db"] >= 90 for row in manifest.parity)
    assert "inverter.onnx" in manifest.files


def test_its_encoder_holds_one_kernel_for_each_convolution(bundle, model):
    weights = {
        each.name: list(each.dims)
        for each in onnx.load(bundle.file("encoder.onnx")).graph.initializer
    }
    trunk = {name: dims for name, dims in weights.items() if name.startswith("model.encoder.")}
    convs = [
        "conv_first",
        *(f"blocks.{index}.conv{number}" for index in (0, 1) for number in (1, 2)),
        "conv_trunk",
    ]
    assert set(trunk) == {
        f"model.encoder.{conv}.{part}" for conv in convs for part in ("weight", "bias")
    }
    assert trunk["model.encoder.blocks.0.conv1.weight"] == [8, 8, 3, 3]
    assert isinstance(model.encoder, PlainEncoder)
    assert model.encoder.composed()  # the exporter collapses its own copy


@torch.no_grad()
def test_the_sdk_draws_the_networks_pictures_of_sides_that_are_no_multiples(bundle, model):
    image = np.random.default_rng(0).random((11, 7, 3), dtype=np.float32)
    padded = np.pad(image, ((0, 1), (0, 1), (0, 0)), mode="edge")
    lr = torch.from_numpy(padded.transpose(2, 0, 1)[None].copy())
    expected = model.decode(
        lr, {level: 0.7 * z for level, z in runtime_noise(model, lr, seed=5).items()}
    )[0]
    whole = Window(top=0, left=0, height=12, width=8)
    expected = ChromaBounds(lr[0].numpy(), whole, bundle.manifest.halo).limit(
        expected.numpy().transpose(1, 2, 0)
    )
    height, width = 11 * model.config.scale, 7 * model.config.scale
    actual = draw_as_runtime(bundle, image, tau=0.7, seed=5)
    np.testing.assert_allclose(actual, expected.clip(0, 1)[:height, :width], atol=1e-4)


def test_tiles_with_the_measured_halo_are_the_untiled_picture(bundle):
    halo = bundle.manifest.halo
    lr = photographs(2)[0].lr[..., : 16 + 2 * halo, :48]
    assert worst(bundle, lr, core=16, reach=halo, tau=0.8)[0] <= 2 * _MAX_ABS
    assert worst(bundle, lr, core=16, reach=0, tau=0.8)[0] > 2 * _MAX_ABS


@torch.no_grad()
def test_its_checkpoint_can_be_had_back_collapsed(bundle, model, tmp_path):
    target = tmp_path / "again.safetensors"
    result = run("--checkpoint-of", bundle.path, "-o", target)
    assert result.exit_code == 0, result.output
    again = load_checkpoint(target)
    assert again.config == model.config
    assert isinstance(again.encoder, PlainEncoder)
    assert not again.encoder.composed()
    lr = torch.rand(1, 3, 8, 12)
    latents = {
        level: 0.8 * torch.randn(1, *shape) for level, shape in model.latent_shapes(8, 12).items()
    }
    torch.testing.assert_close(
        again.decode(lr, latents), model.decode(lr, latents), rtol=1e-4, atol=1e-4
    )
    if model.config.residual:
        torch.testing.assert_close(again.encoder(lr), model.encoder(lr), rtol=1e-4, atol=1e-4)
    else:  # the image head is in no bundle
        base = torch.nn.functional.interpolate(
            lr, scale_factor=model.config.scale, mode="bicubic", antialias=True
        )
        assert torch.equal(again.encoder(lr), base)


@pytest.mark.parametrize("scale", [2, 4, 8, 16])
@torch.no_grad()
def test_a_residual_networks_graphs_draw_on_its_encoders_own_image(scale):
    levels = scale.bit_length()
    settings = {
        **PLAIN,
        "condition": (8,) * levels,
        "steps": 1,
        "hidden": 8,
        "injector_hidden": 4,
        "scale": scale,
    }
    model = random_srflow(tiny_config(image_base="nearest", residual=True, **settings)).double()
    lr = torch.rand(1, 3, 4, 6, dtype=torch.float64)
    noise = {
        level: torch.randn(1, *shape).double() for level, shape in model.latent_shapes(4, 6).items()
    }
    encoder = EncoderGraph(model, torch.float64)
    sampler = SamplerGraph(model, torch.float64)
    drawn = sampler(
        *encoder(lr),
        *(noise[level] for level in sorted(noise)),
        torch.tensor([0.8]).double(),
    )[-1]
    torch.testing.assert_close(
        drawn, model.decode(lr, {level: 0.8 * z for level, z in noise.items()})
    )
