"""A bundle's network can be had back: the same images, latents and likelihoods, and it can be
trained."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.nn import functional as F

from srflow_export.bundle_writer import staged_bundle
from srflow_export.graphs import EncoderGraph, SamplerGraph
from srflow_export.parity.photographs import photo_patches
from srflow_export.unfolding import trainable_network
from srflow_sdk import Bundle, Upscaler
from srflow_sdk.errors import ArgumentError, BundleError
from srflow_sdk.model.bundle import LatentLevel, Manifest
from srflow_training import figures, load_checkpoint
from srflow_training.checkpoints import load_with_notes
from srflow_training.model import SRFlow, SRFlowConfig
from srflow_training.presets import load_settings
from srflow_training.validation import runtime_noise
from tests.export.running import run
from tests.networks import PLAIN, PLAIN_X2, random_srflow, tiny_config

CASES = [
    ("paper", {}),
    ("published", {"scale": 8}),
    ("bounded", {"image_base": "bicubic"}),
    (
        "published",
        {"scale_map": "exp", "affine_order": "scale_first", "transition_steps": 0, "steps": 1},
    ),
    (
        "paper",
        {"levels": 2, "split_levels": (), "stacked_blocks": (0,), "trunk_skip": "first_conv"},
    ),
    ("bounded", {**PLAIN, "last_kernel": 1}),
    ("paper", {**PLAIN_X2, "condition_kernel": 3, "stacked_blocks": (1,)}),
    ("bounded", {"condition": (8, 12, 16)}),
]


def model_of_weights(weights):
    """An ONNX model that holds these tensors alone: what unfolding reads of one, without minutes of
    torch.onnx."""
    named = [
        numpy_helper.from_array(weight.detach().numpy(), name) for name, weight in weights.items()
    ]
    return onnx.helper.make_model(onnx.helper.make_graph([], "weights", [], [], named))


def graphs_of(model):
    """Both graphs of a network, with the weights on which their outputs depend, as the exporter
    keeps them."""
    encoder = EncoderGraph(model)
    multiple = model.config.size_multiple
    used = torch.autograd.grad(
        sum(output.sum() for output in encoder(torch.rand(1, 3, 2 * multiple, 2 * multiple))),
        list(encoder.model.parameters()),
        allow_unused=True,
    )
    names = [name for name, _ in encoder.model.named_parameters(prefix="model")]
    dead = {name for name, gradient in zip(names, used, strict=True) if gradient is None}
    weights = {
        name: weight
        for name, weight in encoder.state_dict().items()
        if name.startswith(("levels", "model.encoder", "model.projections")) and name not in dead
    }
    return {
        "encoder.onnx": model_of_weights(weights),
        "sampler.onnx": model_of_weights(SamplerGraph(model).state_dict()),
    }


def write_bundle(path, graphs, model):
    """model: the network's configuration for the manifest."""
    with staged_bundle(path) as stage:
        for name, graph in graphs.items():
            (stage.path / name).write_bytes(
                graph if isinstance(graph, bytes) else graph.SerializeToString()
            )
        manifest = Manifest(
            name="tiny",
            variant="mixed",
            scale=4,
            size_multiple=2,
            latent_levels=(LatentLevel(level=3, channels=48),),
            default_tau=0.8,
            halo=0,
            conditioning_bytes_per_pixel=1,
            model=model,
            provenance={"licence": "CC0-1.0"},
        )
        stage.commit(manifest)
    return path


@pytest.fixture(scope="module")
def original():
    return random_srflow(tiny_config())


@pytest.fixture(scope="module")
def graphs(original):
    return graphs_of(original)


@pytest.fixture
def bundle(tmp_path, original, graphs):
    return write_bundle(tmp_path / "tiny.srflow", graphs, original.config.to_dict())


@pytest.mark.parametrize(("variant", "overrides"), CASES)
@torch.no_grad()
def test_images_latents_and_likelihoods_are_the_exported_networks(tmp_path, variant, overrides):
    model = random_srflow(tiny_config(variant, **overrides))
    with torch.enable_grad():
        graphs = graphs_of(model)
    network = trainable_network(
        Bundle.open(write_bundle(tmp_path / "tiny.srflow", graphs, model.config.to_dict()))
    )
    assert network.config == model.config
    multiple = model.config.size_multiple
    lr = torch.rand(1, 3, 2 * multiple, 3 * multiple)
    latents = {
        level: 0.8 * torch.randn(1, *shape)
        for level, shape in model.latent_shapes(*lr.shape[2:]).items()
    }
    expected = model.decode(lr, latents)
    torch.testing.assert_close(network.decode(lr, latents), expected, rtol=1e-4, atol=1e-4)
    hr = torch.rand_like(expected)
    latents_of_original, likelihood_of_original = model.encode(hr, lr)
    latents, likelihood = network.encode(hr, lr)
    torch.testing.assert_close(likelihood, likelihood_of_original, rtol=1e-5, atol=0.05)
    torch.testing.assert_close(latents, latents_of_original, rtol=1e-4, atol=1e-4)
    # the graphs do not have the head of the encoder's own image
    if overrides == {"image_base": "bicubic"}:
        bicubic = F.interpolate(lr, scale_factor=4, mode="bicubic", antialias=True)
        torch.testing.assert_close(network.encoder(lr), bicubic, rtol=0, atol=0)


