"""Reads the structure of an ONNX graph, which is untrusted code, before a runtime sees it.

A small, strict reader of protobuf, since the runtime does not depend on the onnx package: it refuses every field that
srflow-export does not write, and so subgraphs (Loop, Scan, If), sequences and sparse tensors. Weights are skipped, but
for their shapes; those of external data lie in the bundle's sampler. Field numbers are those of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from srflow_sdk.errors import BundleError
from srflow_sdk.model.graph_sizes import ALLOWED_OPS, MAX_CONTENT, Declared, Graph, Node, Values, unknown

ALLOWED_FUNCTIONS = frozenset({"FlowStepTail", "UnsqueezeSplit"})
"""The flow's own nodes, of domain `srflow`, which are functions in a graph."""

MAX_NODES = 50_000
"""Most nodes of a graph once its functions are expanded; the largest one of a full-size ×8 network has 2,398."""

_MAX_FIELDS = 1_000_000  # bounds the time that reading takes
_MAX_DIMENSIONS = 8
_MAX_NUMBER = (1 << 64) - 1  # further bits do not count
_SHARING, _SHARED = "inverter.onnx", "sampler.onnx"  # weights of the first may lie in the second
_DOMAIN = b"srflow"
_DOMAINS = (b"", b"ai.onnx", _DOMAIN)
_CONTENT_KINDS: dict[int, Any] = {1: np.float32, 6: np.int32, 7: np.int64}
_KINDS = {1: "float32", 6: "int32", 7: "int64", 10: "float16", 16: "bfloat16"}
_ATTRIBUTE_FIELDS = {1: 2, 2: 3, 3: 4, 4: 5, 6: 7, 7: 8}  # where an attribute of each type has its value
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES: dict[int, Any] = {_FIXED64: 8, _FIXED32: 4}
_Message = dict[int, list[Any]]


def _keys(**wire_types: tuple[int, ...]) -> frozenset[int]:
    """The keys (number and wire type) of a message's fields."""
    wires = {"varint": _VARINT, "fixed64": _FIXED64, "bytes": _BYTES, "fixed32": _FIXED32}
    return frozenset(number << 3 | wires[name] for name, numbers in wire_types.items() for number in numbers)


# Absent are ModelProto.training_info, GraphProto.sparse_initializer and quantization_annotation, all subgraphs and
# sparse tensors of AttributeProto, TensorProto.string_data, and the other TypeProtos.
_FIELDS = {
    "a model": _keys(varint=(1, 5), bytes=(2, 3, 4, 6, 7, 8, 14, 25)),
    "a graph": _keys(bytes=(1, 2, 5, 10, 11, 12, 13, 16)),
    "a function": _keys(bytes=(1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14)),
    "a node": _keys(bytes=(1, 2, 3, 4, 5, 6, 7, 9)),
    "an attribute": _keys(varint=(3, 8, 20), fixed32=(2, 7), bytes=(1, 4, 5, 7, 8, 9, 13, 21)),
    "a tensor": _keys(varint=(1, 2, 5, 7, 14), fixed32=(4,), fixed64=(10,), bytes=(4, 5, 7, 8, 9, 10, 12, 13, 16)),
    "a place": _keys(bytes=(1, 2)),
    "a value": _keys(bytes=(1, 2, 3, 4)),
    "a type": _keys(bytes=(1, 6)),
    "a type of tensors": _keys(varint=(1,), bytes=(2,)),
    "a shape": _keys(bytes=(1,)),
    "a size": _keys(varint=(1,), bytes=(2, 3)),
}
_REFUSED = {
    ("a model", 20): "training information",
    ("a graph", 15): "sparse weights",
    ("an attribute", 6): "a subgraph",
    ("an attribute", 11): "subgraphs",
    ("a tensor", 6): "text",
    ("a type", 4): "a sequence",
}
"""Names of fields that are refused, for people."""


def read_graph(path: Path) -> Graph:
    """Read and check an ONNX file.

    Raises: BundleError, naming the file, if it is no ONNX graph or holds anything that srflow-export does not write.
    """
    try:
        shared = path.with_name(_SHARED).stat().st_size if path.name == _SHARING else 0
        return _Reader(path.read_bytes(), shared).model()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    except IndexError as error:  # the file ends in the middle of a number
        raise refusal(path, "it is cut off") from error
    except _OddGraphError as error:
        raise refusal(path, str(error)) from error


def refusal(path: Path, reason: str) -> BundleError:
    """The error for a graph that must not be run."""
    return BundleError(
        f"{path} is not a graph that srflow-export writes, so it is not run: {reason}; fetch or export the bundle "
        "again, or pip install -U srflow-sdk"
    )


class _OddGraphError(Exception):
    """Why a graph is refused."""


@dataclass(frozen=True)
class _Reference:
    """Stands for an attribute of the node that calls a function."""

    name: str


