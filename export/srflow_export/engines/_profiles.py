"""Parse and check the LR sizes of engines, as in --shapes."""

from __future__ import annotations

import re

from srflow_sdk.drawing import tiles
from srflow_sdk.errors import ArgumentError
from srflow_sdk.model.engine_records import LrProfile
from srflow_sdk.model.manifest import Manifest

_MOST = 1 << 14  # LR pixels per side; a larger engine would need more memory than any GPU has
_SIDE = re.compile(r"[0-9]{1,6}", re.ASCII)


def parse_shapes(text: str) -> LrProfile:
    """Parse `--shapes`: three LR sizes, such as "16,88,256" for squares or "16x16,88x120,256x256" as height×width.

    Raises: ArgumentError for anything else, and for sizes that are not in order.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3:
        raise _bad_shapes(text, f"expected three sizes, not {len(parts)}")
    low, best, high = (_parsed_size(text, part) for part in parts)
    return _ordered(LrProfile(min=low, opt=best, max=high), said=text)


def check_profile(profile: LrProfile, manifest: Manifest) -> None:
    """Raises: ArgumentError unless the sizes are in order and multiples of the model's size multiple."""
    _ordered(profile, said=str(profile))
    multiple = manifest.size_multiple
    for size in (profile.min, profile.opt, profile.max):
        if any(side % multiple for side in size):
            fix = tiles.padded_size(size[0], multiple), tiles.padded_size(size[1], multiple)
            raise ArgumentError(
                f"--shapes {profile}: this model needs LR sides that are multiples of {multiple}, and "
                f"{_size_text(size)} is not; use {_size_text(fix)}"
            )


def _parsed_size(text: str, part: str) -> tuple[int, int]:
    sides = part.lower().replace("×", "x").split("x")
    if len(sides) > 2 or not all(_SIDE.fullmatch(side) for side in sides):
        raise _bad_shapes(text, f"{part!r} is not a size")
    return int(sides[0]), int(sides[-1])


def _ordered(profile: LrProfile, *, said: str) -> LrProfile:
    for low, best, high in zip(profile.min, profile.opt, profile.max, strict=True):
        if not 1 <= low <= best <= high <= _MOST:
            raise _bad_shapes(said, f"the smallest, best and largest size must be in order, from 1 to {_MOST}")
    return profile


def _size_text(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))


def _bad_shapes(text: str, why: str) -> ArgumentError:
    return ArgumentError(
        f"--shapes {text}: {why}; give the smallest, best and largest LR size, such as "
        "16,88,256 for squares or 16x16,88x120,256x256 as height x width"
    )
