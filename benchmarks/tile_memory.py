"""Peak memory of one LR window on the CPU, in units of its conditioning: what `tile="auto"` reckons with.

    python benchmarks/tile_memory.py [--model BUNDLE] [--size 120 232] [--runs 3] [--device cpu] [--precision bundle]
                                     [--invert] [--mixed]

For each size it takes a fresh process that has drawn 16×16 pixels, encodes and samples windows of random pixels (with
--invert it encodes and inverts them), and prints the largest resident memory less what was resident before. --mixed
draws windows that are up to 48 pixels narrower and lower in between, as the tiles of a small picture are. Linux only.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np


def resident(field: str) -> int:
    """Bytes from a line of /proc/self/status: VmRSS is resident now, VmHWM the maximum so far."""
    found = re.search(rf"^{field}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit("error: this system does not report how much memory a process uses; run it on Linux")
    return int(found.group(1)) << 10


def measure(options: argparse.Namespace, size: int) -> dict[str, float]:
    """The peak of windows of one size, in bytes and in units of their conditioning."""
    from srflow_sdk import Bundle
    from srflow_sdk.backends import open_backend
    from srflow_sdk.latents.random_field import window_noise

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
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = resident("VmRSS")
    sides = (24, 0, 48) if options.mixed else (0,)
    for _ in range(options.runs):
        for lower, narrower in product(sides, sides):
            draw(size - lower, size - narrower)
    peak = resident("VmHWM") - before
    return {"bytes": peak, "units": peak / size**2 / manifest.conditioning_bytes_per_pixel}


def main() -> None:
    """Print a line for every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--size", type=int, nargs="+", default=[120, 232])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="bundle")
    parser.add_argument("--invert", action="store_true", help="encode and invert instead of encoding and sampling")
    parser.add_argument("--mixed", action="store_true", help="windows of several sizes, the largest of --size")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options, options.measure)))
        return
    for size in options.size:
        command = [sys.executable, __file__, *sys.argv[1:], "--measure", str(size)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
        print(f"{size}×{size}: {found['bytes'] / 1e6:.0f} MB, {found['units']:.2f} times the conditioning", flush=True)


if __name__ == "__main__":
    main()
