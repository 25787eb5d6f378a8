"""Which sizes an engine takes: LR sizes for people, and from them the shapes of every input of a graph."""

from __future__ import annotations

import re
from dataclasses import dataclass

import onnx

from srflow_export.engines._graph import Graph
from srflow_sdk import tiles
from srflow_sdk.engine_records import LrProfile
from srflow_sdk.errors import ArgumentError, ExportError
from srflow_sdk.manifest import Manifest

_MOST = 1 << 14  # LR pixels a side; an engine for more would need more memory than any GPU has
_SIDE = re.compile(r"[0-9]{1,6}", re.ASCII)
_LEVEL = re.compile(r"(?:noise_)?level([0-9]+)(?:_[a-z_]+)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class InputShapes:
    """Shapes of one input: the smallest that an engine takes, the one that it is best at, and the largest."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


def parse_shapes(text: str) -> LrProfile:
    """`--shapes`: three LR sizes, such as "16,88,256" for squares or "16x16,88x120,256x256" as height×width.

    Raises: ArgumentError for anything else, and for sizes that are not in order.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3:
        raise _bad_shapes(text, f"{len(parts)} sizes are named where three are expected")
    low, best, high = (_parsed_size(text, part) for part in parts)
    return _ordered(LrProfile(min=low, opt=best, max=high), said=text)


def default_profile(manifest: Manifest) -> LrProfile:
    """LR sizes of the windows that the runtime draws by itself, see :func:`srflow_sdk.tiles.common_gpu_profile`."""
    return tiles.common_gpu_profile(
        multiple=manifest.size_multiple,
        halo=manifest.halo,
        conditioning_bytes_per_pixel=manifest.conditioning_bytes_per_pixel,
    )


def check_profile(profile: LrProfile, manifest: Manifest) -> None:
    """Raises: ArgumentError unless the sizes are in order and multiples of the model's size multiple."""
    _ordered(profile, said=str(profile))
    multiple = manifest.size_multiple
    for size in (profile.min, profile.opt, profile.max):
        if any(side % multiple for side in size):
            mend = tiles.padded_size(size[0], multiple), tiles.padded_size(size[1], multiple)
            raise ArgumentError(
                f"--shapes {profile}: this model takes LR sides that are multiples of {multiple}, and "
                f"{_size_text(size)} is not; write {_size_text(mend)}"
            )


def input_shapes(graph: Graph, profile: LrProfile, *, scale: int) -> dict[str, InputShapes]:
    """The shapes of every input of an encoder or a sampler, by input name, for these LR sizes and a batch of one.

    Height and width follow from the input's name: `lr` has LR size, `level{ℓ}_…` and `noise_level{ℓ}` have HR/2^ℓ. The
    batch is 1 because the runtime draws one sample at a time.
    Raises: ExportError for an input that is none of these or has no fixed number of channels.
    """
    return {
        entry.name: InputShapes(
            min=_shape(entry, profile.min, scale=scale, graph=graph.name),
            opt=_shape(entry, profile.opt, scale=scale, graph=graph.name),
            max=_shape(entry, profile.max, scale=scale, graph=graph.name),
        )
        for entry in graph.inputs()
    }


def _shape(entry: onnx.ValueInfoProto, size: tuple[int, int], *, scale: int, graph: str) -> tuple[int, ...]:
    dimensions = entry.type.tensor_type.shape.dim
    if entry.name == "tau" and len(dimensions) == 1:
        return (1,)
    channels = dimensions[1].dim_value if len(dimensions) == 4 else 0
    level = _LEVEL.fullmatch(entry.name)
    if channels and entry.name == "lr":
        return (1, channels, *size)
    if channels and level:
        height, width = (scale * side >> int(level.group(1)) for side in size)
        return (1, channels, height, width)
    raise ExportError(
        f"{graph}: the input {entry.name} is none that an encoder or a sampler of this exporter has, so its sizes are "
        "not known; export the checkpoint again with srflow-export"
    )


def _parsed_size(text: str, part: str) -> tuple[int, int]:
    sides = part.lower().replace("×", "x").split("x")
    if len(sides) > 2 or not all(_SIDE.fullmatch(side) for side in sides):
        raise _bad_shapes(text, f"{part!r} is no size")
    return int(sides[0]), int(sides[-1])


def _ordered(profile: LrProfile, *, said: str) -> LrProfile:
    for low, best, high in zip(profile.min, profile.opt, profile.max, strict=True):
        if not 1 <= low <= best <= high <= _MOST:
            raise _bad_shapes(said, f"the smallest, best and largest size are not in order, from 1 to {_MOST}")
    return profile


def _size_text(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))


def _bad_shapes(text: str, why: str) -> ArgumentError:
    return ArgumentError(
        f"--shapes {text}: {why}; write the LR sizes that engines take at least, at best and at most, such as "
        "16,88,256 for squares or 16x16,88x120,256x256 as height x width"
    )
