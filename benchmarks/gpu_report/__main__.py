"""The command: `python -m benchmarks.gpu_report gpu-report.md`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from datetime import date
from pathlib import Path

from benchmarks.bench.machine import machine, one_line
from benchmarks.bench.networks import sources_digest
from benchmarks.bench.parts import Settings
from benchmarks.gpu_report.report import (
    FURTHER_MS,
    NO_VERDICT,
    PICTURE_MS,
    Report,
    Runner,
    exit_status,
    judge_aims,
    summarise,
)
from srflow_sdk.system.hardware import cuda_of_wheels, find_gpu, gpu_free_memory

AIMED_SIZE = 256
"""LR pixels a side for which the aims hold."""

_STATUSES = f"""
Exit statuses: 0: fine, all that ran is right and both aims are reached ({PICTURE_MS:g} ms for
{AIMED_SIZE}×{AIMED_SIZE} LR pixels, {FURTHER_MS:g} ms for a further sample; of another size, or
with --quick, they are not judged). 1: wrong, whatever the times. 2: no verdict, because there is
no GPU, no engine was timed within the budget, the budget ended a check, somebody stopped it, or
the file cannot be written. 3: slow, all is right and an aim is missed. Exports and engines are
built outside of the budget.
"""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the options; a wrong one ends the program."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_report",
        description="Check and time everything on this machine's NVIDIA GPU, and write one file "
        "about it.",
        epilog=_STATUSES,
    )
    parser.add_argument("target", type=Path, help="the Markdown file to write")
    parser.add_argument(
        "--budget", type=float, default=600, help="seconds that it may take [default: 600]"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tiny network: does everything run here?"
    )
    parser.add_argument(
        "--size",
        type=int,
        default=AIMED_SIZE,
        help=f"LR pixels a side of what is timed [default: {AIMED_SIZE}]",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Settings.work,
        help="network and engines [default: build/bench]",
    )
    options = parser.parse_args(arguments)
    if options.size < 16 or options.size % 4:
        parser.error(f"--size {options.size}: name a multiple of 4 that is at least 16")
    if not options.budget > 0:
        parser.error(f"--budget {options.budget:g}: name a number of seconds")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Check and time everything, write the file, and return the exit status."""
    options = parse(arguments)
    gpu = find_gpu()
    about = "No NVIDIA GPU."
    if gpu is not None:
        about = (
            f"{gpu.name}, {(gpu_free_memory() or 0) / 2**30:.0f} GiB free, a driver for CUDA "
            f"{gpu.cuda}, compute capability {gpu.compute_capability}."
        )
    try:
        report = Report(options.target, f"{about}\n\n{one_line(machine())} {date.today()}.")
    except OSError as error:
        print(f"gpu-report: the file cannot be written: {error}", file=sys.stderr)
        return NO_VERDICT

    def say(line: str) -> None:
        print(f"  {line}", file=sys.stderr, flush=True)

    capability = gpu.compute_capability if gpu else "none"
    name = (
        f"gpu-{'tiny' if options.quick else 'full'}-{options.size}-{capability}-{sources_digest()}"
    )
    variant = {
        "work": str(options.work.resolve() / name),
        "quick": options.quick,
        "size": options.size,
    }
    try:
        Runner(report, {**variant, "threads": os.cpu_count() or 1}, options.budget, say).run()
    except KeyboardInterrupt:
        print("\nstopped; the file has what was found so far", file=sys.stderr)
        return NO_VERDICT
    if options.size == AIMED_SIZE and not options.quick:
        for row in list(judge_aims(report.rows)):
            report.add(row)
    report.append(f"\n{summarise(report.rows)}\n")
    print(summarise(report.rows))
    print(
        f"wrote {options.target}{': please send it to us, for docs/performance.md' if gpu else ''}"
    )
    return exit_status(report.rows)


def extras() -> None:
    """Print the extras of srflow-sdk that fit the driver, for pip. It needs no other package."""
    if (gpu := find_gpu()) is None:
        sys.exit("gpu-report: no NVIDIA GPU: its driver is not installed, or shows none to CUDA")
    print("gpu-cu{0},tensorrt-cu{0}".format(cuda_of_wheels(gpu.cuda)))


if __name__ == "__main__":
    for name in ("SIGTERM", "SIGHUP"):  # as Ctrl-C, so that the processes of engines end too
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # as of nohup
            signal.signal(number, signal.default_int_handler)
    sys.exit(main())
