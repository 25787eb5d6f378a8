"""Reads the structure of an ONNX graph, which is untrusted code, before a runtime sees it.

A small, strict reader of protobuf, since the runtime does not depend on the onnx package: it refuses every field that
srflow-export does not write, and so subgraphs (Loop, Scan, If), sequences, sparse tensors and external data. Weights
are skipped. Field numbers are those of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from srflow_sdk.errors import BundleError

# fmt: off
ALLOWED_OPS = frozenset({
    "Add", "AveragePool", "Cast", "Concat", "Constant", "Conv", "DepthToSpace", "DequantizeLinear", "Div", "Exp",
    "Gather", "Identity", "LeakyRelu", "Log", "Mul", "Neg", "QuantizeLinear", "Reciprocal", "ReduceSum", "Relu",
    "Reshape", "Resize", "Shape", "Sigmoid", "Slice", "SpaceToDepth", "Split", "Squeeze", "Sub", "Tanh", "Transpose",
    "Unsqueeze",
})
# fmt: on
"""ONNX operators that srflow-export writes, or wrote in bundles that still run (Identity, Squeeze, Transpose)."""

ALLOWED_FUNCTIONS = frozenset({"FlowStepTail", "UnsqueezeSplit"})
"""The flow's own nodes, of domain `srflow`, which are functions in a graph."""

MAX_NODES = 50_000
"""Most nodes of a graph once its functions are expanded; the largest one of a full-size ×8 network has 2,398."""

_MAX_FIELDS = 1_000_000  # bounds the time that reading takes
_MAX_DIMENSIONS = 8
_DOMAIN = b"srflow"
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
    """What a graph consists of. ops: how often each operator occurs once functions are expanded."""

    ops: Counter[str]


def read_graph(path: Path) -> GraphStructure:
    """Read and check an ONNX file.

    Raises: BundleError, naming the file, if it is no ONNX graph or holds anything that srflow-export does not write.
    """
    try:
        return _Reader(path.read_bytes()).model()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    except IndexError as error:  # the file ends in the middle of a number
        raise _refused(path, "it is cut off") from error
    except _OddGraphError as error:
        raise _refused(path, str(error)) from error


def _refused(path: Path, reason: str) -> BundleError:
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
        self._known_attributes: set[bytes] = set()  # most convolutions have the same ones

    def model(self) -> GraphStructure:
        graphs, functions = [], {}
        for key, begin, end in self._fields("a model", _MODEL, 0, len(self._data)):
            if key >> 3 == 7:
                graphs.append((begin, end))
            elif key >> 3 == 25:
                name, ops = self._function(begin, end)
                if name in functions:
                    raise _OddGraphError(f"it has two functions {name}")
                functions[name] = ops
        if len(graphs) != 1:
            raise _OddGraphError(f"it has {len(graphs)} graphs instead of one")
        ops = self._graph(*graphs[0])
        for name in ALLOWED_FUNCTIONS & set(ops):
            calls = ops.pop(name)
            if name not in functions:
                raise _OddGraphError(f"it uses the function {name} but does not define it")
            for op, count in functions[name].items():
                ops[op] += calls * count
        if (nodes := ops.total()) > MAX_NODES:
            raise _OddGraphError(f"it has {nodes} nodes, more than {MAX_NODES}")
        return GraphStructure(ops=ops)

    def _graph(self, begin: int, end: int) -> Counter[str]:
        ops: Counter[str] = Counter()
        for key, start, stop in self._fields("a graph", _GRAPH, begin, end):
            number = key >> 3
            if number == 1:
                ops[self._node(start, stop, callable_functions=ALLOWED_FUNCTIONS)] += 1
            elif number == 5:
                self._tensor(start, stop)
            elif number in (11, 12, 13):
                self._value(start, stop)
        return ops

    def _function(self, begin: int, end: int) -> tuple[str, Counter[str]]:
        """A function's name and operators. It may not call functions, so that expansion cannot explode."""
        name = domain = b""
        ops: Counter[str] = Counter()
        for key, start, stop in self._fields("a function", _FUNCTION, begin, end):
            number = key >> 3
            if number == 1:
                name = self._data[start:stop]
            elif number == 7:
                ops[self._node(start, stop, callable_functions=frozenset())] += 1
            elif number == 10:
                domain = self._data[start:stop]
            elif number == 11:
                self._attribute(start, stop)
            elif number == 12:
                self._value(start, stop)
        if domain != _DOMAIN or _text(name) not in ALLOWED_FUNCTIONS:
            raise _OddGraphError(f"it has a function {_qualified(domain, name)}")
        return _text(name), ops

    def _node(self, begin: int, end: int, *, callable_functions: frozenset[str]) -> str:
        """The node's operator."""
        name = domain = b""
        for key, start, stop in self._fields("a node", _NODE, begin, end):
            number = key >> 3
            if number == 4:
                name = self._data[start:stop]
            elif number == 5:
                self._attribute(start, stop)
            elif number == 7:
                domain = self._data[start:stop]
        allowed = {b"": ALLOWED_OPS, b"ai.onnx": ALLOWED_OPS, _DOMAIN: callable_functions}.get(domain, frozenset())
        op = _text(name)
        if op not in allowed:
            raise _OddGraphError(f"it uses the operator {_qualified(domain, name)}")
        return op

    def _attribute(self, begin: int, end: int) -> None:
        content = self._data[begin:end]
        if content in self._known_attributes:
            return
        for key, start, stop in self._fields("an attribute", _ATTRIBUTE, begin, end):
            if key >> 3 == 5:
                self._tensor(start, stop)
        if len(content) < 256:
            self._known_attributes.add(content)

    def _tensor(self, begin: int, end: int) -> None:
        dims = [start for key, start, _ in self._fields("a tensor", _TENSOR, begin, end) if key >> 3 == 1]
        if len(dims) > _MAX_DIMENSIONS or math.prod(dims) > end - begin:  # a value takes at least a byte
            raise _OddGraphError(
                f"a tensor of {'×'.join(map(str, dims[:8]))} values is too large for its {end - begin} bytes"
            )

    def _value(self, begin: int, end: int) -> None:
        for key, start, stop in self._fields("a value", _VALUE, begin, end):
            if key >> 3 == 2:
                for _ in self._fields("a type", _TYPE, start, stop):
                    pass

    def _fields(self, what: str, allowed: frozenset[int], begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """A message's fields: key, and where its content begins and ends, or a number and 0."""
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
                at += 4 if kind == _FIXED32 else 8
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


def _text(name: bytes) -> str:
    return name.decode("ascii", errors="replace")


def _qualified(domain: bytes, name: bytes) -> str:
    """A name for an error message, without characters that a terminal would obey."""
    return ascii(_text((domain + b"::" if domain else b"") + name)[:60])
