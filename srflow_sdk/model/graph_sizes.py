"""Follows the sizes of a graph's values from those of its inputs: how large each is, and how much work it takes.

Allowed operators can still ask for gigabytes or hours: a Resize by 3000, a Conv that pads by 10^6, thirty Concats that
double a value. So the sizes are followed through the graph before a runtime sees it, as the ONNX operators define them.
Bounds on each node alone would not do: a column times a row is the square of the picture, and harmless where that is
small.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]
Values = NDArray[Any]

MAX_CONTENT = 64
"""Most numbers of a value whose content is followed."""

MAX_SIZE = 1 << 40
"""Most numbers in one value, before anything is multiplied further."""

_UNKNOWN = np.dtype(np.int8)  # no followed content has this type


class SizeError(Exception):
    """Sizes do not fit, or cannot be followed, as those of every graph that srflow-export writes can."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """An operator. attributes: numbers, lists, texts, or :func:`unknown` values and contents."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Declared:
    """An input or output as a graph declares it. kind: such as "float32". shape: None for sizes that are free."""

    kind: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sizes = "×".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.kind} of {sizes or 'no dimensions'}"


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A graph. inputs, outputs, weights: by name; of large weights only the shape. nodes: none calls a function."""

    inputs: dict[str, Declared]
    outputs: dict[str, Declared]
    weights: dict[str, Values]
    nodes: tuple[Node, ...]

    @property
    def ops(self) -> Counter[str]:
        """How often each operator occurs."""
        return Counter(node.op for node in self.nodes)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one run. shapes: of its outputs. numbers: most that are held at a time. work: multiply-adds."""

    shapes: dict[str, Shape]
    numbers: int
    work: int


def unknown(shape: Sequence[int]) -> Values:
    """A value of which only the shape is known; it takes no memory."""
    value: Values = np.ndarray(shape, _UNKNOWN, buffer=b"\0", strides=(0,) * len(shape))
    return value


def cost_of(graph: Graph, inputs: Mapping[str, Shape]) -> Cost:
    """Follow sizes through a graph from those of its inputs. Raises: SizeError."""
    known = {**graph.weights, **{name: unknown(shape) for name, shape in inputs.items()}}
    last_use = {name: number for number, node in enumerate(graph.nodes) for name in node.inputs}
    held: dict[str, int] = {}  # without the weights, which the file bounds
    most = work = 0
    for number, node in enumerate(graph.nodes):
        try:
            taken: list[Any] = [known[name] if name else None for name in node.inputs]
            made = _MAKERS[node.op](node, taken)
            work += _work_of(node, taken, made)
        except SizeError:
            raise
        except Exception as error:  # absent inputs and attributes, axes and sizes that do not fit
            raise SizeError(f"the sizes of a {node.op} do not fit ({type(error).__name__}: {error})") from error
        for name, value in zip(node.outputs, made, strict=False):
            if value.size > MAX_SIZE:
                raise SizeError(f"a {node.op} makes a value of {'×'.join(map(str, value.shape))}")
            if name in known:
                raise SizeError("a value is made twice")
            known[name] = value
            held[name] = value.size
        most = max(most, sum(held.values()))
        for name in (*node.inputs, *node.outputs):  # outputs that nobody uses are gone at once
            if last_use.get(name, number) == number and name not in graph.outputs:
                held.pop(name, None)
    try:
        return Cost(shapes={name: known[name].shape for name in graph.outputs}, numbers=most, work=work)
    except KeyError as error:
        raise SizeError(f"nothing makes its output {error}") from error


def _work_of(node: Node, taken: Sequence[Values], made: Sequence[Values]) -> int:
    """Multiply-adds: one for each number that is made, but for operators that do more."""
    if node.op == "Conv":
        return made[0].size * math.prod(taken[1].shape[1:])
    if node.op == "AveragePool":
        return made[0].size * int(math.prod(node.attributes["kernel_shape"]))
    if node.op == "ReduceSum":
        return taken[0].size
    return sum(value.size for value in made)


def _is_known(value: Values) -> bool:
    return value.dtype != _UNKNOWN