@dataclass(frozen=True, kw_only=True)
class _Function:
    """A function of a graph. defaults: attributes that a call may leave out."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    defaults: Mapping[str, Any]


class _Reader:
    """Reads one file. A message, and what is not a number in it, is known by its place there."""

    def __init__(self, data: bytes, shared: int) -> None:
        self._data = data
        self._shared = shared  # size of the file in which weights may lie
        self._left = _MAX_FIELDS
        self._known_attributes: dict[bytes, tuple[str, Any]] = {}  # most convolutions have the same ones

    def model(self) -> Graph:
        message = self._message("a model", slice(0, len(self._data)))
        functions: dict[str, _Function] = {}
        for part in message[25]:
            name, function = self._function(part)
            if name in functions:
                raise _OddGraphError(f"it has two functions {name}")
            functions[name] = function
        if len(message[7]) != 1:
            raise _OddGraphError(f"it has {len(message[7])} graphs instead of one")
        graph = self._message("a graph", message[7][0])
        nodes: list[Node] = []
        for number, part in enumerate(graph[1]):
            nodes += _expanded(self._node(part, callable_functions=ALLOWED_FUNCTIONS), functions, number)
            if len(nodes) > MAX_NODES:
                raise _OddGraphError(f"it has more than {MAX_NODES} nodes")
        weights = dict(map(self._tensor, graph[5]))
        inputs, outputs, _ = (dict(map(self._value, graph[number])) for number in (11, 12, 13))
        inputs = {name: value for name, value in inputs.items() if name not in weights}
        return Graph(inputs=inputs, outputs=outputs, weights=weights, nodes=tuple(nodes))

    def _function(self, part: slice) -> tuple[str, _Function]:
        """A function by its name. It may not call functions, so that expansion cannot explode."""
        found = self._message("a function", part)
        name, domain = self._last(found[1]), self._last(found[10])
        if domain != _DOMAIN or _text(name) not in ALLOWED_FUNCTIONS:
            raise _OddGraphError(f"it has a function {_qualified(domain, name)}")
        return _text(name), _Function(
            inputs=self._names(found[4]),
            outputs=self._names(found[5]),
            nodes=tuple(self._node(node, callable_functions=frozenset()) for node in found[7]),
            defaults=dict(map(self._attribute, found[11])),
        )

    def _node(self, part: slice, *, callable_functions: frozenset[str]) -> Node:
        found = self._message("a node", part)
        name, domain = self._last(found[4]), self._last(found[7])
        op, attributes = _text(name), dict(map(self._attribute, found[5]))
        if len(attributes) < len(found[5]):
            raise _OddGraphError("a node has an attribute twice")
        if op not in (callable_functions if domain == _DOMAIN else ALLOWED_OPS) or domain not in _DOMAINS:
            raise _OddGraphError(f"it uses the operator {_qualified(domain, name)}")
        return Node(op=op, inputs=self._names(found[1]), outputs=self._names(found[2]), attributes=attributes)

    def _attribute(self, part: slice) -> tuple[str, Any]:
        """An attribute's name and its value: a number, a list, a text, a tensor, or the caller's."""
        content = self._data[part]
        if content not in self._known_attributes:
            found = self._message("an attribute", part)
            number = _ATTRIBUTE_FIELDS.get(found[20][-1] if found[20] else 0, 0)
            values: list[Any] = found[number]
            if number in (2, 7):
                values = self._content(values, np.float32).tolist()
            elif number in (3, 8):
                values = self._integers(values)
            elif number == 4:
                values = [_text(self._data[value]) for value in values]
            elif number == 5:
                values = [self._tensor(value)[1] for value in values]
            value = values if number in (7, 8) else values[-1] if values else None
            if found[21]:
                value = _Reference(_text(self._last(found[21])))
            self._known_attributes[content] = _name(self._last(found[1])), value
        return self._known_attributes[content]

    def _tensor(self, part: slice) -> tuple[str, Values]:
        """A tensor's name, and its content if it is small and of a kind that sizes may depend on; else its shape."""
        found = self._message("a tensor", part)
        dims, nbytes = found[1], part.stop - part.start
        if found[13] or any(found[14]):
            nbytes = self._shared_bytes(found)
        size = math.prod(dims)
        if len(dims) > _MAX_DIMENSIONS or size > nbytes:  # a value takes at least a byte
            raise _OddGraphError(
                f"a tensor of {'×'.join(map(str, dims[:8]))} values is too large for its {nbytes} bytes"
            )
        name = _name(self._last(found[8]))
        kind = _CONTENT_KINDS.get(found[2][-1] if found[2] else 0)
        if kind is None or size > MAX_CONTENT:
            return name, unknown(dims)
        numbers = self._content(found[9] or (found[4] if kind == np.float32 else []), kind)
        if kind == np.int64 and not found[9]:
            numbers = np.array(self._integers(found[7]), kind)
        return name, numbers.reshape(dims) if numbers.size == size else unknown(dims)

    def _shared_bytes(self, tensor: _Message) -> int:
        """How many bytes of the shared file an external tensor is, which must lie within it and have no other data."""
        entries = [self._message("a place", part) for part in tensor[13]]
        place = {self._last(entry[1]): self._last(entry[2]) for entry in entries}
        numbers = [place.get(key, b"") for key in (b"offset", b"length")]
        whole = tensor[14] == [1] and len(entries) == 3 and not any(tensor[field] for field in (4, 5, 7, 9, 10))
        whole = whole and all(re.fullmatch(rb"\d{1,18}", number) for number in numbers)
        if not whole or place.get(b"location") != _SHARED.encode() or sum(map(int, numbers)) > self._shared:
            raise _OddGraphError("it has external data, elsewhere than an inverter's in " + _SHARED)
        return int(numbers[1])

    def _value(self, part: slice) -> tuple[str, Declared]:
        """The name of a graph's input or output, and what it is declared as."""
        found = self._message("a value", part)
        kind, shape = "nothing", []
        for type_ in found[2]:
            for tensors in self._message("a type", type_)[1]:
                declared = self._message("a type of tensors", tensors)
                number = declared[1][-1] if declared[1] else 0
                kind = _KINDS.get(number, f"type {number}")
                sizes = [size for part in declared[2] for size in self._message("a shape", part)[1]]
                shape = [self._integers(self._message("a size", size)[1]) for size in sizes]
        return _name(self._last(found[1])), Declared(kind, tuple(size[-1] if size else None for size in shape))

    def _last(self, parts: list[slice]) -> bytes:
        """The content of a field that occurs once; of several the last counts."""
        return self._data[parts[-1]] if parts else b""

    def _names(self, parts: list[slice]) -> tuple[str, ...]:
        return tuple([_name(self._data[part]) for part in parts])

    def _content(self, parts: list[slice], kind: Any) -> Values:
        """The numbers that lie there."""
        content = b"".join(self._data[part] for part in parts)
        return np.frombuffer(content, kind, count=len(content) // np.dtype(kind).itemsize)

    def _integers(self, fields: list[Any]) -> list[int]:
        """The numbers of a field that occurs once for each, or packs them, with their signs."""
        numbers: list[int] = []
        for field in fields:
            numbers += self._packed(field) if isinstance(field, slice) else [field]
        return [number - (1 << 64) if number >> 63 else number for number in numbers]

    def _packed(self, part: slice) -> Iterator[int]:
        at = part.start
        while at < part.stop:
            value, at = self._varint(at)
            yield value
            self._left -= 1
        if at > part.stop or self._left < 0:
            raise _OddGraphError("it is cut off, or not ONNX")

    def _message(self, what: str, part: slice) -> _Message:
        """A message's fields by number: numbers, and the places of what is none."""
        data, at, end, allowed = self._data, part.start, part.stop, _FIELDS[what]
        found: _Message = defaultdict(list)
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise _OddGraphError(f"it has more than {_MAX_FIELDS} fields")
            key, at = (data[at], at + 1) if data[at] < 128 else self._varint(at)
            if key not in allowed:
                odd = _REFUSED.get((what, key >> 3), f"the unknown field {key >> 3}")
                raise _OddGraphError(f"it has {odd} in {what}")
            kind, number = key & 7, _FIXED_SIZES.get(key & 7)
            if number is None:
                number, at = (data[at], at + 1) if data[at] < 128 else self._varint(at)
            start, at = at, at if kind == _VARINT else at + number
            if at > end:
                raise _OddGraphError("it is cut off, or not ONNX")
            found[key >> 3].append(number if kind == _VARINT else slice(start, at))
        return found

    def _varint(self, at: int) -> tuple[int, int]:
        """The number there, and where the next thing begins."""
        value = 0
        for shift in range(0, 64, 7):
            byte = self._data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & _MAX_NUMBER, at
        raise _OddGraphError("it is not ONNX")


def _expanded(call: Node, functions: Mapping[str, _Function], number: int) -> Iterator[Node]:
    """A node, or those of the function that it calls, with the caller's names and attributes."""
    if call.op not in ALLOWED_FUNCTIONS:
        yield call
        return
    if call.op not in functions:
        raise _OddGraphError(f"it uses the function {call.op} but does not define it")
    function = functions[call.op]
    names = {"": "", **dict(zip(function.inputs, call.inputs, strict=False))}
    names |= zip(function.outputs, call.outputs, strict=False)
    given = {**function.defaults, **call.attributes}
    for node in function.nodes:
        attributes = {
            name: given.get(value.name) if isinstance(value, _Reference) else value
            for name, value in node.attributes.items()
        }
        yield replace(
            node,
            inputs=tuple(names.get(name, f"\0{number}\0{name}") for name in node.inputs),
            outputs=tuple(names.get(name, f"\0{number}\0{name}") for name in node.outputs),
            attributes={name: value for name, value in attributes.items() if value is not None},
        )


def _name(name: bytes) -> str:
    """The name of a value or attribute; every byte counts."""
    return name.decode("latin-1")


def _text(name: bytes) -> str:
    return name.decode("ascii", errors="replace")


def _qualified(domain: bytes, name: bytes) -> str:
    """A name for an error message, without characters that a terminal would obey."""
    return ascii(_text((domain + b"::" if domain else b"") + name)[:60])
