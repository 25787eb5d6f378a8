"""Shapes of every input of a graph for given LR sizes, in the formats that engine builders take."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from srflow_sdk.errors import BundleError
from srflow_sdk.model.engine_records import LrProfile

Bound = Literal["min", "opt", "max"]
BOUNDS: tuple[Bound, ...] = get_args(Bound)

_LEVEL = re.compile(r"(?:noise_)?level([0-9]+)(?:_[a-z0-9_]+)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class InputShapes:
    """Shapes of one input: the smallest that an engine takes, the one it is optimised for, and the largest."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


def input_shapes(
    inputs: Iterable[tuple[str, Sequence[int | str | None]]], profile: LrProfile, *, scale: int, graph: str
) -> dict[str, InputShapes]:
    """The shapes of every input of a bundle's graphs, by input name, for these LR sizes and a batch of one.

    inputs: name and dimensions; dimensions that are not numbers are dynamic. graph: its file, for errors.
    Height and width follow from the input's name: `lr` has LR size, `hr` HR size, and `level{ℓ}_…` and `noise_level{ℓ}`
    have HR/2^ℓ. The batch is 1 because the runtime draws one sample at a time.
    Raises: BundleError for any other input, and for one without a fixed number of channels.
    """
    return {
        name: InputShapes(
            min=_shape(name, dimensions, profile.min, scale=scale, graph=graph),
            opt=_shape(name, dimensions, profile.opt, scale=scale, graph=graph),
            max=_shape(name, dimensions, profile.max, scale=scale, graph=graph),
        )
        for name, dimensions in inputs
    }


def shapes_text(shapes: Mapping[str, InputShapes], bound: Bound) -> str:
    """One bound of all inputs as trtexec and ONNX Runtime's TensorRT provider take it: "lr:1x3x16x16,tau:1"."""
    return ",".join(f"{name}:{'x'.join(map(str, getattr(entry, bound)))}" for name, entry in shapes.items())


def _shape(
    name: str, dimensions: Sequence[int | str | None], size: tuple[int, int], *, scale: int, graph: str
) -> tuple[int, ...]:
    if name == "tau" and len(dimensions) == 1:
        return (1,)
    channels = dimensions[1] if len(dimensions) == 4 else None
    level = _LEVEL.fullmatch(name)
    if isinstance(channels, int) and name == "lr":
        return (1, channels, *size)
    if isinstance(channels, int) and name == "hr":
        return (1, channels, *(scale * side for side in size))
    if isinstance(channels, int) and level:
        height, width = (scale * side >> int(level.group(1)) for side in size)
        return (1, channels, height, width)
    raise BundleError(
        f"{graph}: the input {name} is not one that srflow-export gives its graphs, so its sizes are unknown; "
        "export the checkpoint again with srflow-export"
    )