def _numbers(node: Node, value: Values | None) -> list[Any]:
    """The content of a value that sizes depend on."""
    if value is None or not _is_known(value) or value.ndim > 1:
        raise SizeError(f"the sizes of a {node.op} depend on the picture")
    return list(np.atleast_1d(value).tolist())


def _made(shape: Sequence[int], compute: Callable[..., Values], taken: Sequence[Values]) -> list[Values]:
    """One value, with its content if that is small and known of all that it is computed from."""
    is_followed = math.prod(shape) <= MAX_CONTENT and all(map(_is_known, taken))
    return [compute(*taken) if is_followed else unknown(shape)]


def _elementwise(compute: Callable[..., Values]) -> _Maker:
    return lambda node, taken: _made(np.broadcast_shapes(*(value.shape for value in taken[:2])), compute, taken)


def _quotient(one: Values, other: Values) -> Values:
    """Whole numbers divided as ONNX does; others are not followed."""
    whole = np.issubdtype(one.dtype, np.integer) and np.issubdtype(other.dtype, np.integer)
    follow = whole and (one >= 0).all() and (other > 0).all()
    return one // other if follow else unknown(np.broadcast_shapes(one.shape, other.shape))


def _same_size(node: Node, taken: list[Values]) -> list[Values]:
    return [unknown(taken[0].shape)]


def _cast(node: Node, taken: list[Values]) -> list[Values]:
    kind = {1: np.float32, 6: np.int32, 7: np.int64}.get(node.attributes["to"])
    return _made(taken[0].shape, lambda content: content.astype(kind), taken) if kind else _same_size(node, taken)


def _constant(node: Node, taken: list[Values]) -> list[Values]:
    (content,) = map(np.asarray, node.attributes.values())
    return _made(content.shape, lambda value: value, [content])


def _concat(node: Node, taken: list[Values]) -> list[Values]:
    shape = list(taken[0].shape)
    axis = range(len(shape))[node.attributes["axis"]]
    if len({(*value.shape[:axis], *value.shape[axis + 1 :]) for value in taken}) != 1:
        raise SizeError("the sizes of a Concat do not fit")
    shape[axis] = sum(value.shape[axis] for value in taken)
    return _made(shape, lambda *contents: np.concatenate(contents, axis), taken)


def _conv(node: Node, taken: list[Values]) -> list[Values]:
    image, weight = taken[0].shape, taken[1].shape
    if image[1] != weight[1] * node.attributes.get("group", 1):
        raise SizeError("the channels of a Conv do not fit")
    return [unknown((image[0], weight[0], *_windows(node, image[2:], weight[2:])))]


def _pool(node: Node, taken: list[Values]) -> list[Values]:
    image = taken[0].shape
    return [unknown((*image[:2], *_windows(node, image[2:], node.attributes["kernel_shape"])))]


