"""The command: `python -m benchmarks.bench`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.bench.machine import machine, one_line
from benchmarks.bench.parts import (
    PARTS,
    Settings,
    module,
    read_results,
    texts,
    write_parts,
    write_results,
)
from benchmarks.bench.processes import ROOT


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The checked options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench",
        description="Measure speed and memory on this machine's CPU.",
        epilog="\n".join(f"  {name:<14}{about}" for name, about in PARTS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", nargs="+", action="extend", choices=PARTS, metavar="PART", help="of those below"
    )
    parser.add_argument("--quick", action="store_true", help="tiny networks and sizes, to try it")
    parser.add_argument(
        "--write", action="store_true", help="write the tables of docs/ and docs/performance.json"
    )
    parser.add_argument(
        "--threads", type=int, default=Settings.threads, help="[default: %(default)s]"
    )
    parser.add_argument(
        "--photos", type=Path, help="folder of photographs for competitors [default: seven, unseen]"
    )
    parser.add_argument(
        "--work", type=Path, default=Settings.work, help="networks and tools [default: build/bench]"
    )
    options = parser.parse_args(arguments)
    if options.quick and options.write:
        parser.error("--quick measures tiny networks: leave it out to write docs/performance.md")
    if not 1 <= options.threads <= (os.cpu_count() or 1):
        parser.error(f"--threads {options.threads}: this machine has {os.cpu_count()} cores")
    if options.photos is not None and not options.photos.is_dir():
        parser.error(f"--photos {options.photos}: there is no such folder")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measure the parts, print their tables, and write them if that was asked for."""
    options = parse_options(arguments)

    def say(line: str) -> None:
        print(f"  {line}", file=sys.stderr, flush=True)

    work = options.work.resolve()
    settings = Settings(
        quick=options.quick, threads=options.threads, work=work, photos=options.photos, say=say
    )
    figures = work / f"performance{'-quick' if options.quick else ''}.json"
    if options.write:
        figures = ROOT / "docs" / "performance.json"
    results = read_results(figures)
    here = machine()
    failed = []
    print(one_line(here), flush=True)
    for name, about in PARTS.items():
        if options.only and name not in options.only:
            continue
        print(f"\n{name}: {about}", file=sys.stderr, flush=True)
        try:
            result = module(name).run(settings)
        except Exception as error:  # the other parts are measured all the same
            failed.append(name)
            print(f"{name} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        results[name] = {"machine": here, "result": result}
        write_results(figures, results)  # after each part: a run that is stopped keeps what it has
        results = read_results(figures)  # rounded, so that these tables are those of the pages
        print(f"\n{texts(results)[name]}", flush=True)
    if options.write:
        write_parts(texts(results))
    print(f"\nfigures are in {figures}", file=sys.stderr)
    if failed:
        sys.exit(f"error: these parts failed, and their tables are older: {', '.join(failed)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped; the parts that ended are kept")
