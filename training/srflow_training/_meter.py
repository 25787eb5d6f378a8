"""The figures that a run reports between two lines of its log."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor


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
