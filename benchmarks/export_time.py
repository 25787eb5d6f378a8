"""How long an export takes, stage by stage, and its peak memory.

    python benchmarks/full_size_checkpoint.py full.pth [--preset published-x8-faces]
    python benchmarks/export_time.py --ckpt full.pth -o full.srflow --rtx fp16 --sm 89 --no-cache

The arguments are those of srflow-export; with and without --no-inverter it tells what the inverter costs. Each line of
the export gets the seconds since the command began; in the end come the seconds of every stage, and those of all
processors, which other programs change less.
"""

from __future__ import annotations

import os
import re
import resource
import sys
import time
from typing import Any

import click

from srflow_export.cli import main as export

_ENDS = {  # the last line of a stage
    "graphs": r"\S+\.onnx: [\d.]+ MB",
    "gate": r"graph  .*",
    "inverter's gate": r" +\w+ +[\d.]+ dB .*",
    "halo": r"halo \d+: .*",
    "inverter's halo": r"inverter's halo \d+: .*",
    "engines": r"\S+\.onnx: built .*",
}


def main() -> None:
    """Run srflow-export with times."""
    begun, echo = time.monotonic(), click.echo
    said: list[tuple[float, str]] = []

    def timed(message: str = "", **options: Any) -> None:
        said.append((time.monotonic() - begun, str(message)))
        echo(f"{said[-1][0]:6.1f} s  {message}", **options)

    click.echo = timed
    try:
        export.main(sys.argv[1:], standalone_mode=False)
    finally:
        click.echo = echo
    before = 0.0
    for stage, last in _ENDS.items():
        end = next((seconds for seconds, line in reversed(said) if re.fullmatch(last, line)), None)
        if end is not None:
            echo(f"{stage:<28}{end - before:6.1f} s")
            before = end
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    busy = sum(os.times()[:4])
    echo(f"{'in all':<28}{time.monotonic() - begun:6.1f} s, of processors {busy:.1f} s, peak {peak:.1f} GiB")


if __name__ == "__main__":
    main()
