"""Encode once, sample many: the cost of further samples of one LR image, with a full-size published ×4 network.

    python benchmarks/encode_once.py [--checkpoint FILE] [--size 64] [--samples 8] [--runs 5] [--threads 2]

Without a checkpoint, it exports a network of the published shape (23 blocks, K = 16) with random weights, because the
time does not depend on the weights. Runs with one sample and with N samples alternate; it prints medians and their
ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from srflow_export.exporter import ExportOptions, export_checkpoint
from srflow_sdk import Upscaler
from srflow_training import SRFlow, SRFlowConfig, save_checkpoint
from srflow_training.model.layers import ZerosConv


def random_checkpoint(path: Path, *, scale: int) -> None:
    """A published-shape network with random weights whose decoding neither explodes nor vanishes."""
    torch.manual_seed(0)
    model = SRFlow(SRFlowConfig.of_variant("published", scale=scale))
    model.encoder.initialize()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ZerosConv):
                module.weight.normal_(std=0.2 / module.weight[0].numel() ** 0.5)
        for actnorm in model.actnorms():
            actnorm.logs.fill_(0.2)  # compensates the division by sigmoid(2) in every step
    save_checkpoint(path, model)


def seconds(upscaler: Upscaler, image: np.ndarray, samples: int) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    upscaler.encode(image).samples(samples)
    return time.perf_counter() - started


def main() -> None:
    """Export, warm up, time in pairs, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = arguments.checkpoint
        if checkpoint is None:
            checkpoint = Path(folder) / "random.safetensors"
            random_checkpoint(checkpoint, scale=4)
        bundle = Path(folder) / "model.srflow"
        export_checkpoint(checkpoint, bundle, ExportOptions(halo=16), say=print)
        image = np.random.default_rng(0).integers(0, 256, (arguments.size, arguments.size, 3), dtype=np.uint8)
        with Upscaler(bundle, device="cpu", tile=None, threads=arguments.threads) as upscaler:
            seconds(upscaler, image, 1)
            pairs = [
                (seconds(upscaler, image, 1), seconds(upscaler, image, arguments.samples))
                for _ in range(arguments.runs)
            ]
    one, many = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(many / one for one, many in pairs)
    further = (many - one) / (arguments.samples - 1)
    print(f"{arguments.size}×{arguments.size} LR, ×4, {arguments.threads} threads, median of {arguments.runs} pairs")
    print(f"1 sample {one:.2f} s, {arguments.samples} samples {many:.2f} s: ratio {ratio:.2f}")
    print(f"a further sample costs {further:.3f} s, 1/{one / further:.0f} of the first")


if __name__ == "__main__":
    main()
