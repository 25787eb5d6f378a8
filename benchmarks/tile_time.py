"""Time of one LR tile with a bundle: the encoder, and each sample.

python benchmarks/tile_time.py [--model BUNDLE] [--size 64] [--runs 15] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from srflow_sdk import Bundle
from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.latents import window_noise


def median_seconds(call: Callable[[], object], runs: int) -> float:
    """Median wall time of a call; the first one is not counted."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def main() -> None:
    """Time encode, noise and sample."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    bundle = Bundle.embedded() if arguments.model is None else Bundle.open(arguments.model)
    manifest = bundle.manifest
    size = arguments.size
    lr = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)

    def noise() -> dict[int, np.ndarray]:
        drawn = window_noise(manifest.latent_levels, scale=manifest.scale, seed=0, sample=0, height=size, width=size)
        return {level: array[None] for level, array in drawn.items()}

    with OnnxRuntimeBackend(bundle, threads=arguments.threads) as backend:
        conditioning, latents = backend.encode(lr), noise()
        encode = median_seconds(lambda: backend.encode(lr), arguments.runs)
        draw = median_seconds(noise, arguments.runs)
        sample = median_seconds(lambda: backend.sample(conditioning, latents, 0.8), arguments.runs)
    print(f"{manifest.name}, {size}×{size} LR, {arguments.threads} threads, median of {arguments.runs}")
    print(f"encode {encode:.3f} s, noise {draw:.3f} s, sample {sample:.3f} s: one tile {encode + draw + sample:.3f} s")


if __name__ == "__main__":
    main()
