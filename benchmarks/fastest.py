"""The first starts with `--precision fastest`, when nothing has been measured yet: how long, and the peak of memory.

python benchmarks/fastest.py [--model BUNDLE]

Upscales 32×32 pixels with srflow-upscale and an empty cache folder, again and again, until a start measures nothing
more. Prints a line for each start: wall time, the largest resident memory of its process, and what it measured. Not on
Windows.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image


def start(command: list[str], environment: dict[str, str], log: Path) -> tuple[float, int, str]:
    """Seconds, peak bytes and the line of what was measured, which may be empty, of one process."""
    began = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    lines = log.read_text(encoding="utf-8").splitlines()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"error: srflow-upscale ended with {process.returncode}: {lines[-1] if lines else ''}")
    unit = 1 if sys.platform == "darwin" else 1024
    return took, usage.ru_maxrss * unit, next((line for line in lines if line.startswith("measured in")), "")


def main() -> None:
    """Print a line for every start."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="x4-small")
    model = parser.parse_args().model
    with TemporaryDirectory() as folder:
        picture, out, log = (Path(folder) / name for name in ("tiny.png", "out.png", "log"))
        Image.effect_noise((32, 32), 60).convert("RGB").save(picture)
        command = [sys.executable, "-m", "srflow_sdk", str(picture), "-o", str(out), "--model", model]
        command += ["--precision", "fastest"]
        environment = os.environ | {"SRFLOW_CACHE_DIR": str(Path(folder) / "cache")}
        number, said = 0, " "
        while said:
            number += 1
            took, peak, said = start(command, environment, log)
            print(f"start {number}: {took:.1f} s, peak {peak / 1e9:.2f} GB; {said or 'nothing to measure'}", flush=True)
            out.unlink()


if __name__ == "__main__":
    main()
