"""Is a batch of pictures faster than one after another, and does it give the same bits?

    python benchmarks/together.py --device cpu --side 64 --batches 4 8
    python benchmarks/together.py --device cpu --side 64 --many 16

Prints for each batch size whether every picture equals the one drawn alone, and how many times as fast it was: medians
of paired runs, by the clock and by the CPU time of all threads. Beside other programs, only CPU time tells. With
`--many`, it is upscale_many of so many pictures beside a loop of upscale.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from srflow_sdk import Bundle, Upscaler
from srflow_sdk.backends import open_backend
from srflow_sdk.latents.random_field import window_noise


def timed(work: Callable[[int], object], size: int) -> np.ndarray:
    begun = time.perf_counter(), time.process_time()
    work(size)
    return np.array([time.perf_counter() - begun[0], time.process_time() - begun[1]])


def many(asked: argparse.Namespace) -> None:
    stack = np.random.default_rng(0).random((asked.many, asked.side, asked.side, 3), dtype=np.float32)
    with Upscaler(asked.model, device=asked.device, precision=asked.precision) as upscaler:

        def alone(_: int) -> list[np.ndarray]:
            return [upscaler.upscale(picture) for picture in stack]

        equal = np.array_equal(alone(0), upscaler.upscale_many(stack))
        gains = [timed(alone, 0) / timed(lambda _: upscaler.upscale_many(stack), 0) for _ in range(asked.rounds)]
    clock, cpu = np.median(gains, axis=0)
    bits, what = "equal" if equal else "other bits", f"upscale_many of {asked.many} of {asked.side}×{asked.side}"
    print(f"{asked.device} {what}: {bits}, {clock:.2f} by the clock, {cpu:.2f} in CPU time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="x4-small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="bundle")
    parser.add_argument("--side", type=int, default=64, help="of the pictures, in pixels")
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", type=int, help="compare upscale_many of so many pictures with a loop")
    asked = parser.parse_args()
    if asked.many:
        many(asked)
        return

    bundle = Bundle.open(asked.model)
    manifest, side, count = bundle.manifest, asked.side, max(asked.batches)
    backend = open_backend(bundle, device=asked.device, precision=asked.precision)
    pictures = np.random.default_rng(0).random((count, 3, side, side), dtype=np.float32)
    noise = window_noise(
        manifest.latent_levels, scale=manifest.scale, seed=0, sample=0, top=0, left=0, height=side, width=side
    )

    def drawn(size: int) -> np.ndarray:
        batch = {level: np.repeat(array[None], size, axis=0) for level, array in noise.items()}
        parts = (pictures[start : start + size] for start in range(0, count, size))
        return np.concatenate([backend.sample(backend.encode(part), batch, manifest.default_tau) for part in parts])

    alone = drawn(1)
    for size in asked.batches:
        equal = np.array_equal(drawn(size), alone)
        gains = [timed(drawn, 1) / timed(drawn, size) for _ in range(asked.rounds)]
        clock, cpu = np.median(gains, axis=0)
        bits = "equal" if equal else "other bits"
        print(f"{asked.device} {side}×{side} by {size}: {bits}, {clock:.2f} by the clock, {cpu:.2f} in CPU time")
    backend.deactivate()


if __name__ == "__main__":
    main()
