"""What a campaign is, and the table of how its attempts ended."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt. what: enough to find it again. loss: what was lost, in one line; None if it was survived."""

    what: str
    loss: str | None = None


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """Attempts of one kind.

    attack: called with an empty folder, the number of attempts and a seed. count: how many `make faults` makes.
    short: how many the slow tests make.
    """

    name: str
    title: str
    attack: Callable[[Path, int, int], Iterator[Attempt]]
    count: int
    short: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a campaign ended. seconds: its duration."""

    campaign: Campaign
    attempted: int
    lost: tuple[Attempt, ...]
    seconds: float

    def __str__(self) -> str:
        survived = self.attempted - len(self.lost)
        return f"{self.campaign.name:<12}{self.attempted:>9}{survived:>9}{len(self.lost):>6}{self.seconds:>7.0f} s"


HEADING = f"{'campaign':<12}{'attempted':>9}{'survived':>9}{'lost':>6}{'time':>9}"


def run_campaign(campaign: Campaign, *, count: int, seed: int, say: Callable[[str], None]) -> Outcome:
    """Make `count` attempts in a temporary folder, which stays if any is lost. say: told of every loss at once."""
    folder = Path(tempfile.mkdtemp(prefix=f"srflow-faults-{campaign.name}-"))
    begun = time.monotonic()
    attempted, lost = 0, []
    for attempt in campaign.attack(folder, count, seed):
        attempted += 1
        if attempt.loss is not None:
            lost.append(attempt)
            say(f"lost: {campaign.name}, seed {seed}, {attempt.what}: {attempt.loss}")
    if lost:
        say(f"{campaign.name}: its files are in {folder}")
    else:
        shutil.rmtree(folder)
    return Outcome(campaign=campaign, attempted=attempted, lost=tuple(lost), seconds=time.monotonic() - begun)


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes in columns, and a last line that says whether anything was lost."""
    lost = sum(len(outcome.lost) for outcome in outcomes)
    return "\n".join([HEADING, *map(str, outcomes), "nothing was lost" if not lost else f"{lost} lost"])
