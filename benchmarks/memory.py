"""Peak memory of srflow-upscale's work on a file, beyond the loaded model, for a small photograph and a large one.

    python benchmarks/memory.py [--megapixels 1 12] [--model BUNDLE] [--format png] [--threads 2] [--samples 0]
                                [--scale 2] [--restore]

Each photograph (a JPEG with that many megapixels, made of mirrored copies of --photo) is upscaled by
Upscaler.upscale_file in a separate process, after the model was loaded and has upscaled 32×32 pixels. It prints the
largest resident memory from then on, less what was resident then. That should stay under 2 GB, and grow only by bands
as wide as the photograph: compare photographs with equal tile sizes, such as 0.9954 and 12 megapixels. Linux only. The
embedded model takes a quarter of a minute per megapixel on two cores, and outputs go to the temporary folder.

--samples 8 draws that many pictures in memory instead, with Upscaler.encode(…).samples(8), and does not count the
pictures. What remains is the conditioning that an Encoding keeps, at most 1 GiB, and a tile. --scale 2 writes a smaller
file instead of one of the model's scale. --restore restores the photograph instead, with Upscaler.restore_file.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

CAT = Path(__file__).resolve().parent.parent / "examples" / "photos" / "cat.png"


def write_photo(source: Path, target: Path, megapixels: float) -> None:
    """Write a 4:3 JPEG of mirrored copies of a photograph, which is as sharp as the photograph at any size."""
    width = round(math.sqrt(megapixels * 4e6 / 3))
    height = round(width * 3 / 4)
    with Image.open(source) as photo:
        pixels = np.asarray(photo.convert("RGB"))
    row = np.concatenate([pixels, pixels[:, ::-1]], axis=1)
    block = np.concatenate([row, row[::-1]])
    pixels = np.tile(block, (-(-height // block.shape[0]), -(-width // block.shape[1]), 1))
    Image.fromarray(pixels[:height, :width]).save(target, quality=92)


def resident(field: str) -> int:
    """Bytes from a line of /proc/self/status: VmRSS is resident now, VmHWM the maximum so far."""
    found = re.search(rf"^{field}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit("error: this system does not report how much memory a process uses; run it on Linux")
    return int(found.group(1)) << 10


def measure(
    source: Path, target: Path, model: str, *, threads: int, samples: int, scale: float | None, restore: bool
) -> dict[str, Any]:
    """Upscale or restore one file, or draw samples of it, and return what it took."""
    from srflow_sdk import Upscaler

    with Upscaler(model, device="cpu", threads=threads) as upscaler:
        upscaler.upscale(Image.new("RGB", (32, 32), "gray"))
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM: loading has its own peak
        model_bytes, started = resident("VmRSS"), time.perf_counter()
        pictures = 0
        if samples:
            with Image.open(source) as photo:
                pictures = samples * photo.width * photo.height * 3 * upscaler.scale**2
                upscaler.encode(photo).samples(samples)
        elif restore:
            upscaler.restore_file(source, target)
        else:
            upscaler.upscale_file(source, target, scale=scale)
        seconds = time.perf_counter() - started
        return {"model": model_bytes, "beyond": resident("VmHWM") - model_bytes - pictures, "seconds": seconds}


def main() -> None:
    """Print a line for every size and the ratio of the last to the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1, 12])
    parser.add_argument("--model", default="x4-small")
    parser.add_argument("--format", default="png", help="format of the output: png, jpg, tif, …")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--photo", type=Path, default=CAT)
    parser.add_argument("--samples", type=int, default=0, help="draw this many samples in memory instead of a file")
    parser.add_argument("--scale", type=float, help="of the file  [the model's]")
    parser.add_argument("--restore", action="store_true", help="restore the photographs instead")
    parser.add_argument("--measure", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.samples and options.scale is not None:
        parser.error("--samples draws pictures of the model's scale; leave out --scale")
    if options.measure is not None:
        chosen = {
            "threads": options.threads,
            "samples": options.samples,
            "scale": options.scale,
            "restore": options.restore,
        }
        print(json.dumps(measure(*options.measure, options.model, **chosen)))
        return
    peaks = []
    for megapixels in options.megapixels:
        with TemporaryDirectory() as folder:
            source, target = Path(folder) / "photo.jpg", Path(folder) / f"large.{options.format}"
            write_photo(options.photo, source, megapixels)
            command = [sys.executable, __file__, "--threads", str(options.threads), "--samples", str(options.samples)]
            command += ["--model", options.model]
            command += [] if options.scale is None else ["--scale", str(options.scale)]
            command += ["--restore"] if options.restore else []
            command += ["--measure", str(source), str(target)]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
            with Image.open(source) as small:
                what = f"{options.samples} pictures" if options.samples else options.format
                sizes = f"{small.width}×{small.height} to {what}"
        peaks.append(found["beyond"])
        print(
            f"{megapixels:g} megapixels, {sizes}: {found['beyond'] / 1e9:.3f} GB beyond the loaded model "
            f"({found['model'] / 1e9:.3f} GB), {found['seconds']:.0f} s",
            flush=True,
        )
    print(f"the last takes {peaks[-1] / peaks[0]:.2f} times the memory of the first")


if __name__ == "__main__":
    main()
