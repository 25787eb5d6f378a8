"""Follows the sizes of a graph's values from those of its inputs: how large each is, and how much work it takes.

Allowed operators can still ask for gigabytes or hours: a Resize by 3000, a Conv that pads by 10^6, thirty Concats that
double a value. So the sizes are followed through the graph before a runtime sees it, as the ONNX operators define them.
Bounds on each node alone would not do: a column times a row is the square of the picture, and harmless where that is
small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

MAX_CONTENT = 64
"""Most numbers of a value whose content is followed."""

MAX_SIZE = 1 << 40
"""Most numbers in one value, before anything is multiplied further."""


class SizeError(Exception):
    """Sizes do not fit, or cannot be followed, as those of every graph that srflow-export writes can."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """A value's shape, and its content if the sizes of others may depend on it: a few constants or sizes."""

    shape: Shape
    content: _Array | None = None

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


@dataclass(frozen=True)
class Reference:
    """Stands for an attribute of the node that calls a function."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function of a graph. defaults: attributes that a call may leave out."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    defaults: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one run. shapes: of its outputs. numbers: most that are held at a time. work: multiply-adds."""

    shapes: dict[str, Shape]
    numbers: int
    work: int


def cost_of(
    nodes: Sequence[Node],
    functions: Mapping[str, Function],
    values: Mapping[str, Value],
    outputs: Sequence[str],
) -> Cost:
    """Follow sizes through a graph. values: its inputs and weights by name. Raises: SizeError."""
    known = dict(values)
    flat = _expanded(nodes, functions)
    last_use = {name: number for number, node in enumerate(flat) for name in node.inputs}
    held: dict[str, int] = {}  # without the weights, which the file bounds
    most = work = 0
    for number, node in enumerate(flat):
        try:
            taken: list[Any] = [known[name] if name else None for name in node.inputs]
            made = _MAKERS[node.op](node, taken)
            work += _work_of(node, taken, made)
        except SizeError:
            raise
        except Exception as error:  # absent inputs and attributes, axes and sizes that do not fit
            raise SizeError(f"the sizes of a {node.op} do not fit ({type(error).__name__}: {error})") from error
        for name, value in zip(node.outputs, made, strict=False):
            if min(value.shape, default=0) < 0 or value.size > MAX_SIZE:
                raise SizeError(f"a {node.op} makes a value of {'×'.join(map(str, value.shape))}")
            if name in known:
                raise SizeError("a value is made twice")
            known[name] = value
            held[name] = value.size
        most = max(most, sum(held.values()))
        for name in (*node.inputs, *node.outputs):  # outputs that nobody uses are gone at once
            if last_use.get(name, number) == number and name not in outputs:
                held.pop(name, None)
    try:
        return Cost(shapes={name: known[name].shape for name in outputs}, numbers=most, work=work)
    except KeyError as error:
        raise SizeError(f"nothing makes its output {error}") from error


def _expanded(nodes: Sequence[Node], functions: Mapping[str, Function]) -> list[Node]:
    """The nodes with functions, which call none themselves, in the place of their calls."""
    flat = []
    for number, node in enumerate(nodes):
        function = functions.get(node.op)
        if function is None:
            flat.append(node)
            continue
        names = dict(zip(function.inputs, node.inputs, strict=False))
        names |= dict(zip(function.outputs, node.outputs, strict=False))
        given = {**function.defaults, **node.attributes}
        for inner in function.nodes:
            flat.append(_called(inner, names, given, prefix=f"\0{number}\0"))
    return flat


def _called(node: Node, names: Mapping[str, str], given: Mapping[str, Any], *, prefix: str) -> Node:
    """A function's node, with the caller's names and attributes."""
    attributes = {
        name: given.get(value.name) if isinstance(value, Reference) else value
        for name, value in node.attributes.items()
    }
    return Node(
        op=node.op,
        inputs=tuple(names.get(name, prefix + name) if name else "" for name in node.inputs),
        outputs=tuple(names.get(name, prefix + name) for name in node.outputs),
        attributes={name: value for name, value in attributes.items() if value is not None},
    )


