"""The pace of a run: how many CPU threads its steps are fastest with, how long all take, and the figures it reports."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from torch import Tensor

_HOPELESS = 2.0  # a step this many times the fastest is not repeated
_SLOWER = 1.5  # if the recent steps' median is this many times the expected, all is timed again
_RECENT = 8
_AGAIN_STEPS, _AGAIN_S = 200, 300.0  # so it is after both, then after twice as long: a program may have ended
_CLEARLY = 0.9  # another number must take less than this share of the time


class Pace:
    """Times the steps of a run. On a CPU it also changes the number of threads between them.

    As a context it leaves the number of threads as it was.

    Several threads wait for each other. Where another program holds one of the cores, that makes a step up to ten times
    as slow as with one thread alone. Nothing is computed for the timing: all steps train.

    counts: the numbers of threads to choose from; empty: they stay as they are.
    say: gets an estimate after the second step, and a line whenever the number changes.
    clock: seconds, from any start.
    """

    def __init__(
        self, counts: list[int], say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._counts, self._say, self._clock = counts or [0], say, clock
        self._chosen: int | None = None
        self._steps, self._again_s = 0, _AGAIN_S
        self._before = torch.get_num_threads()
        self._begin()

    def __enter__(self) -> Pace:
        return self

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._before)

    @classmethod
    def of(cls, fabric: Fabric, threads: int, say: Callable[[str], None]) -> Pace:
        """The pace of one process. threads: as the user set them; 0 leaves the choice, unless processes wait."""
        free = threads == 0 and fabric.device.type == "cpu" and fabric.world_size == 1
        most = torch.get_num_threads()
        return cls(sorted({1, -(-most // 2), most}) if free else [], say)

    @contextmanager
    def timed(self, left: int) -> Iterator[None]:
        """Time a step. left: how many there are after it."""
        count = self._trials[0] if self._trials else self._chosen or 0
        if count:
            torch.set_num_threads(count)
        started = self._clock()
        yield
        self._steps += 1
        if self._steps > 1:  # the first step chooses kernels
            self._add(count, self._clock() - started, left)

    def _begin(self) -> None:
        self._trials = deque(self._counts)
        self._times: dict[int, list[float]] = {}
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def _add(self, count: int, seconds: float, left: int) -> None:
        if not self._trials:
            self._watch(seconds)
            return
        if self._chosen is None and not self._times and left:
            threads = " with 1 thread" if count == 1 else ""
            self._say(f"the other {left:,} iterations take about {_hours(left * seconds)}{threads}")
        self._times.setdefault(self._trials.popleft(), []).append(seconds)
        if not self._trials and all(len(times) == 1 for times in self._times.values()):
            best = min(times[0] for times in self._times.values())
            self._trials.extend(count for count, times in self._times.items() if times[0] < _HOPELESS * best)
        if not self._trials:
            self._choose(left)

    def _choose(self, left: int) -> None:
        steps = {count: statistics.mean(times) for count, times in self._times.items()}
        before, best = self._chosen, min(steps, key=lambda count: steps[count])
        if before is not None and before in steps and steps[best] > _CLEARLY * steps[before]:
            best = before
        self._chosen = best
        self._again_s = 2 * self._again_s if self._chosen == before else _AGAIN_S
        self._expected, self._since, self._chosen_at = steps[self._chosen], 0, self._clock()
        if self._chosen != before and self._chosen and left:
            timed = ", ".join(f"{seconds:.3g} s with {count}" for count, seconds in steps.items())
            took = _hours(left * self._expected)
            self._say(f"threads: {self._chosen} (a step takes {timed}); the other iterations take about {took}")

    def _watch(self, seconds: float) -> None:
        self._recent.append(seconds)
        self._since += 1
        slower = len(self._recent) == _RECENT and statistics.median(self._recent) > _SLOWER * self._expected
        if slower or (self._since >= _AGAIN_STEPS and self._clock() - self._chosen_at >= self._again_s):
            self._begin()


def _hours(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} s"


class Meter:
    """Means of the loss terms over all processes, and the speed, since the last restart."""

    def __init__(self, mean_of_ranks: Callable[[Tensor], Tensor]) -> None:
        self.mean_of_ranks = mean_of_ranks
        self.restart()

    def restart(self) -> None:
        """Forget all steps so far."""
        self.started, self.steps = time.monotonic(), 0
        self.terms: dict[str, list[Tensor]] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        """Note the terms of a step, of which some steps have fewer."""
        self.steps += 1
        for name, term in terms.items():
            self.terms.setdefault(name, []).append(term)

    def read(self, *, left: int) -> dict[str, float]:
        """Mean of each term over the steps that have it, iterations per second, and seconds for `left` iterations."""
        means = {name: float(self.mean_of_ranks(torch.stack(values).mean())) for name, values in self.terms.items()}
        rate = self.steps / (time.monotonic() - self.started)
        return {**means, "iterations_per_second": rate, "seconds_left": left / rate}
