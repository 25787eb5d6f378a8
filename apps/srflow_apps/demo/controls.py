"""What a page's controls say, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from srflow_sdk.errors import ArgumentError

MAX_SEED = 2**32 - 1  # which a number field of a page holds exactly
MAX_SIDE = 512  # of the crop's enlargement: it is encoded at once
SAMPLES = 8
FORMATS = ("png", "jpg", "webp", "tif")

_HUGE = 1 << 64  # no float has some whole numbers beyond

Said = Mapping[str, Any]
"""What a page sent, decoded from JSON."""


def seed_of(said: Said) -> int:
    """The page's seed. Raises: ArgumentError if it is none."""
    value: Any = said.get("seed")
    if not _is_number(value) or not 0 <= value <= MAX_SEED or value != int(value):
        raise ArgumentError(f"the seed is a whole number from 0 to {MAX_SEED}; enter one")
    return int(value)


def tau_of(said: Said) -> float:
    """The page's temperature; the SDK checks its range. Raises: ArgumentError if it is no number."""
    value: Any = said.get("tau")
    if not _is_number(value):
        raise ArgumentError("the temperature is not a number; move its slider")
    return float(value)


def format_of(said: Said) -> str:
    """The ending of the file that the page wants. Raises: ArgumentError if it is none of :data:`FORMATS`."""
    return choice_of(said, "format", FORMATS)


def choice_of(said: Said, name: str, choices: tuple[str, ...]) -> str:
    """One of a control's choices. Raises: ArgumentError if it is none of them."""
    value = said.get(name)
    if value not in choices:
        raise ArgumentError(f"{name} is one of {', '.join(choices)}; load the page again")
    return str(value)


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Those of the tab "Enlarge".

    side: of the crop's enlargement, in pixels. place: left and top of the crop in the photo; None: its middle.
    """

    tau: float | Literal["auto"]
    seed: int
    side: int
    sample: int
    place: tuple[int, int] | None

    @classmethod
    def of(cls, said: Said) -> Controls:
        """Check what the page sent. Raises: ArgumentError."""
        side: Any = said.get("side")
        sample: Any = said.get("sample")
        if not _is_whole(side) or not 1 <= side <= MAX_SIDE:
            raise ArgumentError(f"the side of the crop is a whole number from 1 to {MAX_SIDE}; load the page again")
        if not _is_whole(sample) or not 0 <= sample < SAMPLES:
            raise ArgumentError(f"there is no such sample; choose one of 0 to {SAMPLES - 1}")
        left: Any = said.get("left")
        top: Any = said.get("top")
        if (left, top) != (None, None) and not (_is_whole(left) and _is_whole(top)):
            raise ArgumentError("the place of the crop is not two whole numbers; load the page again")
        return cls(
            tau="auto" if said.get("auto") is True else tau_of(said),
            seed=seed_of(said),
            side=side,
            sample=sample,
            place=None if left is None else (left, top),
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    if _is_whole(value):
        return bool(-_HUGE < value < _HUGE)
    return isinstance(value, float) and math.isfinite(value)