def _work_of(node: Node, taken: Sequence[Value], made: Sequence[Value]) -> int:
    """Multiply-adds: one for each number that is made, but for operators that do more."""
    if node.op == "Conv":
        return made[0].size * math.prod(taken[1].shape[1:])
    if node.op == "AveragePool":
        return made[0].size * int(math.prod(node.attributes["kernel_shape"]))
    if node.op == "ReduceSum":
        return taken[0].size
    return sum(value.size for value in made)


def _numbers(node: Node, value: Value | None) -> list[Any]:
    """The content of a value that sizes depend on."""
    if value is None or value.content is None or value.content.ndim > 1:
        raise SizeError(f"the sizes of a {node.op} depend on the picture")
    return list(np.atleast_1d(value.content).tolist())


def _made(shape: Sequence[int], compute: Callable[..., _Array | None] | None, taken: Sequence[Value]) -> list[Value]:
    """One value, with its content if that is small and known of all that it is computed from."""
    if compute is None or math.prod(shape) > MAX_CONTENT or any(value.content is None for value in taken):
        return [Value(shape=tuple(shape))]
    return [Value(shape=tuple(shape), content=compute(*(value.content for value in taken)))]


def _viewed(value: Value, view: Callable[[_Array], _Array]) -> list[Value]:
    """The value that an operator makes by arranging numbers, as numpy does it to an array that takes no memory."""
    content = value.content
    seen = view(np.broadcast_to(np.int8(0), value.shape) if content is None else content)
    return [Value(shape=seen.shape, content=None if content is None else seen)]


def _elementwise(node: Node, taken: list[Value]) -> list[Value]:
    shape = np.broadcast_shapes(*(value.shape for value in taken[:2]))
    return _made(shape, _ARITHMETIC.get(node.op), taken)


def _same_size(node: Node, taken: list[Value]) -> list[Value]:
    return [Value(shape=taken[0].shape)]


def _cast(node: Node, taken: list[Value]) -> list[Value]:
    kind = {1: np.float32, 6: np.int32, 7: np.int64}.get(node.attributes["to"])
    return _made(taken[0].shape, None if kind is None else lambda content: content.astype(kind), taken)


def _constant(node: Node, taken: list[Value]) -> list[Value]:
    (value,) = node.attributes.values()
    if isinstance(value, Value):
        return [value]
    content = np.asarray(value)
    return _made(content.shape, lambda: content, ())


def _concat(node: Node, taken: list[Value]) -> list[Value]:
    shape = list(taken[0].shape)
    axis = range(len(shape))[node.attributes["axis"]]
    if len({(*value.shape[:axis], *value.shape[axis + 1 :]) for value in taken}) != 1:
        raise SizeError("the sizes of a Concat do not fit")
    shape[axis] = sum(value.shape[axis] for value in taken)
    return _made(shape, lambda *contents: np.concatenate(contents, axis), taken)


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


