"""What a graph would compute, from the sizes of its inputs alone: how large each value is, and how much work it takes.

Allowed operators can still ask for gigabytes or hours: a Resize by 3000, a Conv that pads by 10^6, thirty Concats that
double a value. So the sizes are followed through the graph before a runtime sees it, as the ONNX operators define them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from srflow_sdk.model.graph_operators import MAKERS, Node, Shape, SizeError, Value, work_of

MAX_SIZE = 1 << 40
"""Most numbers in one value, before anything is multiplied further."""


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
    """What one run takes. shapes: of its outputs. numbers: most that are held at a time. work: multiply-adds."""

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
    kept = {*outputs}
    held: dict[str, int] = {}  # without the weights, which the file bounds
    most = work = 0
    for number, node in enumerate(flat):
        try:
            taken = [known[name] if name else None for name in node.inputs]
            made = MAKERS[node.op](node, taken)
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
        work += work_of(node, taken, made)
        most = max(most, sum(held.values()))
        for name in (*node.inputs, *node.outputs):  # outputs that nobody uses are gone at once
            if last_use.get(name, number) == number and name not in kept:
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
