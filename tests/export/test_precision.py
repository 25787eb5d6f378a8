"""Typed graphs: half where it may be, float32 where it must be, proved on photographs."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, shape_inference

from srflow_export.graphs import conditioning_bytes_per_pixel
from srflow_export.unfolding import trainable_network
from srflow_sdk import Bundle, Upscaler
from srflow_training import load_checkpoint, save_checkpoint
from tests.export.running import run, save_tiny
from tests.networks import random_srflow, tiny_config


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("precision")
    how = ("--precision", "fp16", "--halo", 16)
    result = run(save_tiny(folder / "tiny.safetensors"), *how, "--fused")
    assert result.exit_code == 0, result.output
    return Bundle.open(folder / "tiny.srflow")


def typed_nodes(path):
    """Operator and type of every node's first output."""
    graph = shape_inference.infer_shapes(onnx.load(path), strict_mode=True).graph
    types = {
        value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)
    }
    return [(node, types[node.output[0]]) for node in graph.node]


def element_types(values):
    return {value.name: value.type.tensor_type.elem_type for value in values}


def test_the_nets_are_half_and_the_flow_is_float32(bundle):
    nodes = typed_nodes(bundle.file("sampler.onnx"))
    weights = {
        weight.name: weight for weight in onnx.load(bundle.file("sampler.onnx")).graph.initializer
    }
    for node, kind in nodes:
        if node.op_type == "Conv":
            is_mixing = (
                list(weights[node.input[1]].dims[2:]) == [1, 1] and "mixing" in node.input[1]
            )
            assert kind == (TensorProto.FLOAT if is_mixing else TensorProto.FLOAT16), node.name
        elif node.op_type in ("Exp", "Tanh", "Sigmoid", "Reciprocal", "Div", "DepthToSpace", "Mul"):
            assert kind == TensorProto.FLOAT, node.name
    assert sum("mixing" in node.input[1] for node, _ in nodes if node.op_type == "Conv") == 6
    encoder = typed_nodes(bundle.file("encoder.onnx"))
    assert {kind for node, kind in encoder if node.op_type in ("Conv", "LeakyRelu", "Resize")} == {
        TensorProto.FLOAT16
    }
    assert {kind for node, kind in encoder if node.op_type in ("Exp", "Tanh")} == {
        TensorProto.FLOAT
    }


def test_what_goes_in_and_comes_out_is_float32_and_conditioning_is_half(bundle):
    fused = onnx.load(bundle.file("fused.onnx")).graph
    assert set(element_types((*fused.input, *fused.output)).values()) == {TensorProto.FLOAT}
    encoder, sampler = (
        onnx.load(bundle.file(name)).graph for name in ("encoder.onnx", "sampler.onnx")
    )
    conditioning = element_types(encoder.output)
    assert set(conditioning.values()) == {TensorProto.FLOAT16}
    assert element_types(sampler.input) == {
        **conditioning,
        **dict.fromkeys(["noise_level1", "noise_level2", "noise_level3", "tau"], TensorProto.FLOAT),
    }
    assert set(element_types((*encoder.input, *sampler.output)).values()) == {TensorProto.FLOAT}
    config = tiny_config()
    assert bundle.manifest.conditioning_bytes_per_pixel == conditioning_bytes_per_pixel(config) // 2


def test_the_manifest_shows_the_graphs_as_they_are_and_rounded(bundle):
    manifest = bundle.manifest
    graphs = ("encoder+sampler", "rounded as on GPUs", "fused", "float32 graphs")
    assert manifest.precision == "fp16"
    assert {row["graph"] for row in manifest.parity} == set(graphs)
    assert all(row["nonfinite"] == 0 for row in manifest.parity)
    assert all((row["psnr_db"] > 110) == (row["graph"] == graphs[3]) for row in manifest.parity)
    assert min(row["psnr_db"] for row in manifest.parity) > 50
    assert len(manifest.parity) == 4 * 4 * 4
    rounded, as_it_is = (
        [row["psnr_db"] for row in manifest.parity if row["graph"] == graph]
        for graph in (graphs[1], graphs[0])
    )
    assert np.mean(rounded) < np.mean(as_it_is)  # rounding was really done


def test_float32_graphs_stand_beside_and_give_the_network_back_unrounded(bundle):
    model = load_checkpoint(bundle.path.with_name("tiny.safetensors"))
    again = trainable_network(bundle)
    lr = torch.rand(1, 3, 8, 10)
    latents = {level: torch.randn(1, *shape) for level, shape in model.latent_shapes(8, 10).items()}
    with torch.no_grad():
        np.testing.assert_allclose(again.decode(lr, latents), model.decode(lr, latents), atol=1e-5)


def test_the_runtime_draws_the_same_picture_with_half_as_with_float32(bundle):
    image = np.random.default_rng(0).random((12, 14, 3), dtype=np.float32)
    model = load_checkpoint(bundle.path.with_name("tiny.safetensors"))
    with Upscaler(bundle, device="cpu") as upscaler:
        picture = upscaler.upscale(image, tau=0.0)
    with torch.no_grad():
        lr = torch.from_numpy(image.transpose(2, 0, 1)[None].copy())
        zeros = {
            level: torch.zeros(1, *shape) for level, shape in model.latent_shapes(12, 14).items()
        }
        expected = model.decode(lr, zeros)[0].numpy().transpose(1, 2, 0).clip(0, 1)
    assert 0 < np.abs(picture - expected).max() < 5e-3


def test_a_network_that_overflows_in_half_is_refused_with_the_way_out(tmp_path):
    """Its graph is flawless as ONNX Runtime computes it on a CPU; a GPU would give black
    regions."""
    model = random_srflow(tiny_config(levels=2, split_levels=(1,), steps=1))
    with torch.no_grad():
        net = model.levels[1].steps[0].coupling
        # between them × 3 million …
        for actnorm, gain in ((net.actnorm1, 5.0), (net.actnorm2, 10.0)):
            actnorm.logs += gain
            actnorm.bias += 1
        net.conv3.weight /= torch.exp(torch.tensor(15.0))  # … and back
    save_checkpoint(tmp_path / "wide.safetensors", model)
    how = ("--precision", "fp16", "--halo", 16)
    result = run(tmp_path / "wide.safetensors", *how, "--no-inverter")
    assert result.exit_code == 1
    *_, kept, error = result.output.splitlines()
    assert kept.startswith("to look into what was compared: polygraphy run ")
    assert error.startswith(
        "error: rounded as on GPUs: the checkpoint's network itself gives no finite picture"
    )
    assert error.endswith("--precision fp32")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wide.gate", "wide.safetensors"]