def _to_space(node: Node, taken: list[Value]) -> list[Value]:
    (batch, channels, height, width), block = taken[0].shape, node.attributes["blocksize"]
    if channels % block**2:
        raise SizeError("the channels of a DepthToSpace do not fit")
    return [Value(shape=(batch, channels // block**2, height * block, width * block))]


def _to_depth(node: Node, taken: list[Value]) -> list[Value]:
    (batch, channels, height, width), block = taken[0].shape, node.attributes["blocksize"]
    return [Value(shape=(batch, channels * block**2, height // block, width // block))]


def _gather(node: Node, taken: list[Value]) -> list[Value]:
    data, indices = taken[0].shape, taken[1].shape
    axis = range(len(data))[node.attributes.get("axis", 0)]
    shape = (*data[:axis], *indices, *data[axis + 1 :])
    return _made(shape, lambda values, places: np.take(values, places, axis), taken)


def _reduce_sum(node: Node, taken: list[Value]) -> list[Value]:
    shape = list(taken[0].shape)
    axes = _numbers(node, taken[1])
    for axis in axes:
        shape[axis] = 1
    reduced = Value(shape=tuple(shape))
    return [reduced] if node.attributes.get("keepdims", 1) else _viewed(reduced, lambda x: np.squeeze(x, tuple(axes)))


def _reshape(node: Node, taken: list[Value]) -> list[Value]:
    wanted = _numbers(node, taken[1])
    if not node.attributes.get("allowzero", 0):
        wanted = [taken[0].shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return _viewed(taken[0], lambda x: x.reshape(wanted))


def _resize(node: Node, taken: list[Value]) -> list[Value]:
    if "axes" in node.attributes or node.attributes.get("keep_aspect_ratio_policy") == "not_larger":
        raise SizeError("a Resize has attributes that srflow-export does not write")
    if len(taken) > 3:
        return [Value(shape=tuple(map(int, _numbers(node, taken[3]))))]
    scales = _numbers(node, taken[2])
    return [Value(shape=tuple(math.floor(side * by) for side, by in zip(taken[0].shape, scales, strict=True)))]


def _shape(node: Node, taken: list[Value]) -> list[Value]:
    sizes = taken[0].shape[node.attributes.get("start", 0) : node.attributes.get("end")]
    return [Value(shape=(len(sizes),), content=np.array(sizes, np.int64))]


def _slice(node: Node, taken: list[Value]) -> list[Value]:
    starts, ends = (_numbers(node, value) for value in taken[1:3])
    axes = _numbers(node, taken[3]) if len(taken) > 3 and taken[3] is not None else range(len(starts))
    steps = _numbers(node, taken[4]) if len(taken) > 4 else [1] * len(starts)
    parts = [slice(None)] * len(taken[0].shape)
    for axis, *part in zip(axes, starts, ends, steps, strict=True):
        parts[axis] = slice(*part)
    return _viewed(taken[0], lambda x: x[tuple(parts)])


def _split(node: Node, taken: list[Value]) -> list[Value]:
    shape, parts = taken[0].shape, len(node.outputs)
    axis = range(len(shape))[node.attributes.get("axis", 0)]
    largest = -(-shape[axis] // parts)
    equal = [min(largest, shape[axis] - largest * part) for part in range(parts)]
    sides = _numbers(node, taken[1]) if len(taken) > 1 else equal
    if sum(sides) != shape[axis] or len(sides) != parts:
        raise SizeError("the sizes of a Split do not fit")
    return [Value(shape=(*shape[:axis], side, *shape[axis + 1 :])) for side in sides]


def _squeeze(node: Node, taken: list[Value]) -> list[Value]:
    axes = tuple(_numbers(node, taken[1])) if len(taken) > 1 else None
    return _viewed(taken[0], lambda x: np.squeeze(x, axes))


def _unsqueeze(node: Node, taken: list[Value]) -> list[Value]:
    axes = tuple(_numbers(node, taken[1]))
    return _viewed(taken[0], lambda x: np.expand_dims(x, axes))


def _transpose(node: Node, taken: list[Value]) -> list[Value]:
    return _viewed(taken[0], lambda x: np.transpose(x, node.attributes.get("perm")))


def _quotient(one: _Array, other: _Array) -> _Array | None:
    """Whole numbers divided as ONNX does; None for others."""
    whole = np.issubdtype(one.dtype, np.integer) and np.issubdtype(other.dtype, np.integer)
    return one // other if whole and (one >= 0).all() and (other > 0).all() else None


_ARITHMETIC: dict[str, Callable[..., Any]] = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _quotient}
_Maker = Callable[[Node, Any], list[Value]]
_MAKERS: dict[str, _Maker] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _elementwise),
    **dict.fromkeys(("Exp", "LeakyRelu", "Log", "Neg", "Reciprocal", "Relu", "Sigmoid", "Tanh"), _same_size),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), _same_size),
    "AveragePool": _pool,
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "Conv": _conv,
    "DepthToSpace": _to_space,
    "Gather": _gather,
    "Identity": lambda node, taken: [taken[0]],
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

ALLOWED_OPS = frozenset(_MAKERS)
"""ONNX operators that srflow-export writes, or wrote in bundles that still run (Identity, Squeeze, Transpose)."""
