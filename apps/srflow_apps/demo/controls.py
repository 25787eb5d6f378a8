"""The values of a page's controls, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from srflow_sdk._checks import real, whole
from srflow_sdk.errors import ArgumentError

MAX_SEED = 2**32 - 1  # which a number field of a page holds exactly
MAX_SIDE = 512  # of the crop's enlargement: it is encoded at once
SAMPLES = 8
FORMATS = ("png", "jpg", "webp", "tif")

_FARTHEST = 1 << 31  # pixels from the photo's corner

Said = Mapping[str, Any]
"""A page's message, decoded from JSON."""


def seed_of(said: Said) -> int:
    """The page's seed. Raises: ArgumentError if it is none."""
    return whole("the seed", said.get("seed"), least=0, most=MAX_SEED)


def tau_of(said: Said) -> float:
    """The page's temperature; the SDK checks its range. Raises: ArgumentError if it is no number."""
    return real("the temperature", said.get("tau"))


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
        place = said.get("left"), said.get("top")
        return cls(
            tau="auto" if said.get("auto") is True else tau_of(said),
            seed=seed_of(said),
            side=whole("the crop's side", said.get("side"), least=1, most=MAX_SIDE),
            sample=whole("the sample", said.get("sample"), least=0, most=SAMPLES - 1),
            place=None if place == (None, None) else (_coordinate(place[0]), _coordinate(place[1])),
        )


def _coordinate(value: object) -> int:
    return whole("the crop's place", value, least=-_FARTHEST, most=_FARTHEST)
