"""A bundle of a real, tiny flow with random weights, which can be inverted; it does not pass the exporter's gate."""

from __future__ import annotations

from pathlib import Path

from srflow_export import graphs, onnx_models
from srflow_export._bundle_writer import staged_bundle
from srflow_sdk.manifest import Manifest
from tests.networks import random_srflow, tiny_config

HALO = 20


def write_flow_bundle(target: Path, *, variant: str = "bounded", scale: int = 4, inverter: bool = True) -> Path:
    model = random_srflow(tiny_config(variant, scale=scale))
    config = model.config
    protos = {"encoder.onnx": onnx_models.encoder_model(model), "sampler.onnx": onnx_models.sampler_model(model)}
    if inverter:
        protos["inverter.onnx"] = onnx_models.inverter_model(model)
    with staged_bundle(target) as stage:
        for name, proto in protos.items():
            (stage.path / name).write_bytes(onnx_models.finished(proto, {}))
        stage.commit(
            Manifest(
                name="flow",
                variant=variant,
                scale=scale,
                size_multiple=config.size_multiple,
                latent_levels=graphs.latent_levels(config),
                default_tau=0.8,
                halo=HALO,
                inverter_halo=HALO,
                conditioning_bytes_per_pixel=graphs.conditioning_bytes_per_pixel(config),
            )
        )
    return target
