"""Peak memory of srflow-upscale's work on a small and a large file.

    python -m benchmarks.memory [--megapixels 1 12] [--model BUNDLE] [--threads 2] [--restore]

Each photograph (a JPEG with that many megapixels, made of mirrored copies of
examples/photos/cat.png) is upscaled by Upscaler.upscale_file in a process of its own, after the
model was loaded and has upscaled 32×32 pixels. It prints the largest resident memory from then on,
less what was resident then. That should stay under 2 GB, and grow only by bands as wide as the
photograph: compare photographs with equal tile sizes, such as 0.9954 and 12 megapixels. Linux only.
The embedded model takes some twelve seconds per megapixel on two cores, and outputs go to the
temporary folder.

--restore restores the photograph instead, with Upscaler.restore_file(…, over="spatial"), as if it
had noise.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.bench.processes import ROOT, Worker, read_resident_bytes, serve

CAT = ROOT / "examples" / "photos" / "cat.png"


def write_photo(target: Path, megapixels: float) -> tuple[int, int]:
    """Write a 4:3 JPEG of mirrored copies of a photograph; return width and height."""
    width = round(math.sqrt(megapixels * 4e6 / 3))
    height = round(width * 3 / 4)
    with Image.open(CAT) as photo:
        pixels = np.asarray(photo.convert("RGB"))
    row = np.concatenate([pixels, pixels[:, ::-1]], axis=1)
    block = np.concatenate([row, row[::-1]])
    pixels = np.tile(block, (-(-height // block.shape[0]), -(-width // block.shape[1]), 1))
    Image.fromarray(pixels[:height, :width]).save(target, quality=92)
    return width, height


class Files:
    """A model that upscales or restores files."""

    disk_bytes = 0
    runs_on = "cpu"

    def __init__(self, variant: Mapping[str, Any]) -> None:
        from srflow_sdk import Upscaler

        upscaler = Upscaler(variant["model"], device="cpu", threads=variant["threads"])
        upscaler.upscale(Image.new("RGB", (32, 32), "gray"))
        # "auto" finds no damage, and copies
        restore = partial(upscaler.restore_file, over="spatial")
        self._draw = restore if variant["restore"] else upscaler.upscale_file

    def prepare(self, job: Mapping[str, Any]) -> Callable[[], object]:
        """Draw `source` into `target`; say what was resident before."""

        def work() -> dict[str, int]:
            before = read_resident_bytes("VmRSS")
            self._draw(job["source"], job["target"])
            return {"before": before}

        return work


def main() -> None:
    """Print a line for every size and the ratio of the last to the first."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1, 12])
    parser.add_argument("--model", default="x4-small")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--restore", action="store_true", help="restore the photographs instead")
    options = parser.parse_args()
    variant = {"model": options.model, "threads": options.threads, "restore": options.restore}
    peaks = []
    for megapixels in options.megapixels:
        with TemporaryDirectory() as folder, Worker(variant, module="benchmarks.memory") as worker:
            source = Path(folder) / "photo.jpg"
            width, height = write_photo(source, megapixels)
            measured = worker.run(
                limit_s=7200, source=str(source), target=str(Path(folder) / "large.png")
            )
        peaks.append((measured["peak_bytes"] - measured["before"]) / 1e9)
        print(
            f"{megapixels:g} megapixels, {width}×{height}: {peaks[-1]:.3f} GB beyond the loaded "
            f"model ({measured['before'] / 1e9:.3f} GB), {measured['seconds']:.0f} s",
            flush=True,
        )
    print(f"the last takes {peaks[-1] / peaks[0]:.2f} times the memory of the first")


if __name__ == "__main__":
    serve(Files, lambda _: None) if sys.argv[1:2] and sys.argv[1].startswith("{") else main()
