"""Reads the structure of an ONNX graph, which is untrusted code, before a runtime sees it.

A small, strict reader of protobuf, since the runtime does not depend on the onnx package: it refuses every field that
srflow-export does not write, and so subgraphs (Loop, Scan, If), sequences, sparse tensors and external data. Weights
are skipped, but for their shapes. Field numbers are those of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from srflow_sdk.errors import BundleError
from srflow_sdk.model.graph_sizes import ALLOWED_OPS, MAX_CONTENT, Function, Node, Reference, Value

ALLOWED_FUNCTIONS = frozenset({"FlowStepTail", "UnsqueezeSplit"})
"""The flow's own nodes, of domain `srflow`, which are functions in a graph."""

MAX_NODES = 50_000
"""Most nodes of a graph once its functions are expanded; the largest one of a full-size ×8 network has 2,398."""

_MAX_FIELDS = 1_000_000  # bounds the time that reading takes
_MAX_DIMENSIONS = 8
_DOMAIN = b"srflow"
_MAX_CONTENT_BYTES = 8 * MAX_CONTENT
_CONTENT_KINDS: dict[int, Any] = {1: np.float32, 6: np.int32, 7: np.int64}
_ATTRIBUTE_FIELDS = {1: 2, 2: 3, 3: 4, 4: 5, 6: 7, 7: 8}  # where an attribute of each type has its value
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _keys(**wire_types: tuple[int, ...]) -> frozenset[int]:
    """The keys (number and wire type) of a message's fields."""
    wires = {"varint": _VARINT, "fixed64": _FIXED64, "bytes": _BYTES, "fixed32": _FIXED32}
    return frozenset(number << 3 | wires[name] for name, numbers in wire_types.items() for number in numbers)


# Absent are ModelProto.training_info, GraphProto.sparse_initializer and quantization_annotation, all subgraphs and
# sparse tensors of AttributeProto, TensorProto.string_data, external_data and data_location, and the other TypeProtos.
_MODEL = _keys(varint=(1, 5), bytes=(2, 3, 4, 6, 7, 8, 14, 25))
_GRAPH = _keys(bytes=(1, 2, 5, 10, 11, 12, 13, 16))
_FUNCTION = _keys(bytes=(1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14))
_NODE = _keys(bytes=(1, 2, 3, 4, 5, 6, 7, 9))
_ATTRIBUTE = _keys(varint=(3, 8, 20), fixed32=(2, 7), bytes=(1, 4, 5, 7, 8, 9, 13, 21))
_TENSOR = _keys(varint=(1, 2, 5, 7), fixed32=(4,), fixed64=(10,), bytes=(4, 5, 7, 8, 9, 10, 12, 16))
_VALUE = _keys(bytes=(1, 2, 3, 4))
_TYPE = _keys(bytes=(1, 6))
_REFUSED = {
    ("a model", 20): "training information",
    ("a graph", 15): "sparse weights",
    ("an attribute", 6): "a subgraph",
    ("an attribute", 11): "subgraphs",
    ("a tensor", 6): "text",
    ("a tensor", 13): "external data",
    ("a tensor", 14): "external data",
    ("a type", 4): "a sequence",
}
"""Names of fields that are refused, for people."""


