"""Invert a large photograph and decode it again: time beside upscaling, memory, and what comes back.

    python benchmarks/inversion.py [--megapixels 12] [--model BUNDLE] [--threads 2]

The photograph (mirrored copies of --photo) is reduced, encoded, sampled once at tau 0.8, inverted, and decoded. Times
are of the processor, so that other work on the machine counts little. Memory is what the process holds at most beyond
the loaded model and the two pictures; the latents are in files beyond 256 MB. Linux only.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
from memory import CAT, resident, write_photo
from PIL import Image

from srflow_sdk import Upscaler

_T = TypeVar("_T")


def timed(what: str, call: Callable[[], _T], *, beside: float | None = None) -> tuple[_T, float]:
    """Run it, and print its time."""
    started = time.process_time()
    result = call()
    seconds = time.process_time() - started
    ratio = "" if beside is None else f", {seconds / beside:.2f} times one sample"
    print(f"{what}: {seconds:.1f} s{ratio}", flush=True)
    return result, seconds


def main() -> None:
    """Print a line for each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--model", default="x4-small")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--photo", type=Path, default=CAT)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        write_photo(options.photo, Path(folder) / "photo.jpg", options.megapixels)
        with Image.open(Path(folder) / "photo.jpg") as file:
            photo = np.asarray(file.convert("RGB"))
    with Upscaler(options.model, device="cpu", threads=options.threads) as upscaler:
        height, width = (side // upscaler.scale for side in photo.shape[:2])
        photo = photo[: height * upscaler.scale, : width * upscaler.scale]
        upscaler.encode(photo[:8, :8]).decode(
            upscaler.encode(photo[:8, :8]).invert(photo[:32, :32])
        )  # loads everything
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak: loading has its own
        before = resident("VmRSS")
        small = np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC))
        print(f"{photo.shape[1]}×{photo.shape[0]}, reduced to {small.shape[1]}×{small.shape[0]}")
        encoding = upscaler.encode(small, memory_budget=0)
        _, beside = timed("one sample", lambda: encoding.sample(tau=0.8))
        latents, _ = timed("inverting", lambda: encoding.invert(photo), beside=beside)
        decoded, _ = timed("decoding", lambda: encoding.decode(latents), beside=beside)
        peak = resident("VmHWM") - before - decoded.nbytes - small.nbytes
    difference = np.abs(decoded.astype(int) - photo)
    print(f"{latents}")
    print(f"at most {difference.max()}/255 from the photograph, {np.mean(difference > 0):.2%} of the values differ")
    print(f"{peak / 1e9:.2f} GB beyond the loaded model and the pictures")


if __name__ == "__main__":
    main()
