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

_LEVEL = re.compile(r"(?:noise_)?level([0-9]{1,2})(?:_[a-z0-9_]+)?", re.ASCII)


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
            min=shape_of(name, dimensions, profile.min, scale=scale, graph=graph),
            opt=shape_of(name, dimensions, profile.opt, scale=scale, graph=graph),
            max=shape_of(name, dimensions, profile.max, scale=scale, graph=graph),
        )
        for name, dimensions in inputs
    }


def shapes_text(shapes: Mapping[str, InputShapes], bound: Bound) -> str:
    """One bound of all inputs as trtexec and ONNX Runtime's TensorRT provider take it: "lr:1x3x16x16,tau:1"."""
    return ",".join(f"{name}:{'x'.join(map(str, getattr(entry, bound)))}" for name, entry in shapes.items())


def shape_of(
    name: str, dimensions: Sequence[int | str | None], size: tuple[int, int], *, scale: int, graph: str
) -> tuple[int, ...]:
    """The shape of one tensor for LR images of this size, as :func:`input_shapes` says. Raises: BundleError."""
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
