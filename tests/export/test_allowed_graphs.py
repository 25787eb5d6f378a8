"""The runtime's allow-list holds what this exporter writes, and nothing else."""

from pathlib import Path

from srflow_export import onnx_models
from srflow_export._quantisation import quantised_encoder
from srflow_sdk._graph_structure import ALLOWED_FUNCTIONS, ALLOWED_OPS, MAX_NODES, read_graph
from tests.networks import random_srflow, tiny_config

FORMER = {"Identity", "Squeeze", "Transpose"}
VARIANTS = [{"variant": variant} for variant in ("published", "paper", "bounded")]
OTHERS = [
    {"variant": "published", "scale": 8, "unshuffle": 2},
    {"variant": "paper", "scale": 8, "image_base": "bicubic", "feature_resize": "bilinear"},
    {"variant": "bounded", "scale": 8, "unshuffle": 4, "split_clamp": None},
    {"scale": 16, "level_feature": False},
]


def read(folder: Path, proto):
    (folder / "graph.onnx").write_bytes(proto.SerializeToString())
    return read_graph(folder / "graph.onnx")


def written(fields, precision):
    """The graphs of a network: encoder, inverter, samplers and fused ones, with weights in float32 and half."""
    model = random_srflow(tiny_config(**fields))
    encoder = onnx_models.encoder_model(model, precision)
    yield encoder
    yield onnx_models.inverter_model(model, precision)
    for plugins in (False, True) if precision != "bf16" else (False,):  # native kernels take float32 and float16
        sampler = onnx_models.sampler_model(model, precision, flow_nodes=plugins)
        yield sampler
        fused = onnx_models.joined(encoder, sampler)
        onnx_models.store_weights_in_half(fused)
        yield fused


def test_every_graph_of_every_variant_and_precision_is_allowed_and_no_operator_more(tmp_path):
    cases = [*((fields, precision) for fields in VARIANTS for precision in ("fp32", "fp16", "bf16"))]
    cases += [(fields, "fp32") for fields in OTHERS]
    graphs = [graph for fields, precision in cases for graph in written(fields, precision)]
    encoder = onnx_models.encoder_model(random_srflow(tiny_config()))
    graphs.append(quantised_encoder(encoder, size_multiple=2))
    used = {op for graph in graphs for op in read(tmp_path, graph).ops}  # reading them raises nothing
    functions = {function.name for graph in graphs for function in graph.functions}
    assert used == ALLOWED_OPS - FORMER
    assert functions == ALLOWED_FUNCTIONS


def test_a_full_size_graph_has_far_fewer_nodes_than_allowed(tmp_path):
    """The sampler's nodes grow with the steps, and a full-size network has 16 of them."""
    small, larger = (
        read(tmp_path, onnx_models.sampler_model(random_srflow(tiny_config(scale=16, steps=steps)))).ops.total()
        for steps in (1, 2)
    )
    assert 4 * (small + 15 * (larger - small)) < MAX_NODES
