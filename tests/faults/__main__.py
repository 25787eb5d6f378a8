"""`python -m tests.faults`: runs the campaign's parts, and prints how their attempts ended."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click

from tests.faults import clips, names, pipes, runs


class Part(NamedTuple):
    """Attempts of one kind.

    attack takes an empty folder, a number of attempts and a seed. It yields for each attempt what
    was done, and its loss in one line, or None if it was survived. count: how many `make faults`
    makes. short: how many the slow tests.
    """

    attack: Callable[[Path, int, int], Iterator[tuple[str, str | None]]]
    count: int
    short: int


PARTS = {
    "names": Part(names.attack, 60, 4),
    "clips": Part(clips.attack, 120, 8),
    "pipes": Part(pipes.attack, 60, 8),
    "folder": Part(partial(runs.kill, "folder"), 60, 4),
    "export": Part(partial(runs.kill, "export"), 30, 4),
    "training": Part(partial(runs.kill, "training"), 30, 4),
    "disk": Part(runs.starve, 48, 4),
}


def run_part(name: str, *, count: int, seed: int, say: Callable[[str], None]) -> tuple[str, int]:
    """Make attempts in a temporary folder, which stays if any is lost; say each loss; return a
    line, and the losses."""
    folder = Path(tempfile.mkdtemp(prefix=f"srflow-faults-{name}-"))
    begun = time.monotonic()
    attempted = lost = 0
    for what, loss in PARTS[name].attack(folder, count, seed):
        attempted += 1
        if loss is not None:
            lost += 1
            say(f"lost: {name}, seed {seed}, {what}: {loss}")
    if lost:
        say(f"{name}: its files are in {folder}")
    else:
        shutil.rmtree(folder)
    return (
        f"{name:<12}{attempted:>9}{attempted - lost:>9}{lost:>6}{time.monotonic() - begun:>7.0f} s",
        lost,
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--only", "chosen", multiple=True, type=click.Choice(sorted(PARTS)), help="A part. Repeatable."
)
@click.option(
    "--count", type=click.IntRange(min=1), help="Attempts per part.  [default: each part's own]"
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="The same seed makes the same attempts."
)
def main(chosen: tuple[str, ...], count: int | None, seed: int) -> None:
    """Attack the commands, and print what was survived.

    What counts as lost is defined at the top of tests/faults/__init__.py. Seeds fix the files, and
    when kills come; what a kill then finds depends on the machine. Exit status: 0 if nothing was
    lost, 1 if something was.
    """
    all_lost = 0
    click.echo(f"{'part':<12}{'attempted':>9}{'survived':>9}{'lost':>6}{'time':>9}")
    for name in (name for name in PARTS if not chosen or name in chosen):
        line, lost = run_part(
            name, count=count or PARTS[name].count, seed=seed, say=partial(click.echo, err=True)
        )
        click.echo(line)
        all_lost += lost
    click.echo("something was lost" if all_lost else "nothing was lost")
    sys.exit(bool(all_lost))


if __name__ == "__main__":
    main(prog_name="python -m tests.faults")