def _windows(node: Node, sides: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """How often a kernel fits along each side."""
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET" or node.attributes.get("ceil_mode", 0):
        raise SizeError(f"a {node.op} chooses its padding itself")
    count = len(kernel)
    pads = node.attributes.get("pads", [0] * 2 * count)
    strides = node.attributes.get("strides", [1] * count)
    dilations = node.attributes.get("dilations", [1] * count)
    fits = len(sides) == count == len(strides) == len(dilations) == len(pads) / 2
    if not fits or min(*pads, 0) < 0 or min(*strides, *dilations, *kernel, 1) < 1:
        raise SizeError(f"the sizes of a {node.op} do not fit")
    return [
        (side + pads[axis] + pads[axis + count] - dilations[axis] * (kernel[axis] - 1) - 1) // strides[axis] + 1
        for axis, side in enumerate(sides)
    ]


def _to_space(node: Node, taken: list[Values]) -> list[Values]:
    (batch, channels, height, width), block = taken[0].shape, node.attributes["blocksize"]
    if channels % block**2:
        raise SizeError("the channels of a DepthToSpace do not fit")
    return [unknown((batch, channels // block**2, height * block, width * block))]


def _to_depth(node: Node, taken: list[Values]) -> list[Values]:
    (batch, channels, height, width), block = taken[0].shape, node.attributes["blocksize"]
    return [unknown((batch, channels * block**2, height // block, width // block))]


def _gather(node: Node, taken: list[Values]) -> list[Values]:
    data, indices = taken[0].shape, taken[1].shape
    axis = range(len(data))[node.attributes.get("axis", 0)]
    return _made(
        (*data[:axis], *indices, *data[axis + 1 :]), lambda values, places: np.take(values, places, axis), taken
    )


def _reduce_sum(node: Node, taken: list[Values]) -> list[Values]:
    shape = list(taken[0].shape)
    axes = _numbers(node, taken[1])
    for axis in axes:
        shape[axis] = 1
    reduced = unknown(shape)
    return [reduced if node.attributes.get("keepdims", 1) else np.squeeze(reduced, tuple(axes))]


def _reshape(node: Node, taken: list[Values]) -> list[Values]:
    wanted = _numbers(node, taken[1])
    if not node.attributes.get("allowzero", 0):
        wanted = [taken[0].shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    source = taken[0] if _is_known(taken[0]) else unknown(taken[0].shape)  # a view of a view might need a copy
    return [source.reshape(wanted)]


def _resize(node: Node, taken: list[Values]) -> list[Values]:
    if "axes" in node.attributes or node.attributes.get("keep_aspect_ratio_policy") == "not_larger":
        raise SizeError("a Resize has attributes that srflow-export does not write")
    if len(taken) > 3:
        return [unknown(list(map(int, _numbers(node, taken[3]))))]
    scales = _numbers(node, taken[2])
    return [unknown([math.floor(side * by) for side, by in zip(taken[0].shape, scales, strict=True)])]


def _shape(node: Node, taken: list[Values]) -> list[Values]:
    return [np.array(taken[0].shape[node.attributes.get("start", 0) : node.attributes.get("end")], np.int64)]


def _slice(node: Node, taken: list[Values]) -> list[Values]:
    starts, ends = (_numbers(node, value) for value in taken[1:3])
    axes = _numbers(node, taken[3]) if len(taken) > 3 and taken[3] is not None else range(len(starts))
    steps = _numbers(node, taken[4]) if len(taken) > 4 else [1] * len(starts)
    parts = [slice(None)] * taken[0].ndim
    for axis, *part in zip(axes, starts, ends, steps, strict=True):
        parts[axis] = slice(*part)
    return [taken[0][tuple(parts)]]


def _split(node: Node, taken: list[Values]) -> list[Values]:
    axis, parts = node.attributes.get("axis", 0), len(node.outputs)
    side = taken[0].shape[axis]
    largest = -(-side // parts)
    equal = [min(largest, side - largest * part) for part in range(parts)]
    sides = _numbers(node, taken[1]) if len(taken) > 1 else equal
    if sum(sides) != side or len(sides) != parts or min(sides) < 0:
        raise SizeError("the sizes of a Split do not fit")
    return np.split(taken[0], np.cumsum(sides)[:-1], axis)


def _squeeze(node: Node, taken: list[Values]) -> list[Values]:
    return [np.squeeze(taken[0], tuple(_numbers(node, taken[1])) if len(taken) > 1 else None)]


_Maker = Callable[[Node, Any], list[Values]]
_MAKERS: dict[str, _Maker] = {
    **dict.fromkeys(("Exp", "LeakyRelu", "Log", "Neg", "Reciprocal", "Relu", "Sigmoid", "Tanh"), _same_size),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), _same_size),
    "Add": _elementwise(np.add),
    "AveragePool": _pool,
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "Conv": _conv,
    "DepthToSpace": _to_space,
    "Div": _elementwise(_quotient),
    "Gather": _gather,
    "Identity": lambda node, taken: [taken[0]],
    "Mul": _elementwise(np.multiply),
    "ReduceSum": _reduce_sum,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
    "SpaceToDepth": _to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _elementwise(np.subtract),
    "Transpose": lambda node, taken: [np.transpose(taken[0], node.attributes.get("perm"))],
    "Unsqueeze": lambda node, taken: [np.expand_dims(taken[0], tuple(_numbers(node, taken[1])))],
}
"""By the name of an operator: what makes its outputs of its inputs. Raises: SizeError, or whatever does not fit."""

ALLOWED_OPS = frozenset(_MAKERS)
"""ONNX operators that srflow-export writes, or wrote in bundles that still run (Identity, Squeeze, Transpose)."""
