"""Throughput of a folder against the number of workers: simulated, from times that are measured here.

python benchmarks/scaling.py [--pictures 2000] [--megapixels 1] [--tile 128] [--threads 1] [--start 10]

Measured: how long a worker takes to open the model, for a tile, and for a file beyond its tiles (decoding, encoding),
with the embedded model, in CPU seconds for each thread, so that a busy machine gives the same. Simulated: pictures with
log-normal sizes, so many megapixels on average, are shared out by name, as --shard does, or one after the other to
whoever is free, as --ray does. A worker's start-up is added. Every worker is as fast as one is alone here: storage and
network are taken as endless, which they are not.
"""

from __future__ import annotations

import argparse
import heapq
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from srflow_sdk import Upscaler

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TINY = 16  # pixels of the side of the picture that shows what a file costs
ROWS = 3  # of tiles, and columns, of the one that shows what a tile costs
SPREAD = 0.6  # standard deviation of the logarithm of pictures' sizes: one of twenty has three times the median
RUNS = 3


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds: to open the model, for a tile in a large picture, and for a file beyond its tiles."""

    opening: float
    tile: float
    file: float


def measure(*, tile: int, threads: int) -> Costs:
    """Time one worker on this machine, on a tiny picture and on one of nine tiles."""
    begun = time.process_time()
    upscaler = Upscaler("x4-small", device="cpu", tile=tile, threads=threads)
    opening = (time.process_time() - begun) / threads
    with upscaler, tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "lr.png", Path(folder) / "sr.png"
        seconds = {}
        for side in (TINY, ROWS * tile):
            pixels = np.random.default_rng(0).integers(90, 160, (side // 8, side // 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(source)
            times = []
            for _ in range(RUNS + 1):  # the first one warms up
                begun = time.process_time()
                upscaler.upscale_file(source, target)
                times.append((time.process_time() - begun) / threads)
            seconds[side] = statistics.median(times[1:])
    each = seconds[ROWS * tile] / ROWS**2
    return Costs(opening=opening, tile=each, file=max(seconds[TINY] - each * TINY**2 / tile**2, 0.0))


def by_name(seconds: Sequence[float], workers: int, random: np.random.Generator) -> float:
    """When the last worker ends, if each gets the pictures that a hash of their names gives it."""
    return float(np.bincount(random.integers(0, workers, len(seconds)), weights=seconds, minlength=workers).max())


def to_the_next(seconds: Sequence[float], workers: int) -> float:
    """When the last worker ends, if each takes the next picture when it is free."""
    free = [0.0] * workers
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def main() -> None:
    """Measure, simulate, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--megapixels", type=float, default=1.0, help="of a picture, on average")
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1, help="of a worker")
    parser.add_argument("--start", type=float, default=10.0, help="seconds until a worker's process runs")
    options = parser.parse_args()
    costs = measure(tile=options.tile, threads=options.threads)
    random = np.random.default_rng(0)
    megapixels = options.megapixels * random.lognormal(-(SPREAD**2) / 2, SPREAD, options.pictures)
    tiles = np.maximum(megapixels * 1e6 / options.tile**2, 1.0)
    seconds = list(costs.file + costs.tile * tiles)
    start = options.start + costs.opening
    print(
        f"measured: opening {costs.opening:.2f} s, a tile of {options.tile}×{options.tile} {costs.tile:.3f} s, a file "
        f"{costs.file:.3f} s, {options.threads} thread(s)"
    )
    print(f"simulated: {options.pictures} pictures, {sum(megapixels):.0f} megapixels, start-up {start:.1f} s")
    print("| workers | --shard, hours | busy | --ray, hours | busy | pictures in an hour |")
    print("|---|---|---|---|---|---|")
    for workers in WORKERS:
        shard, ray = start + by_name(seconds, workers, random), start + to_the_next(seconds, workers)
        work = sum(seconds) / workers
        print(
            f"| {workers} | {shard / 3600:.2f} | {work / shard:.0%} | {ray / 3600:.2f} | {work / ray:.0%} "
            f"| {options.pictures / ray * 3600:.0f} |"
        )


if __name__ == "__main__":
    main()
