"""Peak memory of one LR window on the CPU, in units of its conditioning: what `tile="auto"` reckons with.

    python benchmarks/tile_memory.py [--model BUNDLE] [--size 120 232] [--device cpu] [--precision bundle]
                                     [--invert] [--mixed]

For each size a fresh process draws 16×16 pixels, then encodes and samples windows of random pixels three times (with
--invert it encodes and inverts them), and prints the largest resident memory less what was resident before. --mixed
draws windows that are up to 48 pixels narrower and lower in between, as the tiles of a small picture are. Linux only.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from itertools import product
from pathlib import Path

import numpy as np

from srflow_sdk import Bundle
from srflow_sdk.backends import open_backend
from srflow_sdk.latents.random_field import window_noise

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.bench.processes import reset_peak, resident


def measure(options: argparse.Namespace, size: int) -> None:
    """Print the peak of windows of one size, in bytes and in units of their conditioning."""
    bundle = Bundle.embedded() if options.model is None else Bundle.open(options.model)
    manifest = bundle.manifest
    backend = open_backend(bundle, device=options.device, threads=options.threads, precision=options.precision)

    def draw(height: int, width: int) -> None:
        lr = np.random.default_rng(0).random((1, 3, height, width), dtype=np.float32)
        conditioning = backend.encode(lr)
        if options.invert:
            backend.invert(conditioning, lr.repeat(manifest.scale, 2).repeat(manifest.scale, 3))
            return
        drawn = window_noise(manifest.latent_levels, scale=manifest.scale, seed=0, sample=0, height=height, width=width)
        backend.sample(conditioning, {level: array[None] for level, array in drawn.items()}, 0.8)

    draw(16, 16)
    reset_peak()
    before = resident("VmRSS")
    sides = (24, 0, 48) if options.mixed else (0,)
    for _ in range(3):
        for lower, narrower in product(sides, sides):
            draw(size - lower, size - narrower)
    peak = resident("VmHWM") - before
    units = peak / size**2 / manifest.conditioning_bytes_per_pixel
    print(f"{size}×{size}: {peak / 1e6:.0f} MB, {units:.2f} times the conditioning", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--size", type=int, nargs="+", default=[120, 232])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="bundle")
    parser.add_argument("--invert", action="store_true", help="encode and invert instead of encoding and sampling")
    parser.add_argument("--mixed", action="store_true", help="windows of several sizes, the largest of --size")
    options = parser.parse_args()
    for size in options.size:
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(options, size))
        process.start()
        process.join()
