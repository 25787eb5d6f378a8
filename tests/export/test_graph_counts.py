"""The operations that exported graphs make a runtime compute: a guard that does not depend on the
machine's speed."""

import pytest

from benchmarks.graph_counts import count
from srflow_export import onnx_models
from srflow_training.presets import load_settings
from tests.networks import random_srflow, tiny_config


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
    ("scale", "encoder_most", "sampler_most"),
    [
        (4, (76_488, 221), (27_456, 152)),
        pytest.param(8, (216_904, 400), (130_016, 205), marks=pytest.mark.slow),
    ],
)
def test_graphs_compute_no_more_than_they_must(scale, encoder_most, sampler_most):
    """Multiply-adds for each LR pixel, as counted by hand from the layers' shapes, and nodes."""
    config = tiny_config(scale=scale)
    model = random_srflow(config)
    graphs = (onnx_models.encoder_model, onnx_models.sampler_model, onnx_models.inverter_model)
    encoder, sampler, inverter = (count(graph(model), scale=scale) for graph in graphs)
    for graph, (multiply_adds, nodes) in ((encoder, encoder_most), (sampler, sampler_most)):
        assert graph.multiply_adds == multiply_adds
        assert graph.nodes.total() <= nodes
    assert inverter.multiply_adds == sampler.multiply_adds  # the same steps the other way
    assert not (encoder.nodes | sampler.nodes | inverter.nodes)["Transpose"]
