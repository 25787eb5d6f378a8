"""Parse and check the LR sizes of engines, as in --shapes, and the shapes of their tensors, which follow from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from srflow_sdk.drawing import tiles
from srflow_sdk.errors import ArgumentError, BundleError
from srflow_sdk.model.engine_records import LrProfile
from srflow_sdk.model.manifest import Manifest

_MOST = 1 << 14  # LR pixels per side; a larger engine would need more memory than any GPU has
_SIDE = re.compile(r"[0-9]{1,6}", re.ASCII)
_LEVEL = re.compile(r"(?:noise_)?level([0-9]{1,2})(?:_[a-z0-9_]+)?", re.ASCII)
_Bound = Literal["min", "opt", "max"]
BOUNDS: tuple[_Bound, ...] = get_args(_Bound)


@dataclass(frozen=True, kw_only=True)
class InputShapes:
    """Shapes of one input: the smallest that an engine takes, the one it is optimised for, and the largest."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


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


def input_shapes(
    inputs: Iterable[tuple[str, Sequence[int | str | None]]], profile: LrProfile, *, scale: int, graph: str
) -> dict[str, InputShapes]:
    """The shapes of every input of a bundle's graphs, by input name, for these LR sizes and a batch of one.

    inputs: name and dimensions; dimensions that are not numbers are dynamic. graph: its file, for errors.
    Raises: BundleError for a tensor that the exporter never made, and for one without a fixed number of channels.
    """
    found = {}
    for name, dimensions in inputs:
        sizes = {bound: getattr(profile, bound) for bound in BOUNDS}
        shapes = {bound: _shape(name, dimensions, size, scale, graph) for bound, size in sizes.items()}
        found[name] = InputShapes(**shapes)
    return found


def shapes_text(shapes: Mapping[str, InputShapes], bound: _Bound) -> str:
    """One bound of all inputs as trtexec takes it: "lr:1x3x16x16,tau:1"."""
    return ",".join(f"{name}:{'x'.join(map(str, getattr(entry, bound)))}" for name, entry in shapes.items())


def _shape(
    name: str, dimensions: Sequence[int | str | None], size: tuple[int, int], scale: int, graph: str
) -> tuple[int, ...]:
    """`lr` has LR size, `hr` HR size, `level{ℓ}_…` and `noise_level{ℓ}` HR/2^ℓ; the runtime draws one at a time."""
    channels = dimensions[1] if len(dimensions) == 4 else None
    level = _LEVEL.fullmatch(name)
    if name == "tau" and len(dimensions) == 1:
        return (1,)
    if not isinstance(channels, int) or not (level or name in ("lr", "hr")):
        raise BundleError(
            f"{graph}: the tensor {name} is not one that srflow-export gives its graphs, so its sizes are unknown; "
            "export the checkpoint again with srflow-export"
        )
    factor, divisor = 1 if name == "lr" else scale, 1 << int(level[1]) if level else 1
    return (1, channels, *(factor * side // divisor for side in size))


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
