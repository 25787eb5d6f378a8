"""The inverter: the network's own latents and log-likelihood, from the same conditioning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from srflow_export import onnx_models
from srflow_export.graphs import EncoderGraph
from srflow_export.inversion import InverterGraph
from srflow_export.parity.gate import prove_inverse
from srflow_sdk import Bundle
from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.errors import ExportError
from tests.export.running import run_graph
from tests.networks import PLAIN, PLAIN_X2, random_srflow, tiny_config

CASES = [
    *(
        (variant, {"scale": scale})
        for variant in ("paper", "published", "bounded")
        for scale in (4, 8)
    ),
    ("bounded", PLAIN),
    ("bounded", {**PLAIN_X2, "last_kernel": 1}),
]


@pytest.mark.parametrize(("variant", "overrides"), CASES)
def test_in_float64_it_is_the_networks_encoding_to_rounding(
    variant: str, overrides: dict[str, Any]
) -> None:
    model = random_srflow(tiny_config(variant, **overrides)).double()
    scale = model.config.scale
    height = 2 * model.config.size_multiple
    width = 3 * model.config.size_multiple
    generator = torch.Generator().manual_seed(0)
    lr = torch.rand(2, 3, height, width, dtype=torch.float64, generator=generator)
    hr = torch.rand(2, 3, scale * height, scale * width, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        latents, nats = model.encode(hr, lr)
        *found, log_density = InverterGraph(model, torch.float64)(
            hr, *EncoderGraph(model, torch.float64)(lr)
        )
    assert log_density.shape == (2, 1, height, width)
    for (level, expected), latent in zip(sorted(latents.items()), found, strict=True):
        torch.testing.assert_close(latent, expected, atol=1e-11, rtol=1e-11, msg=f"level {level}")
    torch.testing.assert_close(log_density.sum(dim=(1, 2, 3)), nats, atol=1e-8, rtol=1e-12)


def test_the_samplers_weights_are_stored_once_and_change_the_inverters_bytes() -> None:
    graphs = []
    for seed in range(2):
        model = random_srflow(tiny_config(hidden=64), seed=seed)
        sampler, inverter = (
            onnx_models.serialise(proto, {})
            for proto in (onnx_models.sampler_model(model), onnx_models.inverter_model(model))
        )
        graphs.append(onnx_models.share_weights(inverter, "sampler.onnx", sampler))
        assert len(graphs[-1]) < len(inverter) / 2
        weights = (onnx.load_from_string(each).graph.initializer for each in (graphs[-1], inverter))
        for shared, weight in zip(*weights, strict=True):
            place = {entry.key: entry.value for entry in shared.external_data}
            offset = int(place.get("offset", 0))
            length = int(place.get("length", 0))
            assert weight.raw_data == (
                sampler[offset : offset + length] if place else shared.raw_data
            )
    assert graphs[0] != graphs[1]


def test_the_graph_takes_any_size_and_a_conditioning_of_one_image_for_many() -> None:
    model = random_srflow(tiny_config())
    encoder = onnx_models.encoder_model(model)
    inverter = onnx_models.inverter_model(model)
    lr, hr = torch.rand(1, 3, 6, 10), torch.rand(3, 3, 24, 40)
    names = [output.name for output in encoder.graph.output]
    conditioning = dict(zip(names, run_graph(encoder, lr=lr.numpy()), strict=True))
    *found, log_density = run_graph(inverter, hr=hr.numpy(), **conditioning)
    assert [output.name for output in inverter.graph.output] == [
        f"latent_level{level}" for level in (1, 2, 3)
    ] + ["log_density"]
    with torch.no_grad():
        latents, nats = model.encode(hr, lr.expand(3, -1, -1, -1))
    for (_, expected), latent in zip(sorted(latents.items()), found, strict=True):
        np.testing.assert_allclose(latent, expected.numpy(), atol=1e-4)
    np.testing.assert_allclose(log_density.sum((1, 2, 3)), nats.numpy(), rtol=1e-5)


def test_the_runtimes_inverter_gives_the_published_implementations_latents_and_nats(
    golden_bundle: Path,
) -> None:
    golden = np.load(Path(__file__).parents[1] / "golden" / "srflow_x4_small.npz")
    with OnnxRuntimeBackend(Bundle.open(golden_bundle), device="cpu") as backend:
        assert backend.can_invert
        latents, log_density = backend.invert(backend.encode(golden["lr"]), golden["hr"])
    for level, latent in latents.items():
        np.testing.assert_allclose(latent, golden[f"encoded_level{level}"], atol=1e-3)
    np.testing.assert_allclose(log_density.sum(), golden["log_likelihood"], rtol=1e-3)


def test_the_gate_refuses_an_inverter_of_another_network(golden_bundle: Path) -> None:
    bundle = Bundle.open(golden_bundle)
    other = random_srflow(tiny_config("published"))
    with pytest.raises(ExportError, match=r"on the photograph '.*', latents are"):
        prove_inverse(other, bundle)