@torch.no_grad()
def test_the_embedded_model_gives_its_own_picture_and_its_latents_back():
    """A bundle as the exporter wrote it, weights in half, through the public API."""
    network = trainable_network(Bundle.embedded())
    lr = torch.from_numpy(photo_patches(network.config.size_multiple)[0].lr[..., :24, :32].copy())
    latents = {level: 0.8 * noise for level, noise in runtime_noise(network, lr, seed=5).items()}
    sr = network.decode(lr, latents)
    smoothed = figures.smooth(sr)
    with Upscaler("x4-small", device="cpu", threads=1) as upscaler:
        picture = upscaler.upscale(
            np.ascontiguousarray(lr[0].permute(1, 2, 0).numpy()), tau=0.8, seed=5
        )
    # a graph's kernels are sums of taps, each rounded to half, and no single kernel has exactly all
    # of these sums
    np.testing.assert_allclose(smoothed[0].permute(1, 2, 0).numpy().clip(0, 1), picture, atol=1e-4)
    torch.testing.assert_close(network.encode(sr, lr)[0], latents, rtol=0, atol=1e-3)


def test_the_network_can_be_trained_and_its_actnorms_are_not_initialised_again(bundle):
    network = trainable_network(Bundle.open(bundle))
    hr, lr = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 4, 4)
    with pytest.raises(ArgumentError, match="initialised already"):
        network.initialize_actnorms(hr, lr)
    network(hr, lr).sum().backward()
    head = ("encoder.upconvs.1.", "encoder.conv_hr.", "encoder.conv_last.")
    silent = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert all(name.startswith(head) for name in silent)
    # else the head could never learn
    assert float(network.encoder.conv_hr.weight.detach().abs().min()) > 0


def test_the_same_network_comes_out_whatever_was_drawn_before(bundle):
    first = trainable_network(Bundle.open(bundle)).state_dict()
    torch.rand(1)
    torch.testing.assert_close(
        trainable_network(Bundle.open(bundle)).state_dict(), first, rtol=0, atol=0
    )


def test_the_command_writes_a_checkpoint_that_says_where_it_comes_from(tmp_path, bundle):
    target = tmp_path / "start.safetensors"
    result = run("--checkpoint-of", bundle, "-o", target)
    assert result.exit_code == 0, result.output
    assert f"--set schedule.start={target}" in result.output
    loaded = load_checkpoint(target)
    network = trainable_network(Bundle.open(bundle))
    assert isinstance(loaded, SRFlow)
    torch.testing.assert_close(loaded.state_dict(), network.state_dict(), rtol=0, atol=0)
    opened = Bundle.open(bundle)
    origin = {"name": "tiny", "sha256": opened.model_sha256, "provenance": {"licence": "CC0-1.0"}}
    kept = {"reduction": "bicubic", "removes_damage": False, "smoothed": False}
    kept |= {"default_tau": 0.8, "auto_tau": False}
    assert load_with_notes(target)[1] == {"bundle": origin, **kept}


def test_the_command_names_the_preset_of_the_embedded_model_and_writes_other_networks_settings(
    tmp_path, bundle
):
    result = run("--checkpoint-of", Bundle.embedded().path, "-o", tmp_path / "small.safetensors")
    assert "srflow-train --config x4-small" in result.output
    target = tmp_path / "start.safetensors"
    result = run("--checkpoint-of", bundle, "-o", target)
    settings = target.with_suffix(".yaml")
    assert f"srflow-train --config {settings} " in result.output
    assert load_settings(str(settings)).config() == trainable_network(Bundle.open(bundle)).config


@pytest.mark.parametrize("name", Bundle.embedded_names())
def test_an_embedded_models_preset_is_its_network(name):
    assert load_settings(name).config() == SRFlowConfig.from_dict(
        Bundle.embedded(name).manifest.model
    )


@pytest.mark.parametrize("exists", ["start.yaml", "start.safetensors"])
def test_files_that_exist_are_not_replaced_and_nothing_is_written(tmp_path, bundle, exists):
    (tmp_path / exists).write_bytes(b"hours of training")
    result = run("--checkpoint-of", bundle, "-o", tmp_path / "start.safetensors")
    assert result.exit_code == 1
    assert result.output.startswith(f"error: {tmp_path / exists} already exists")
    assert (tmp_path / exists).read_bytes() == b"hours of training"
    assert len(list(tmp_path.glob("start.*"))) == 1


def test_a_manifest_without_a_network_of_the_graphs_is_refused(tmp_path, original, graphs):
    config = original.config.to_dict()
    for model, reason in (
        ({}, "does not say what network"),
        ({**config, "blocks": 9}, r"encoder\.onnx.*it has no weight model"),
        ({**config, "colour": 1}, "unknown field 'colour'"),
        ({**config, "hidden": 4}, "it has no weight .* of shape"),
        ({**config, "steps": 3}, "it has no weight .* of shape"),
    ):
        with pytest.raises((ArgumentError, BundleError), match=reason):
            trainable_network(Bundle.open(write_bundle(tmp_path / "b.srflow", graphs, model)))
