"""An ONNX file to build an engine from, read once, so that what is hashed is what it is built from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import external_data_helper

from srflow_export.engines._profiles import InputShapes, input_shapes
from srflow_export.engines._rewriting import rewritten
from srflow_sdk.errors import ExportError
from srflow_sdk.model.engine_records import LrProfile


@dataclass(frozen=True, kw_only=True)
class Graph:
    """An ONNX graph to build an engine from.

    name: its file's name, for lines of progress and errors. precision: it was exported in "fp32", "fp16" or "bf16".
    content: the file's bytes. model: what is built, see :mod:`srflow_export.engines._rewriting`.
    """

    name: str
    precision: str
    content: bytes
    model: onnx.ModelProto

    @property
    def sha256(self) -> str:
        """Hexadecimal hash of the file."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def flow_nodes(self) -> int:
        """How many nodes it has that may run as plugins, see :mod:`srflow_export.flow_ops`."""
        return sum(node.domain == "srflow" for node in self.model.graph.node)

    def types(self) -> tuple[dict[str, str], dict[str, str]]:
        """Types of its inputs and of its outputs, by name, such as {"lr": "float32"}."""
        inputs = {entry.name: _type_name(entry) for entry in self.inputs()}
        return inputs, {entry.name: _type_name(entry) for entry in self.model.graph.output}

    def input_shapes(self, profile: LrProfile, *, scale: int) -> dict[str, InputShapes]:
        """Shapes of all inputs, see :func:`srflow_export.engines._profiles.input_shapes`. Raises: BundleError."""
        inputs = [
            (entry.name, [dim.dim_value or None for dim in entry.type.tensor_type.shape.dim]) for entry in self.inputs()
        ]
        return input_shapes(inputs, profile, scale=scale, graph=self.name)

    def inputs(self) -> list[onnx.ValueInfoProto]:
        """Its inputs, without the weights that old files list among them."""
        weights = {tensor.name for tensor in self.model.graph.initializer}
        return [entry for entry in self.model.graph.input if entry.name not in weights]


def read_graph(path: Path, *, precision: str) -> Graph:
    """Read an ONNX file. Raises: ExportError if it cannot be read, or is not an ONNX graph."""
    try:
        content = path.read_bytes()
        model = onnx.load_from_string(content)
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (OSError, onnx.checker.ValidationError) as error:  # the second for weights behind a link
        raise ExportError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); export the checkpoint first"
        ) from error
    except DecodeError as error:
        raise ExportError(f"{path} is not an ONNX graph; export the checkpoint again with srflow-export") from error
    return Graph(name=path.name, precision=precision, content=content, model=rewritten(model))


def _type_name(entry: onnx.ValueInfoProto) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type))
