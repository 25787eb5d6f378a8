"""Many threads on one Upscaler: pictures, files, samples and cancelled calls at once give what each gives alone."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from srflow_sdk import CancelledError, Upscaler, read_image, write_image
from tests.faults.commands import leftovers
from tests.sdk.tiny_bundle import write_tiny_bundle

_THREADS = 200
_KINDS = ("array", "file", "samples", "cancelled")


def attack(folder: Path, count: int, seed: int) -> Iterator[tuple[str, str | None]]:
    """Make all calls at once."""
    chance = random.Random(seed)
    model = write_tiny_bundle(folder / "tiny.srflow")
    photos = [np.random.default_rng(n).integers(0, 256, (30 + 7 * n, 40, 3), dtype=np.uint8) for n in range(5)]
    for number, photo in enumerate(photos):
        write_image(folder / f"{number}.png", photo)
    plans = [(number, chance.choice(_KINDS), chance.randrange(5), chance.randrange(3)) for number in range(count)]
    with Upscaler(model, device="cpu", threads=1, tile=32) as upscaler:
        alone = {(n, seed): upscaler.upscale(photo, seed=seed) for n, photo in enumerate(photos) for seed in range(3)}

        def call(plan: tuple[int, str, int, int]) -> str | None:
            number, kind, photo, seed = plan
            cancel = threading.Event()
            try:
                if kind == "file":
                    target = folder / f"large-{number}.png"
                    upscaler.upscale_file(folder / f"{photo}.png", target, seed=seed)
                    pixels = read_image(target).pixels
                elif kind == "samples":
                    pixels = upscaler.encode(photos[photo]).samples(2, seed=seed)[0]
                else:
                    if kind == "cancelled":
                        cancel.set()
                    pixels = upscaler.upscale(photos[photo], seed=seed, cancel=cancel)
            except CancelledError:
                return None if kind == "cancelled" else "it was cancelled"
            except Exception as error:
                return f"{type(error).__name__}: {error}"
            return None if np.array_equal(pixels, alone[photo, seed]) else "another picture than alone"

        with ThreadPoolExecutor(_THREADS) as pool:
            yield from zip(map(str, plans), pool.map(call, plans), strict=True)
    yield "after all calls", leftovers(folder)
