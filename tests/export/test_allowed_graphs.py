"""The runtime's allow-list holds what this exporter writes, and nothing else."""

import math
from pathlib import Path

import pytest

from srflow_export import onnx_models
from srflow_export.graphs import latent_levels
from srflow_export.quantisation import int8_encoder
from srflow_sdk.model.graph_sizes import ALLOWED_OPS, cost_of
from srflow_sdk.model.graph_structure import ALLOWED_FUNCTIONS, MAX_NODES, read_graph
from tests.networks import PLAIN, PLAIN_X2, random_srflow, tiny_config

FORMER = {"Gather", "Identity", "Sigmoid", "Squeeze", "Transpose"}
VARIANTS = [{"variant": variant} for variant in ("published", "paper", "bounded")]
OTHERS = [
    {"variant": "published", "scale": 8, "unshuffle": 2},
    {"variant": "paper", "scale": 8, "image_base": "bicubic", "feature_resize": "bilinear"},
    {"variant": "bounded", "scale": 8, "unshuffle": 4, "split_clamp": None},
    {"scale": 16, "level_feature": False},
    PLAIN,
    {**PLAIN_X2, "condition_kernel": 3},
]


def read(folder: Path, proto):
    (folder / "graph.onnx").write_bytes(proto.SerializeToString())
    return read_graph(folder / "graph.onnx")


def model_of(number):
    return random_srflow(tiny_config(**[*VARIANTS, *OTHERS][number]))


def written(number, precision, *, inverter=True):
    """The graphs of a network: encoder, inverter, samplers and fused ones, with weights in float32 and half."""
    model = model_of(number)
    encoder = onnx_models.encoder_model(model, precision)
    yield encoder
    if inverter:
        yield onnx_models.inverter_model(model, precision)
    # native kernels take float32 and float16; their nodes are the same in the other networks
    for plugins in (False, True) if precision != "bf16" and number < len(VARIANTS) else (False,):
        sampler = onnx_models.sampler_model(model, precision, flow_nodes=plugins)
        yield sampler
        fused = onnx_models.joined(encoder, sampler)
        onnx_models.store_weights_in_half(fused)
        yield fused


@pytest.mark.slow
def test_every_graph_of_every_variant_and_precision_is_allowed_and_no_operator_more(tmp_path):
    """Lower precisions change every variant alike, and inverters hold nothing else in other networks.

    So each precision is tried with one variant here; the test below has the rest.
    """
    cases = [*((number, "fp32") for number in range(len(VARIANTS))), (0, "fp16"), (1, "bf16")]
    graphs = [graph for number, precision in cases for graph in written(number, precision)]
    for number in range(len(VARIANTS), len(VARIANTS) + len(OTHERS)):
        graphs += written(number, "fp32", inverter=False)
    graphs.append(int8_encoder(model_of(2)))
    used = {op for graph in graphs for op in read(tmp_path, graph).ops}  # reading them raises nothing
    functions = {function.name for graph in graphs for function in graph.functions}
    assert used == ALLOWED_OPS - FORMER
    assert functions == ALLOWED_FUNCTIONS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "precision"),
    [
        *((number, precision) for number in range(len(VARIANTS)) for precision in ("fp16", "bf16")),
        *((number, "fp32") for number in range(len(VARIANTS), len(VARIANTS) + len(OTHERS))),
    ],
)
def test_the_other_precisions_and_inverters_hold_no_operator_more(tmp_path, number, precision):
    used = {op for graph in written(number, precision) for op in read(tmp_path, graph).ops}
    assert used <= ALLOWED_OPS - FORMER


EVERY = [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, len(VARIANTS) + len(OTHERS)))]


@pytest.mark.parametrize("number", EVERY)
def test_every_graph_takes_far_less_than_is_allowed_and_gives_a_picture_of_its_scale(tmp_path, number):
    side = 96
    model = model_of(number)
    scale = model.config.scale
    encoder = read(tmp_path, onnx_models.encoder_model(model))
    cost = cost_of(encoder, {"lr": (1, 3, side, side)})
    given = sum(math.prod(shape) for shape in cost.shapes.values())
    assert cost.numbers < 20 * given
    for plugins in (False, True) if number < len(VARIANTS) else (False,):
        sampler = read(tmp_path, onnx_models.sampler_model(model, flow_nodes=plugins))
        inputs = {**cost.shapes, "tau": (1,)}
        for entry in latent_levels(model.config):
            inputs[f"noise_level{entry.level}"] = (1, entry.channels, *2 * (scale * side >> entry.level,))
        drawn = cost_of(sampler, inputs)
        assert drawn.shapes == {"sr": (1, 3, scale * side, scale * side)}
        assert drawn.numbers < 2 * sum(map(math.prod, inputs.values()))


@pytest.mark.slow
def test_a_full_size_graph_has_far_fewer_nodes_than_allowed(tmp_path):
    """The sampler's nodes grow with the steps, and a full-size network has 16 of them."""
    small, larger = (
        read(tmp_path, onnx_models.sampler_model(random_srflow(tiny_config(scale=16, steps=steps)))).ops.total()
        for steps in (1, 2)
    )
    assert 4 * (small + 15 * (larger - small)) < MAX_NODES
