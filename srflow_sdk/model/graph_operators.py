"""What each operator of a graph makes: the shapes of its outputs and how much work they take, as ONNX defines it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Shape = tuple[int, ...]

MAX_CONTENT = 64
"""Most numbers of a value whose content is followed."""


class SizeError(Exception):
    """Why sizes cannot be followed: they do not fit, or are of no graph that srflow-export writes."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """A value's shape, and its content if the sizes of others may depend on it: a few constants or sizes."""

    shape: Shape
    content: np.ndarray[Any, Any] | None = None

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Node:
    """An operator, or the call of a function. attributes: numbers, lists, texts, a Value, or a Reference."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


Taken = Sequence[Value | None]
Maker = Callable[[Node, Any], list[Value]]


def _elementwise(node: Node, taken: list[Value]) -> list[Value]:
    shape = np.broadcast_shapes(*(value.shape for value in taken[:2]))
    contents = [value.content for value in taken]
    compute = _ARITHMETIC.get(node.op)
    known = all(content is not None for content in contents) and math.prod(shape) <= MAX_CONTENT
    return [Value(shape=shape, content=compute(*contents) if compute is not None and known else None)]


def _same(node: Node, taken: list[Value]) -> list[Value]:
    return [taken[0]]


def _cast(node: Node, taken: list[Value]) -> list[Value]:
    content, kind = taken[0].content, _KINDS.get(node.attributes["to"])
    return [Value(shape=taken[0].shape, content=None if content is None or kind is None else content.astype(kind))]


def _forgotten(node: Node, taken: list[Value]) -> list[Value]:
    return [Value(shape=taken[0].shape)]


def _constant(node: Node, taken: list[Value]) -> list[Value]:
    (value,) = node.attributes.values()
    if isinstance(value, Value):
        return [value]
    content = np.asarray(value)
    return [Value(shape=content.shape, content=content if content.size <= MAX_CONTENT else None)]


def _concat(node: Node, taken: list[Value]) -> list[Value]:
    axis = _axis(node.attributes["axis"], len(taken[0].shape))
    rest = {(*value.shape[:axis], *value.shape[axis + 1 :]) for value in taken}
    if len(rest) != 1:
        raise SizeError("the sizes of a Concat do not fit")
    shape = list(taken[0].shape)
    shape[axis] = sum(value.shape[axis] for value in taken)
    contents = [value.content for value in taken]
    known = all(content is not None for content in contents) and math.prod(shape) <= MAX_CONTENT
    return [Value(shape=tuple(shape), content=np.concatenate(contents, axis) if known else None)]  # type: ignore[arg-type]


def _conv(node: Node, taken: list[Value]) -> list[Value]:
    image, weight = taken[0].shape, taken[1].shape
    if image[1] != weight[1] * node.attributes.get("group", 1):
        raise SizeError("the channels of a Conv do not fit")
    return [Value(shape=(image[0], weight[0], *_windows(node, image[2:], weight[2:])))]


def _pool(node: Node, taken: list[Value]) -> list[Value]:
    image = taken[0].shape
    return [Value(shape=(*image[:2], *_windows(node, image[2:], node.attributes["kernel_shape"])))]


def _windows(node: Node, sides: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """How often a kernel fits along each side."""
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET" or node.attributes.get("ceil_mode", 0):
        raise SizeError(f"a {node.op} pads by itself")
    count = len(kernel)
    pads = node.attributes.get("pads", [0] * 2 * count)
    strides = node.attributes.get("strides", [1] * count)
    dilations = node.attributes.get("dilations", [1] * count)
    if not len(sides) == count == len(strides) == len(dilations) == len(pads) // 2:
        raise SizeError(f"the sizes of a {node.op} do not fit")
    if min(pads, default=0) < 0 or min(*strides, *dilations, *kernel, 1) < 1:
        raise SizeError(f"the sizes of a {node.op} do not fit")
    return [
        (side + pads[axis] + pads[axis + count] - dilations[axis] * (kernel[axis] - 1) - 1) // strides[axis] + 1
        for axis, side in enumerate(sides)
    ]


def _to_space(node: Node, taken: list[Value]) -> list[Value]:
    (batch, channels, height, width), block = taken[0].shape, node.attributes["blocksize"]
    if channels % block**2:
        raise SizeError("the channels of a DepthToSpace do not fit")
    return [Value(shape=(batch, channels // block**2, height * block, width * block))]


def _to_depth(node: Node, taken: list[Value]) -> list[Value]:
    (batch, channels, height, width), block = taken[0].shape, node.attributes["blocksize"]
    return [Value(shape=(batch, channels * block**2, height // block, width // block))]


def _gather(node: Node, taken: list[Value]) -> list[Value]:
    axis = _axis(node.attributes.get("axis", 0), len(taken[0].shape))
    shape = (*taken[0].shape[:axis], *taken[1].shape, *taken[0].shape[axis + 1 :])
    known = taken[0].content is not None and taken[1].content is not None and math.prod(shape) <= MAX_CONTENT
    return [Value(shape=shape, content=np.take(taken[0].content, taken[1].content, axis) if known else None)]  # type: ignore[arg-type]


def _reduce_sum(node: Node, taken: list[Value]) -> list[Value]:
    shape = taken[0].shape
    axes = {_axis(int(axis), len(shape)) for axis in _content(node, taken[1])}
    if not node.attributes.get("keepdims", 1):
        return [Value(shape=tuple(side for axis, side in enumerate(shape) if axis not in axes))]
    return [Value(shape=tuple(1 if axis in axes else side for axis, side in enumerate(shape)))]


def _reshape(node: Node, taken: list[Value]) -> list[Value]:
    wanted = [int(size) for size in _content(node, taken[1])]
    if not node.attributes.get("allowzero", 0):
        wanted = [taken[0].shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = -math.prod(wanted)
        wanted[wanted.index(-1)] = taken[0].size // rest if rest else 0
    if math.prod(wanted) != taken[0].size:
        raise SizeError("a Reshape does not keep all numbers")
    content = taken[0].content
    return [Value(shape=tuple(wanted), content=None if content is None else content.reshape(wanted))]


def _resize(node: Node, taken: Taken) -> list[Value]:
    image = taken[0]
    sizes = taken[3] if len(taken) > 3 else None
    if image is None or "axes" in node.attributes or node.attributes.get("keep_aspect_ratio_policy") == "not_larger":
        raise SizeError("a Resize is of another kind")
    if sizes is not None:
        return [Value(shape=tuple(int(size) for size in _content(node, sizes)))]
    scales = _content(node, taken[2])
    if len(scales) != len(image.shape):
        raise SizeError("the sizes of a Resize do not fit")
    return [Value(shape=tuple(math.floor(side * scale) for side, scale in zip(image.shape, scales, strict=True)))]


def _shape(node: Node, taken: list[Value]) -> list[Value]:
    sizes = taken[0].shape[node.attributes.get("start", 0) : node.attributes.get("end")]
    return [Value(shape=(len(sizes),), content=np.array(sizes, np.int64))]


def _slice(node: Node, taken: Taken) -> list[Value]:
    image = taken[0]
    if image is None:
        raise SizeError("a Slice has no input")
    starts, ends = (_content(node, value) for value in taken[1:3])
    axes = _content(node, taken[3]) if len(taken) > 3 and taken[3] is not None else range(len(starts))
    steps = _content(node, taken[4]) if len(taken) > 4 else [1] * len(starts)
    parts = [slice(None)] * len(image.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        to_its_beginning = step < 0 and end < -image.shape[int(axis)]
        parts[int(axis)] = slice(int(start), None if to_its_beginning else int(end), int(step))
    shape = tuple(len(range(side)[part]) for side, part in zip(image.shape, parts, strict=True))
    return [Value(shape=shape, content=None if image.content is None else image.content[tuple(parts)])]


def _split(node: Node, taken: Taken) -> list[Value]:
    image, parts = taken[0], len(node.outputs)
    if image is None:
        raise SizeError("a Split has no input")
    axis = _axis(node.attributes.get("axis", 0), len(image.shape))
    side = image.shape[axis]
    if len(taken) > 1:
        sides = [int(size) for size in _content(node, taken[1])]
    else:
        largest = -(-side // parts)
        sides = [min(largest, side - largest * part) for part in range(parts)]
    if sum(sides) != side or len(sides) != parts:
        raise SizeError("the sizes of a Split do not fit")
    return [Value(shape=(*image.shape[:axis], part, *image.shape[axis + 1 :])) for part in sides]


def _squeeze(node: Node, taken: Taken) -> list[Value]:
    image = taken[0]
    if image is None:
        raise SizeError("a Squeeze has no input")
    rank = len(image.shape)
    given = _content(node, taken[1]) if len(taken) > 1 else [axis for axis in range(rank) if image.shape[axis] == 1]
    axes = {_axis(int(axis), rank) for axis in given}
    if any(image.shape[axis] != 1 for axis in axes):
        raise SizeError("a Squeeze drops numbers")
    shape = tuple(side for axis, side in enumerate(image.shape) if axis not in axes)
    return [Value(shape=shape, content=None if image.content is None else image.content.reshape(shape))]


def _unsqueeze(node: Node, taken: list[Value]) -> list[Value]:
    axes = [int(axis) for axis in _content(node, taken[1])]
    rank = len(taken[0].shape) + len(axes)
    places = {_axis(axis, rank) for axis in axes}
    sides = iter(taken[0].shape)
    shape = tuple(1 if axis in places else next(sides) for axis in range(rank))
    content = taken[0].content
    return [Value(shape=shape, content=None if content is None else content.reshape(shape))]


def _transpose(node: Node, taken: list[Value]) -> list[Value]:
    shape = taken[0].shape
    order = node.attributes.get("perm", [*range(len(shape))[::-1]])
    if sorted(order) != [*range(len(shape))]:
        raise SizeError("a Transpose is none")
    return [Value(shape=tuple(shape[axis] for axis in order))]


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise SizeError(f"axis {axis} is not one of {rank}")
    return axis % rank


def _content(node: Node, value: Value | None) -> Any:
    """The content of a value that sizes depend on."""
    if value is None or value.content is None or value.content.ndim > 1:
        raise SizeError(f"the sizes of a {node.op} depend on the picture")
    return np.atleast_1d(value.content).tolist()


def work_of(node: Node, taken: Taken, made: Sequence[Value]) -> int:
    """Multiply-adds of the operators that do more than one for each number that they make."""
    if node.op == "Conv" and taken[1] is not None:
        return made[0].size * math.prod(taken[1].shape[1:])
    if node.op == "AveragePool":
        return made[0].size * int(math.prod(node.attributes["kernel_shape"]))
    if node.op == "ReduceSum" and taken[0] is not None:
        return taken[0].size
    return sum(value.size for value in made)


def _quotient(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Whole numbers divided as ONNX does; None for others."""
    whole = np.issubdtype(one.dtype, np.integer) and np.issubdtype(other.dtype, np.integer)
    return one // other if whole and (one >= 0).all() and (other > 0).all() else None


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _quotient,
}
_KINDS = {1: np.float32, 6: np.int32, 7: np.int64}
MAKERS: dict[str, Maker] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _elementwise),
    **dict.fromkeys(("Exp", "LeakyRelu", "Log", "Neg", "Reciprocal", "Relu", "Sigmoid", "Tanh"), _forgotten),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), _forgotten),
    "Cast": _cast,
    "Identity": _same,
    "AveragePool": _pool,
    "Concat": _concat,
    "Constant": _constant,
    "Conv": _conv,
    "DepthToSpace": _to_space,
    "Gather": _gather,
    "ReduceSum": _reduce_sum,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
    "SpaceToDepth": _to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""By the name of an operator: what makes its outputs of its inputs. Raises: SizeError, or whatever does not fit."""
