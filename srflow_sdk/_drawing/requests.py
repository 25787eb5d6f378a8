"""What is asked of an image, checked: temperature, seed, samples, and how to stop."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from srflow_sdk._drawing.temperature import Tau, Temperature
from srflow_sdk.errors import ArgumentError, CancelledError

Reduce = Literal["mean", "std"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to draw of an image: the samples of one seed at one temperature.

    reduce: "mean" or "std" over the samples instead of the samples. cancel: drawing ends with CancelledError once it
    is set.
    """

    temperature: Temperature
    seed: int
    samples: Sequence[int]
    reduce: Reduce | None = None
    cancel: threading.Event | None = None

    @property
    def pictures(self) -> int:
        """How many come out."""
        return 1 if self.reduce else len(self.samples)

    def stop_if_cancelled(self) -> None:
        """Raises: CancelledError."""
        if self.cancel is not None and self.cancel.is_set():
            raise CancelledError("cancelled by the caller")


def make_request(
    tau: Tau,
    *,
    height: int,
    width: int,
    multiple: int,
    seed: int,
    sample: int,
    samples: int,
    reduce: Reduce | None = None,
    cancel: threading.Event | None = None,
) -> Request:
    """A request for an image of this size, checked. Raises: ArgumentError."""
    check_numbers(seed=seed, sample=sample, samples=samples)
    if not (reduce is None or (isinstance(reduce, str) and reduce in ("mean", "std"))):
        raise ArgumentError(f'reduce is {reduce!r}; it is "mean", "std" or None')
    if reduce and samples < 2:
        raise ArgumentError(f'samples is {samples}; reduce="{reduce}" needs at least 2')
    return Request(
        temperature=Temperature(tau, height=height, width=width, multiple=multiple),
        seed=int(seed),
        samples=range(int(sample), int(sample) + int(samples)),
        reduce=reduce,
        cancel=cancel,
    )


def check_numbers(*, seed: int, sample: int, samples: int = 1) -> None:
    """Raises: ArgumentError unless seed and all samples are 0 … 2^64 - 1 and there are 1 to 2^20."""
    for name, value, low in (("seed", seed, 0), ("sample", sample, 0), ("samples", samples, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
            raise ArgumentError(f"{name} is {value!r}; it is a whole number from {low} on")
    if max(int(seed), int(sample) + int(samples) - 1) >> 64:
        raise ArgumentError("seed and sample must be below 2^64")
    if samples > 1 << 20:
        raise ArgumentError(f"samples is {samples}; ask for at most {1 << 20:,} at a time")


def check_choices(*, consistent: object, report: object, progress: object, cancel: object) -> None:
    """Raises: ArgumentError unless the first two are true or false, progress can be called, cancel is an event."""
    for name, value in (("consistent", consistent), ("report", report)):
        if not isinstance(value, (bool, np.bool_)):
            raise ArgumentError(f"{name} is {value!r}; it is True or False")
    if progress is not None and not callable(progress):
        raise ArgumentError(f"progress is {progress!r}; it is a function of two numbers, or None")
    if cancel is not None and not isinstance(cancel, threading.Event):
        raise ArgumentError(f"cancel is {cancel!r}; it is a threading.Event, or None")
