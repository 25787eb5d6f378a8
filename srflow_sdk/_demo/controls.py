"""What a page's controls say, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from srflow_sdk.errors import ArgumentError

MAX_SEED = 2**32 - 1  # which a number field of a page holds exactly


def seed_of(value: Any) -> int:
    """The seed that a number field sent. Raises: ArgumentError if it is none."""
    if value is None or isinstance(value, bool) or not 0 <= value <= MAX_SEED or value != int(value):
        raise ArgumentError(f"the seed is a whole number from 0 to {MAX_SEED}; enter one")
    return int(value)


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Those of the tab "Enlarge". side: of the crop's enlargement, in pixels."""

    tau: float | Literal["auto"]
    seed: int
    side: int

    @classmethod
    def of(cls, tau: Any, auto: Any, seed: Any, side: Any) -> Controls:
        """Check what the page sent. Raises: ArgumentError."""
        return cls(tau="auto" if auto else float(tau), seed=seed_of(seed), side=int(side))
