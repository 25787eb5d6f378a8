"""The command: `python -m benchmarks.gpu_report gpu-report.md`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.bench.page import write_whole
from benchmarks.bench.settings import Settings
from benchmarks.bench.worker import MissingError
from benchmarks.gpu_report.builds import gpu_builds
from benchmarks.gpu_report.card import card_or_exit


def main(arguments: list[str] | None = None) -> None:
    """Measure, write the file, and exit with status 1 if a picture is wrong or there is no GPU."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_report",
        description="Check and time everything on this machine's NVIDIA GPU, and write one file about it.",
    )
    parser.add_argument("target", type=Path, help="the Markdown file to write")
    parser.add_argument("--quick", action="store_true", help="tiny networks: does everything run here?")
    parser.add_argument("--size", type=int, default=256, help="LR pixels a side of what is timed [default: 256]")
    parser.add_argument("--work", type=Path, default=Settings.work, help="networks and engines [default: build/bench]")
    options = parser.parse_args(arguments)
    if options.size < 16 or options.size % 4:
        parser.error(f"--size {options.size}: name a multiple of 4 that is at least 16")
    card = card_or_exit()
    from benchmarks.gpu_report.report import measure

    def say(line: str) -> None:
        print(f"  {line}", file=sys.stderr, flush=True)

    builds, target = gpu_builds(card.compute_capability, size=options.size), options.target.resolve()
    sizes = {"quick": options.quick, "size": options.size}
    try:
        _, wrong = measure(
            card, builds, options.work.resolve(), say, **sizes, keep=lambda text: write_whole(target, text)
        )
    except MissingError as error:
        sys.exit(f"gpu-report: nothing could be measured: {error}")
    print(f"wrote {options.target}: please send it to us, with the card's name it goes into docs/performance.md")
    if wrong:
        sys.exit("gpu-report: wrong pictures:\n" + "\n".join(wrong))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped; the file has what was measured so far")
