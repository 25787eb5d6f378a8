"""The campaign's parts, how one runs, and the table of how its attempts ended."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults import clips, demo, disks, kills, names, pipes, threads

Attack = Callable[[Path, int, int], Iterator[tuple[str, str | None]]]
"""Takes an empty folder, a number of attempts and a seed; yields for each attempt what was done, and its loss in one
line, or None if it was survived."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Attempts of one kind. count: how many `make faults` makes. short: how many the slow tests make."""

    name: str
    title: str
    attack: Attack
    count: int
    short: int


PARTS = {
    part.name: part
    for part in (
        Part(name="names", title="names and things in a folder", attack=names.attack, count=60, short=6),
        Part(name="clips", title="clips of every container, codec and name", attack=clips.attack, count=120, short=8),
        Part(name="pipes", title="pipes that break, stop and wait", attack=pipes.attack, count=60, short=8),
        Part(name="folder", title="kills of a run over a folder", attack=kills.kill_folder, count=40, short=4),
        Part(name="restoring", title="kills of restoring", attack=kills.kill_restoring, count=30, short=4),
        Part(name="export", title="kills of an export", attack=kills.kill_export, count=30, short=4),
        Part(name="training", title="kills of a training run", attack=kills.kill_training, count=30, short=4),
        Part(name="disk", title="full disks and limits", attack=disks.attack, count=48, short=8),
        Part(name="threads", title="many threads on one Upscaler", attack=threads.attack, count=600, short=120),
        Part(name="demo", title="hostile requests to srflow-demo", attack=demo.attack, count=400, short=60),
    )
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a part ended. lost: what was done and what was lost. seconds: its duration."""

    part: Part
    attempted: int
    lost: tuple[tuple[str, str], ...]
    seconds: float


def run_part(part: Part, *, count: int, seed: int, say: Callable[[str], None]) -> Outcome:
    """Make `count` attempts in a temporary folder, which stays if any is lost. say: told of every loss at once."""
    folder = Path(tempfile.mkdtemp(prefix=f"srflow-faults-{part.name}-"))
    begun = time.monotonic()
    attempted, lost = 0, []
    for what, loss in part.attack(folder, count, seed):
        attempted += 1
        if loss is not None:
            lost.append((what, loss))
            say(f"lost: {part.name}, seed {seed}, {what}: {loss}")
    if lost:
        say(f"{part.name}: its files are in {folder}")
    else:
        shutil.rmtree(folder)
    return Outcome(part=part, attempted=attempted, lost=tuple(lost), seconds=time.monotonic() - begun)


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes in columns, and a last line that says whether anything was lost."""
    rows = [f"{'part':<12}{'attempted':>9}{'survived':>9}{'lost':>6}{'time':>9}"]
    for each in outcomes:
        counts = f"{each.attempted:>9}{each.attempted - len(each.lost):>9}{len(each.lost):>6}"
        rows.append(f"{each.part.name:<12}{counts}{each.seconds:>7.0f} s")
    lost = sum(len(outcome.lost) for outcome in outcomes)
    return "\n".join([*rows, f"{lost} lost" if lost else "nothing was lost"])
