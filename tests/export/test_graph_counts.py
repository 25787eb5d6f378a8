"""The operations that exported graphs make a runtime compute: a guard that does not depend on the
machine's speed."""

import pytest

from benchmarks.graph_counts import count
from srflow_export import onnx_models
from srflow_training import SRFlowConfig
from srflow_training.presets import load_settings
from tests.networks import random_srflow, tiny_config


def encoder_multiply_adds(config: SRFlowConfig) -> int:
    """By hand, for each LR pixel of a network with level features and nearest block outputs."""
    nf = config.nf
    growth = config.growth
    hidden = config.hidden
    steps = config.steps
    dense = sum(9 * (nf + i * growth) * (growth if i < 4 else nf) for i in range(5))
    total = 9 * 3 * nf + config.blocks * (3 * dense + nf) + 9 * nf * nf
    total += sum(9 * nf * nf * 4**exponent for exponent in range(1, config.scale.bit_length() - 1))
    stacked = nf * len(config.stacked_blocks)
    for shape in config.level_shapes:
        pixels = 4.0**shape.lr_exponent
        on_stacked = {1: 16, 2: 25}.get(
            shape.lr_exponent, 9 * pixels
        )  # taps of all kernels of a cell
        total += 2 * steps * hidden * (9 * nf * pixels + stacked * on_stacked)
        total += steps * (hidden**2 + 9 * hidden * 2 * shape.channels) * pixels
    return int(total)


def sampler_multiply_adds(config: SRFlowConfig) -> int:
    """Likewise, for one sample."""
    total = 0.0
    for shape in config.level_shapes:
        kept = shape.channels // 2
        step = (
            9 * kept * config.hidden
            + config.hidden**2
            + 9 * config.hidden * 2 * (shape.channels - kept)
        )
        total += config.steps * (step + shape.channels**2) * 4.0**shape.lr_exponent
        if 0 < shape.latent_channels < shape.channels:
            total += (
                9
                * (shape.channels - shape.latent_channels)
                * 2
                * shape.latent_channels
                * 4.0**shape.lr_exponent
            )
    return int(total)


@pytest.mark.parametrize(
    ("preset", "encoder", "both"),
    [
        pytest.param("x4-small", 500_000, 16 * 53_000, marks=pytest.mark.slow),
        ("x2-small", 4 * 53_000, 4 * 53_000),
    ],
)
def test_networks_with_a_plain_encoder_stay_within_their_budget(preset, encoder, both):
    """For each LR pixel; a sample costs 200,000 at most."""
    config = load_settings(preset).config()
    model = random_srflow(config)
    found = [
        count(export(model), scale=config.scale).multiply_adds
        for export in (onnx_models.encoder_model, onnx_models.sampler_model)
    ]
    assert found[0] <= encoder
    assert found[1] <= 200_000
    assert sum(found) <= both


@pytest.mark.parametrize(
    ("scale", "encoder_nodes", "sampler_nodes"),
    [(4, 221, 152), pytest.param(8, 400, 205, marks=pytest.mark.slow)],
)
def test_graphs_compute_no_more_than_they_must(scale, encoder_nodes, sampler_nodes):
    config = tiny_config(scale=scale)
    model = random_srflow(config)
    graphs = (onnx_models.encoder_model, onnx_models.sampler_model, onnx_models.inverter_model)
    encoder, sampler, inverter = (count(graph(model), scale=scale) for graph in graphs)
    assert encoder.multiply_adds == encoder_multiply_adds(config)
    assert sampler.multiply_adds == sampler_multiply_adds(config)
    assert encoder.nodes.total() <= encoder_nodes
    assert sampler.nodes.total() <= sampler_nodes
    assert inverter.multiply_adds == sampler_multiply_adds(config)  # the same steps the other way
    assert not (encoder.nodes | sampler.nodes | inverter.nodes)["Transpose"]
