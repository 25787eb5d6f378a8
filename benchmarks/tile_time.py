"""Time of LR windows by size and batch, or of whole pictures by the size of their tiles: what `tile="auto"` goes by.

    python benchmarks/tile_time.py [--model BUNDLE] [--size 48 64 120 232 ...] [--batch 1 2 4] [--runs 5] [--threads 2]
                                   [--precision bundle] [--device cpu] [--cpu-time]
    python benchmarks/tile_time.py --tile 96 128 208 [--picture 600x400] [--runs 3] …

The first prints microseconds for each LR pixel of windows, the medians of runs in which all sizes take turns: encoding,
drawing the noise, sampling. A batch is of windows of one size, as of neighbouring tiles. The second prints the same for
each pixel of a picture that is upscaled in tiles, and the share of the work that is halo: pixels of windows beyond
those of the picture; with --runs 0 only that. --cpu-time counts the processor's time of all threads instead of
the clock's: that varies less on a busy machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from srflow_sdk import Bundle, Upscaler
from srflow_sdk.backends import Backend, open_backend
from srflow_sdk.drawing.tiles import padded_size, plan_tiles
from srflow_sdk.latents.random_field import window_noise


def window_seconds(
    backend: Backend, bundle: Bundle, size: int, batch: int, *, clock: Callable[[], float]
) -> tuple[float, float, float]:
    """Time of encoding, noise and sampling of a batch of square windows."""
    manifest = bundle.manifest
    lr = np.random.default_rng(0).random((batch, 3, size, size), dtype=np.float32)
    began = clock()
    conditioning = backend.encode(lr)
    encoded = clock()
    drawn = [
        window_noise(
            manifest.latent_levels, scale=manifest.scale, seed=0, sample=0, top=size * i, height=size, width=size
        )
        for i in range(batch)
    ]
    noise = {level: np.stack([each[level] for each in drawn]) for level in drawn[0]}
    drew = clock()
    backend.sample(conditioning, noise, 0.8)
    return encoded - began, drew - encoded, clock() - drew


def time_windows(bundle: Bundle, options: argparse.Namespace) -> None:
    """Print a line for every size and batch."""
    cases = [(size, batch) for size in options.size for batch in options.batch]
    times: dict[tuple[int, int], list[tuple[float, float, float]]] = {case: [] for case in cases}
    with opened(bundle, options) as backend:
        for run in range(options.runs + 1):
            for case in cases:
                found = window_seconds(backend, bundle, *case, clock=_clock(options))
                if run:  # the first of each is not counted
                    times[case].append(found)
    for (size, batch), found in times.items():
        pixels = size * size * batch
        encode, noise, sample = (statistics.median(each) / pixels * 1e6 for each in zip(*found, strict=True))
        total = encode + noise + sample
        print(
            f"{size}×{size}, batch {batch}: {total:.1f} µs for each window pixel: encode {encode:.1f}, "
            f"noise {noise:.2f} ({noise / total:.1%}), sample {sample:.1f}"
        )


def _clock(options: argparse.Namespace) -> Callable[[], float]:
    return time.process_time if options.cpu_time else time.perf_counter


def opened(bundle: Bundle, options: argparse.Namespace) -> Backend:
    """The backend to time; the caller closes it."""
    backend = open_backend(bundle, device=options.device, threads=options.threads, precision=options.precision)
    backend.deactivate()  # it is entered as a context manager
    return backend


def time_pictures(bundle: Bundle, options: argparse.Namespace) -> None:
    """Print a line for every size of tiles."""
    width, height = map(int, options.picture.split("x"))
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    manifest = bundle.manifest
    multiple = manifest.size_multiple
    upscalers = {
        tile: Upscaler(bundle, device=options.device, threads=options.threads, precision=options.precision, tile=tile)
        for tile in options.tile
    }
    times: dict[int, list[float]] = {tile: [] for tile in options.tile}
    for _ in range(options.runs):
        for tile, upscaler in upscalers.items():
            began = _clock(options)()
            upscaler.upscale(picture, tau=0.7)
            times[tile].append(_clock(options)() - began)
    for tile, found in times.items():
        planned = plan_tiles(
            *(padded_size(side, multiple) for side in (height, width)),
            core=padded_size(tile, multiple),
            halo=manifest.halo,
            multiple=multiple,
        )
        share = sum(each.window.height * each.window.width for each in planned) / (height * width) - 1
        took = f", {statistics.median(found) / (height * width) * 1e6:.1f} µs for each picture pixel" if found else ""
        print(f"{width}×{height}, tile {tile}: {share:.0%} halo{took}")


def main() -> None:
    """Print one of the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--size", type=int, nargs="+", default=[48, 64, 96, 120, 152, 184, 232])
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--tile", type=int, nargs="+", help="time whole pictures in tiles of these sizes instead")
    parser.add_argument("--picture", default="600x400", help="width × height  [600x400]")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="bundle")
    parser.add_argument("--cpu-time", action="store_true")
    options = parser.parse_args()
    bundle = Bundle.embedded() if options.model is None else Bundle.open(options.model)
    (time_pictures if options.tile else time_windows)(bundle, options)


if __name__ == "__main__":
    main()
