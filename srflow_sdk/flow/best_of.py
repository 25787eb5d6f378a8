"""The best of several samples, by a score of the caller's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from srflow_sdk.drawing.requests import DrawOptions, Progress, check_count
from srflow_sdk.encoding import Encoding
from srflow_sdk.errors import ArgumentError
from srflow_sdk.system.plain_text import short


def best_of(encoding: Encoding[Any], score: Callable[[Any], float], n: int, options: DrawOptions) -> Any:
    """Do the work of :meth:`Upscaler.best_of`."""
    check_count(n, first=options.sample)
    best, highest = None, -math.inf
    for number in range(int(n)):
        drawn = dataclasses.replace(
            options,
            sample=int(options.sample) + number,
            progress=None if options.progress is None else _nth(options.progress, number, int(n)),
        )
        picture = encoding.sample(**drawn.keywords)
        value = _checked(score(picture), drawn.sample)
        if best is None or value > highest:
            best, highest = picture, value
    return best


def _checked(value: object, sample: int) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentError(f"score returned {short(value)} for sample {sample}; it must return a number") from error
    if math.isnan(number):
        raise ArgumentError(f"score returned NaN for sample {sample}; it must return a number")
    return number


def _nth(tell: Progress, number: int, n: int) -> Progress:
    """Progress of one sample as a part of that of all."""
    return lambda done, total: tell(number * total + done, n * total)
