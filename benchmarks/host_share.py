"""What a picture costs beside its network: latents, the joins of tiles with rounding to 8 bits, the two files.

    python benchmarks/host_share.py [--model BUNDLE ...] [--photo data/unseen/astronaut.png] [--crop 256] [--tile 160]
                                    [--runs 5]

Prints seconds of the processor's time, of all threads, on the CPU: medians of runs in which the models take turns.
Network and latents are timed on the picture's own windows; the joins are what `upscale` takes beside them, and the
files what `upscale_file`, from PNG to PNG, takes beside `upscale`. The network runs on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from srflow_sdk import Bundle, Upscaler
from srflow_sdk.backends import Backend, OnnxRuntimeBackend
from srflow_sdk.drawing.tiles import padded_size, plan_tiles
from srflow_sdk.latents.random_field import window_noise

TAU = 0.8


def shares(bundle: Bundle, backend: Backend, upscaler: Upscaler, photo: Path, *, tile: int) -> dict[str, float]:
    """Seconds of each part of one picture, an RGB file."""
    manifest = bundle.manifest
    picture = np.asarray(Image.open(photo))
    multiple = manifest.size_multiple
    sides = (padded_size(side, multiple) for side in picture.shape[:2])
    planned = plan_tiles(*sides, core=padded_size(tile, multiple), halo=manifest.halo, multiple=multiple)
    network = latents = 0.0
    for each in planned:
        window = each.window
        lr = np.random.default_rng(0).random((1, 3, window.height, window.width), dtype=np.float32)
        times = [time.process_time()]
        noise = window_noise(manifest.latent_levels, scale=manifest.scale, seed=0, sample=0, **vars(window))
        times.append(time.process_time())
        backend.sample(backend.encode(lr), {level: array[None] for level, array in noise.items()}, TAU)
        times.append(time.process_time())
        latents, network = latents + times[1] - times[0], network + times[2] - times[1]
    began = time.process_time()
    upscaler.upscale(picture, tau=TAU)
    array = time.process_time() - began
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        upscaler.upscale_file(photo, Path(folder) / "large.png", tau=TAU)
        file = time.process_time() - began
    return {"network": network, "latents": latents, "joins": array - network - latents, "files": file - array}


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["x4-small"], help="[default: x4-small]")
    parser.add_argument("--photo", type=Path, default=Path("data/unseen/astronaut.png"))
    parser.add_argument("--crop", type=int, default=256, help="side of its upper left square  [default: 256]")
    parser.add_argument("--tile", type=int, default=160, help="[default: 160]")
    parser.add_argument("--runs", type=int, default=5, help="[default: 5]")
    options = parser.parse_args()
    bundles = {name: Bundle.open(name) for name in options.model}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in bundles}
    with tempfile.TemporaryDirectory() as folder, Image.open(options.photo) as image:
        image.convert("RGB").crop((0, 0, options.crop, options.crop)).save(photo := Path(folder) / "photo.png")
        for run in range(options.runs + 1):
            for name, bundle in bundles.items():
                with (
                    OnnxRuntimeBackend(bundle, threads=1) as backend,
                    Upscaler(bundle, device="cpu", threads=1, tile=options.tile) as upscaler,
                ):
                    seconds = shares(bundle, backend, upscaler, photo, tile=options.tile)
                if run:  # the first of each is not counted
                    found[name].append(seconds)
    print(f"| {options.crop}², tiles of {options.tile} | network | latents | joins, rounding | reading, PNG |")
    print("|---|---|---|---|---|")
    for name, runs in found.items():
        parts = {part: statistics.median(run[part] for run in runs) for part in runs[0]}
        total = sum(parts.values())
        print(f"| {name} | {' | '.join(f'{part:.2f} s, {part / total:.1%}' for part in parts.values())} |")


if __name__ == "__main__":
    main()
