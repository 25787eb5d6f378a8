"""Figures of a trained network for network_curve.py: size, time of a tile, likelihood, and distance to photographs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from srflow_evaluation import LevelTaus, crops_of, report
from srflow_export import ExportOptions, export_checkpoint
from srflow_sdk import Bundle
from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.latents.random_field import window_noise
from srflow_training import load_checkpoint
from srflow_training.figures import bits_per_dimension_loss
from srflow_training.model import SRFlow
from srflow_training.resampling import reduce_bicubic, round_to_8_bit

TAU_0, TAU = LevelTaus((0.0,)), LevelTaus((0.8,))


@torch.no_grad()
def negative_log_likelihood(model: SRFlow, crops: Path) -> float:
    """In bits per value in [0, 1] of the clean crops, their mean: the figure nll of validation."""
    bits = []
    for hr in crops_of(crops):
        _, nats = model.encode(hr, round_to_8_bit(reduce_bicubic(hr, model.config.scale)))
        bits.append(float(bits_per_dimension_loss(nats.double(), hr)))
    return statistics.mean(bits)


def tile_seconds(bundle: Bundle, runs: int = 9) -> dict[str, float]:
    """Processor time of a 64×64 LR tile, and its ratio to that of the embedded model, in alternating runs."""
    lr = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)

    def timed(call: Callable[[], Any]) -> tuple[float, Any]:
        started = time.process_time()
        result = call()
        return time.process_time() - started, result

    def tile(backend: OnnxRuntimeBackend, opened: Bundle) -> tuple[float, float]:
        manifest = opened.manifest
        noise = window_noise(manifest.latent_levels, scale=manifest.scale, seed=0, sample=0, height=64, width=64)
        encode, conditioning = timed(lambda: backend.encode(lr))
        latents = {level: array[None] for level, array in noise.items()}
        return encode, timed(lambda: backend.sample(conditioning, latents, 0.8))[0]

    embedded = Bundle.embedded()
    with OnnxRuntimeBackend(bundle, threads=1) as mine, OnnxRuntimeBackend(embedded, threads=1) as reference:
        pairs = [(tile(mine, bundle), tile(reference, embedded)) for _ in range(runs + 1)][1:]
    return {
        "encode_seconds": statistics.median(times[0] for times, _ in pairs),
        "sample_seconds": statistics.median(times[1] for times, _ in pairs),
        "tile_ratio": statistics.median(sum(times) / sum(embedded) for times, embedded in pairs),
    }


def measure(checkpoint: Path, encoder: Path, crops: Path, vgg16: Path | None) -> dict[str, Any]:
    """Figures of a flow's checkpoint, and of the RRDB that it started from; writes a bundle beside it.

    crops: folder of 256×256 photographs. Raises: ExportError.
    """
    target = checkpoint.with_suffix(".srflow")
    # the halo's own measurement takes long
    options = ExportOptions(weights="fp16", halo=12, name=checkpoint.parent.name)
    export_checkpoint(checkpoint, target, options)
    model = load_checkpoint(checkpoint)
    assert isinstance(model, SRFlow)
    rows = {row.method: row for row in report(str(checkpoint), crops, [TAU_0, TAU], vgg16=vgg16)}
    mean, sample = rows[f"tau {TAU_0}"], rows[f"tau {TAU}"]
    (_, pretrained) = report(str(encoder), crops, [])
    in_encoder = sum(parameter.numel() for parameter in model.encoder.parameters())
    return {
        "encoder_parameters": in_encoder,
        "flow_parameters": sum(parameter.numel() for parameter in model.parameters()) - in_encoder,
        **tile_seconds(Bundle.open(target)),
        "bundle_megabytes": sum(path.stat().st_size for path in target.iterdir()) / 1e6,
        "nll": negative_log_likelihood(model, crops),
        "encoder_y_psnr": pretrained.y_psnr,
        "bicubic_y_psnr": rows["bicubic"].y_psnr,
        "psnr": mean.psnr,
        "y_psnr": mean.y_psnr,
        **{name: getattr(sample, name) for name in ("gmsd", "haarpsi", "vgg16_feature_distance", "lr_psnr")},
        **{name: getattr(sample, name) for name in ("sample_difference", "colour_shift", "nonfinite")},
    }
