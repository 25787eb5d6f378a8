"""The command: `python -m benchmarks.bench`."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from pathlib import Path

from benchmarks.bench.machine import machine, one_line
from benchmarks.bench.networks import PRESETS
from benchmarks.bench.page import MarkerError, dumped, read_results, write_parts, write_whole
from benchmarks.bench.parts import PARTS, texts
from benchmarks.bench.settings import Allowance, Settings
from benchmarks.bench.worker import ROOT

FIGURES = ROOT / "docs" / "performance.json"
QUICK_WRITES = "--quick measures tiny networks: leave out --quick to write docs/performance.md"


def asked(arguments: list[str] | None) -> argparse.Namespace:
    """The checked options."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench",
        description="Measure speed and memory on this machine's CPU.",
        epilog="\n".join(f"  {part.name:<14}{part.about}, about {part.budget_s} s on two cores" for part in PARTS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", nargs="+", action="extend", choices=names, metavar="PART", help=f"of {', '.join(names)}"
    )
    parser.add_argument("--quick", action="store_true", help="tiny networks and sizes, to try it")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/ and docs/performance.json")
    parser.add_argument("--threads", type=int, default=2, help="[default: 2]")
    parser.add_argument(
        "--megapixels", type=float, default=1.05, help="photograph that checks growth's lines  [default: 1.05]"
    )
    parser.add_argument(
        "--minutes", type=float, default=13, help="what has not begun by then is skipped  [default: 13]"
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=tuple(PRESETS),
        metavar="NETWORK",
        help=f"of side-by-side [default: {' '.join(PRESETS)}]",
    )
    parser.add_argument("--photos", type=Path, help="folder of photographs for competitors [default: seven, unseen]")
    parser.add_argument("--work", type=Path, default=Settings.work, help="networks and tools [default: build/bench]")
    options = parser.parse_args(arguments)
    if options.quick and options.write:
        parser.error(QUICK_WRITES)
    if options.networks and options.write:
        parser.error("--networks would leave the others out of docs/performance.md: leave out --write")
    if not 1 <= options.threads <= (os.cpu_count() or 1):
        parser.error(f"--threads {options.threads}: this machine has {os.cpu_count()} cores")
    if options.photos is not None and not options.photos.is_dir():
        parser.error(f"--photos {options.photos}: there is no such folder")
    if not 0.3 <= options.megapixels <= 100:
        parser.error(f"--megapixels {options.megapixels:g}: name a number from 0.3 to 100")
    if not options.minutes > 0:
        parser.error(f"--minutes {options.minutes:g}: name a number above 0")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measure the parts, print their tables, and write them if that was asked for.

    The shortest part comes first, and each has its share of the time that is left: where a machine is slow, the longest
    one skips what comes last in it.
    """
    options = asked(arguments)
    work = options.work.resolve()
    settings = Settings(
        quick=options.quick,
        threads=options.threads,
        megapixels=options.megapixels,
        work=work,
        photos=options.photos,
        networks=tuple(options.networks or PRESETS),
        say=lambda line: print(f"  {line}", file=sys.stderr, flush=True),
    )
    chosen = [part for part in PARTS if options.only is None or part.name in options.only]
    chosen.sort(key=lambda part: part.budget_s)
    left_s = options.minutes * 60
    figures = FIGURES if options.write else work / f"performance{'-quick' if options.quick else ''}.json"
    results = read_results(figures)
    here = machine()
    print(one_line(here), flush=True)
    whole, failed = time.monotonic(), []
    for number, part in enumerate(chosen):
        share = part.budget_s / sum(each.budget_s for each in chosen[number:])
        allowance = Allowance(until=time.monotonic() + max(left_s, 0) * share)
        print(f"\n{part.name}: {part.about}; about {part.budget_s} s on two cores", file=sys.stderr, flush=True)
        started = time.monotonic()
        try:
            found = part.run(dataclasses.replace(settings, allowance=allowance))
        except Exception as error:  # the other parts are measured all the same
            failed.append(part.name)
            print(f"{part.name} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        finally:
            left_s -= time.monotonic() - started - allowance.not_counted
        entry = {"machine": here, "seconds": time.monotonic() - started, "result": found}
        if allowance.skipped:
            entry["skipped"] = allowance.skipped
        print(f"{part.name} took {entry['seconds']:.0f} s", file=sys.stderr, flush=True)
        results[part.name] = entry
        write_whole(figures, dumped(results))  # after each part: a run that is stopped keeps what it has
        results = read_results(figures)
        print(f"\n{texts(results)[part.name]}", flush=True)
        if options.write:
            try:
                write_parts(texts(results))
            except MarkerError as error:
                sys.exit(f"error: {error}")
    print(f"\n{texts(results)['aims']}", flush=True)
    print(f"\nall in {time.monotonic() - whole:.0f} s; figures are in {figures}", file=sys.stderr)
    if failed:
        sys.exit(f"error: these parts failed, and their tables are older: {', '.join(failed)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped; the parts that ended are kept")