@dataclass(frozen=True, kw_only=True)
class GraphStructure:
    """The parts of a graph.

    ops: how often each operator occurs once functions are expanded. inputs, outputs: their names. weights: by name,
    small ones with their content. nodes, functions: what computes the outputs.
    """

    ops: Counter[str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: dict[str, Value]
    nodes: tuple[Node, ...]
    functions: dict[str, Function]


def read_graph(path: Path) -> GraphStructure:
    """Read and check an ONNX file.

    Raises: BundleError, naming the file, if it is no ONNX graph or holds anything that srflow-export does not write.
    """
    try:
        return _Reader(path.read_bytes()).model()
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


class _Reader:
    """Reads one file. `begin` and `end` are where a message lies in it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = _MAX_FIELDS
        self._known_attributes: dict[bytes, tuple[str, Any]] = {}  # most convolutions have the same ones

    def model(self) -> GraphStructure:
        graphs, functions = [], {}
        for key, begin, end in self._fields("a model", _MODEL, 0, len(self._data)):
            if key >> 3 == 7:
                graphs.append((begin, end))
            elif key >> 3 == 25:
                name, function = self._function(begin, end)
                if name in functions:
                    raise _OddGraphError(f"it has two functions {name}")
                functions[name] = function
        if len(graphs) != 1:
            raise _OddGraphError(f"it has {len(graphs)} graphs instead of one")
        structure = self._graph(*graphs[0], functions=functions)
        if (nodes := structure.ops.total()) > MAX_NODES:
            raise _OddGraphError(f"it has {nodes} nodes, more than {MAX_NODES}")
        return structure

    def _graph(self, begin: int, end: int, *, functions: dict[str, Function]) -> GraphStructure:
        nodes: list[Node] = []
        weights: dict[str, Value] = {}
        values: dict[int, list[str]] = {11: [], 12: [], 13: []}
        for key, start, stop in self._fields("a graph", _GRAPH, begin, end):
            number = key >> 3
            if number == 1:
                nodes.append(self._node(start, stop, callable_functions=ALLOWED_FUNCTIONS))
            elif number == 5:
                name, value = self._tensor(start, stop)
                weights[name] = value
            elif number in values:
                values[number].append(self._value(start, stop))
        ops = Counter(node.op for node in nodes)
        for name in ALLOWED_FUNCTIONS & set(ops):
            calls = ops.pop(name)
            if name not in functions:
                raise _OddGraphError(f"it uses the function {name} but does not define it")
            for op, count in Counter(node.op for node in functions[name].nodes).items():
                ops[op] += calls * count
        inputs = tuple(name for name in values[11] if name not in weights)
        return GraphStructure(
            ops=ops, inputs=inputs, outputs=tuple(values[12]), weights=weights, nodes=tuple(nodes), functions=functions
        )

    def _function(self, begin: int, end: int) -> tuple[str, Function]:
        """A function by its name. It may not call functions, so that expansion cannot explode."""
        name = domain = b""
        inputs: list[str] = []
        outputs: list[str] = []
        nodes: list[Node] = []
        defaults: dict[str, Any] = {}
        for key, start, stop in self._fields("a function", _FUNCTION, begin, end):
            number = key >> 3
            if number == 1:
                name = self._data[start:stop]
            elif number in (4, 5):
                (inputs if number == 4 else outputs).append(_name(self._data[start:stop]))
            elif number == 7:
                nodes.append(self._node(start, stop, callable_functions=frozenset()))
            elif number == 10:
                domain = self._data[start:stop]
            elif number == 11:
                attribute, value = self._attribute(start, stop)
                defaults[attribute] = value
            elif number == 12:
                self._value(start, stop)
        if domain != _DOMAIN or _text(name) not in ALLOWED_FUNCTIONS:
            raise _OddGraphError(f"it has a function {_qualified(domain, name)}")
        function = Function(inputs=tuple(inputs), outputs=tuple(outputs), nodes=tuple(nodes), defaults=defaults)
        return _text(name), function

    def _node(self, begin: int, end: int, *, callable_functions: frozenset[str]) -> Node:
        name = domain = b""
        inputs: list[str] = []
        outputs: list[str] = []
        attributes: dict[str, Any] = {}
        for key, start, stop in self._fields("a node", _NODE, begin, end):
            number = key >> 3
            if number in (1, 2):
                (inputs if number == 1 else outputs).append(_name(self._data[start:stop]))
            elif number == 4:
                name = self._data[start:stop]
            elif number == 5:
                attribute, value = self._attribute(start, stop)
                if attribute in attributes:
                    raise _OddGraphError("a node has an attribute twice")
                attributes[attribute] = value
            elif number == 7:
                domain = self._data[start:stop]
        allowed = {b"": ALLOWED_OPS, b"ai.onnx": ALLOWED_OPS, _DOMAIN: callable_functions}.get(domain, frozenset())
        op = _text(name)
        if op not in allowed:
            raise _OddGraphError(f"it uses the operator {_qualified(domain, name)}")
        return Node(op=op, inputs=tuple(inputs), outputs=tuple(outputs), attributes=attributes)

    def _attribute(self, begin: int, end: int) -> tuple[str, Any]:
        """An attribute's name and its value: a number, a list, a text, a tensor, or the caller's."""
        content = self._data[begin:end]
        if content in self._known_attributes:
            return self._known_attributes[content]
        found: dict[int, Any] = {7: [], 8: []}
        for key, start, stop in self._fields("an attribute", _ATTRIBUTE, begin, end):
            number, data = key >> 3, self._data[start:stop]
            if number == 2:
                found[2] = struct.unpack("<f", self._data[start : start + 4])[0]
            elif number in (3, 20):
                found[number] = _signed(start)
            elif number in (4, 21):
                found[number] = _text(data)
            elif number == 5:
                found[5] = self._tensor(start, stop)[1]
            elif number == 7:
                found[7] += struct.unpack(f"<{len(data) // 4}f", data[: len(data) // 4 * 4])
            elif number == 8:
                found[8] += [_signed(start)] if key & 7 == _VARINT else self._varints(start, stop)
            elif number == 1:
                found[1] = _name(data)
        value = Reference(found[21]) if 21 in found else found.get(_ATTRIBUTE_FIELDS.get(found.get(20, 0), 0))
        attribute = found.get(1, ""), value
        if len(content) < 256:
            self._known_attributes[content] = attribute
        return attribute

    def _tensor(self, begin: int, end: int) -> tuple[str, Value]:
        """A tensor's name and shape, and its content if it is small and of a kind that sizes may depend on."""
        dims: list[int] = []
        found: dict[int, Any] = {7: []}
        for key, start, stop in self._fields("a tensor", _TENSOR, begin, end):
            number = key >> 3
            if number == 1:
                dims.append(start)
            elif number == 7:
                found[7] += [_signed(start)] if key & 7 == _VARINT else self._varints(start, stop)
            elif number == 2:
                found[2] = start
            elif number in (4, 8, 9):
                found[number] = self._data[start:stop] if stop - start <= _MAX_CONTENT_BYTES else None
        size = math.prod(dims)
        if len(dims) > _MAX_DIMENSIONS or size > end - begin:  # a value takes at least a byte
            raise _OddGraphError(
                f"a tensor of {'×'.join(map(str, dims[:8]))} values is too large for its {end - begin} bytes"
            )
        kind = _CONTENT_KINDS.get(found.get(2, 0))
        content = None
        if kind is not None and size <= MAX_CONTENT:
            raw = found.get(9, b"") or (found.get(4, b"") if kind == np.float32 else b"")
            numbers = np.frombuffer(raw, kind) if raw else np.array(found[7] if kind == np.int64 else [], kind)
            content = numbers.reshape(dims) if numbers.size == size else None
        name = _name(found.get(8, b"") or b"")
        return name, Value(shape=tuple(dims), content=content)

    def _value(self, begin: int, end: int) -> str:
        """The name of a graph's input or output."""
        name = ""
        for key, start, stop in self._fields("a value", _VALUE, begin, end):
            if key >> 3 == 1:
                name = _name(self._data[start:stop])
            elif key >> 3 == 2:
                for _ in self._fields("a type", _TYPE, start, stop):
                    pass
        return name

    def _varints(self, begin: int, end: int) -> list[int]:
        """The numbers of a packed field, with their signs."""
        numbers, at = [], begin
        while at < end:
            value, at = self._varint(at)
            numbers.append(_signed(value))
            self._left -= 1
        if at > end or self._left < 0:
            raise _OddGraphError("it is cut off, or not ONNX")
        return numbers

    def _fields(self, what: str, allowed: frozenset[int], begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """A message's fields: key, and where its content begins and ends, or a number and 0; of a float its begin."""
        data, at = self._data, begin
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise _OddGraphError(f"it has more than {_MAX_FIELDS} fields")
            key, at = (data[at], at + 1) if data[at] < 128 else self._varint(at)
            if key not in allowed:
                found = _REFUSED.get((what, key >> 3), f"the unknown field {key >> 3}")
                raise _OddGraphError(f"it has {found} in {what}")
            kind, value, content = key & 7, 0, 0
            if kind == _BYTES:
                size, value = (data[at], at + 1) if data[at] < 128 else self._varint(at)
                content = at = value + size
            elif kind == _VARINT:
                value, at = (data[at], at + 1) if data[at] < 128 else self._varint(at)
            else:
                value, at = at, at + (4 if kind == _FIXED32 else 8)
            if at > end:
                raise _OddGraphError("it is cut off, or not ONNX")
            yield key, value, content

    def _varint(self, at: int) -> tuple[int, int]:
        """The number there, and where the next thing begins."""
        value = 0
        for shift in range(0, 64, 7):
            byte = self._data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
        raise _OddGraphError("it is not ONNX")


def _signed(number: int) -> int:
    """A number of 64 bits with its sign."""
    return number - (1 << 64) if number >> 63 else number


def _name(name: bytes) -> str:
    """The name of a value or attribute; every byte counts."""
    return name.decode("latin-1")


def _text(name: bytes) -> str:
    return name.decode("ascii", errors="replace")


def _qualified(domain: bytes, name: bytes) -> str:
    """A name for an error message, without characters that a terminal would obey."""
    return ascii(_text((domain + b"::" if domain else b"") + name)[:60])
