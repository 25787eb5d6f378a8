"""Start-up, and the memory of several processes with one model: with graphs kept in the cache, and without.

python benchmarks/start.py [--model BUNDLE] [--device cpu] [--precision bundle] [--size 64] [--processes 4] [--runs 5]

Prints medians of the wall time of fresh processes: `import srflow_sdk`, `srflow-upscale --help`, the first picture of
64×64 pixels (or --size) by the command and by a Python program. Then as many processes as asked for open
one each, draw 32×32 pixels and stay: their proportional set size (PSS) counts a page that n processes share as 1/n for
each. Without kept graphs every process loads the bundle's own. Linux only.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

PROGRAM = """
import sys, time
from srflow_sdk import Upscaler
started = time.perf_counter()
model, device, precision, photo, out = sys.argv[1:]
with Upscaler(model, device=device, precision=precision, threads=1) as upscaler:
    opened = time.perf_counter() - started
    upscaler.upscale(photo).save(out)
    print(opened, flush=True)
    sys.stdin.readline()
"""
EMBEDDED = "from srflow_sdk import Bundle; print(Bundle.embedded().path)"


def seconds(command: list[str], environment: dict[str, str], runs: int) -> float:
    """Median wall time of a command, after one that is not counted."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def proportional_bytes(process: int) -> int:
    """The PSS of a process."""
    found = re.search(r"^Pss:\s*(\d+) kB", Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found.group(1)) << 10


def together(command: list[str], environment: dict[str, str], count: int) -> tuple[list[float], int]:
    """How long each of several processes took to open the model, and the PSS of all of them."""
    running = []
    for _ in range(count):
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        running.append((process, float(process.stdout.readline())))
    total = sum(proportional_bytes(process.pid) for process, _ in running)
    for process, _ in running:
        process.communicate("\n")
    return [opened for _, opened in running], total


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="bundle")
    parser.add_argument("--size", type=int, default=64, help="LR pixels a side of the first picture")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        small, tiny, out = (str(Path(folder) / name) for name in ("small.png", "tiny.png", "out.png"))
        pixels = np.random.default_rng(0).integers(0, 256, (options.size, options.size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(small)
        Image.fromarray(pixels[:32, :32]).save(tiny)
        embedded = subprocess.run([sys.executable, "-c", EMBEDDED], check=True, capture_output=True, text=True)
        model = str(options.model or embedded.stdout.strip())
        upscale = [sys.executable, "-m", "srflow_sdk"]
        on = ["--device", options.device, "--precision", options.precision]
        program = [sys.executable, "-c", PROGRAM, model, options.device, options.precision]
        commands = {
            "python -c 'pass'": [sys.executable, "-c", "pass"],
            "import srflow_sdk": [sys.executable, "-c", "import srflow_sdk"],
            "srflow-upscale --help": [*upscale, "--help"],
            "first picture, srflow-upscale": [*upscale, small, "-o", out, "--model", model, *on],
            "first picture, program": [*program, small, out],
        }
        kept = os.environ | {"SRFLOW_CACHE_DIR": str(Path(folder) / "cache")}
        environments = {"graphs kept": kept, "not kept": os.environ | {"SRFLOW_CACHE_DIR": os.devnull}}
        for how, environment in environments.items():
            for name, command in commands.items():
                if how == "graphs kept" or name.startswith("first"):
                    print(f"{how}: {name}: {seconds(command, environment, options.runs):.3f} s", flush=True)
        for how, environment in environments.items():
            opened, total = together([*program, tiny, out], environment, options.processes)
            print(
                f"{how}: {options.processes} processes: {total / 1e6:.0f} MB in all, "
                f"opened in {statistics.median(opened):.3f} s (median)",
                flush=True,
            )


if __name__ == "__main__":
    main()
