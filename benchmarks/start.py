"""Memory of several processes with one model: with graphs kept in the cache, and without. Linux only.

    python benchmarks/start.py [--model BUNDLE] [--processes 4]

Each process opens the model on the CPU, draws 32×32 pixels and stays. Its proportional set size (PSS) counts a page
that n processes share as 1/n. Without kept graphs every process loads the bundle's own.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PROGRAM = """
import sys
from PIL import Image
from srflow_sdk import Upscaler
with Upscaler(sys.argv[1], device="cpu", threads=1) as upscaler:
    upscaler.upscale(Image.linear_gradient("L").convert("RGB").resize((32, 32)))
    print(flush=True)
    sys.stdin.readline()
"""


def proportional_bytes(process: int) -> int:
    """The PSS of a process."""
    found = re.search(r"^Pss:\s*(\d+) kB", Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found.group(1)) << 10


def together(model: str, environment: dict[str, str], count: int) -> int:
    """The PSS of so many processes, once all have drawn."""
    command = [sys.executable, "-c", PROGRAM, model]
    running = []
    for _ in range(count):
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        running.append(process)
    total = sum(proportional_bytes(process.pid) for process in running)
    for process in running:
        process.communicate("\n")
    return total


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="x4-small", help="[default: %(default)s]")
    parser.add_argument("--processes", type=int, default=4, help="[default: %(default)s]")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        for how, cache in {"graphs kept": folder, "not kept": os.devnull}.items():
            total = together(options.model, os.environ | {"SRFLOW_CACHE_DIR": cache}, options.processes)
            print(f"{how}: {options.processes} processes: {total / 1e6:.0f} MB in all", flush=True)


if __name__ == "__main__":
    main()
