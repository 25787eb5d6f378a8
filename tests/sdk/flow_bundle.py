"""A bundle of a real, tiny flow with random weights, which can be inverted; it does not pass the
exporter's gate."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from srflow_export import graphs, onnx_models
from srflow_export.bundle_writer import staged_bundle
from srflow_sdk.model.manifest import Manifest
from tests.networks import random_srflow, tiny_config

HALO = 20


@functools.cache  # to trace a network takes seconds
def _graph(name: str, variant: str, scale: int) -> bytes:
    """What a graph's file holds."""
    export = {
        "encoder.onnx": onnx_models.encoder_model,
        "sampler.onnx": onnx_models.sampler_model,
        "inverter.onnx": onnx_models.inverter_model,
    }[name]
    return onnx_models.serialise(export(random_srflow(tiny_config(variant, scale=scale))), {})


def write_flow_bundle(
    target: Path,
    *,
    variant: str = "bounded",
    scale: int = 4,
    inverter: bool = True,
    name: str = "flow",
    default_tau: float = 0.8,
    **manifest: Any,
) -> Path:
    config = tiny_config(variant, scale=scale)
    names = ("encoder.onnx", "sampler.onnx", *(("inverter.onnx",) if inverter else ()))
    with staged_bundle(target) as stage:
        for file in names:
            (stage.path / file).write_bytes(_graph(file, variant, scale))
        stage.commit(
            Manifest(
                name=name,
                variant=variant,
                scale=scale,
                size_multiple=config.size_multiple,
                latent_levels=graphs.latent_levels(config),
                default_tau=default_tau,
                halo=HALO,
                inverter_halo=HALO,
                conditioning_bytes_per_pixel=graphs.conditioning_bytes_per_pixel(config),
                **manifest,
            )
        )
    return target
