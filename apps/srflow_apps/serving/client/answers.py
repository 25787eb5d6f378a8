"""Checks of a server's answers: anything but the protocol's is a :class:`MalformedError`, with one reason."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.system.plain_text import short

DTYPES = {"float32": "FP32", "int64": "INT64", "int32": "INT32"}
"""Triton's names of numpy's types."""


class MalformedError(Exception):
    """The server's answer is not the protocol's; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """A tensor of an answer, as the protocol carries it. Nothing of it is checked."""

    name: object
    datatype: object
    shape: object
    content: bytes | memoryview


def json_of(body: bytes | bytearray) -> Any:
    """The value of a JSON body. Raises: MalformedError."""
    try:
        return json.loads(bytes(body))
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"no JSON where it was expected, but {short(bytes(body[:40]))}") from error


def error_of(body: bytes | bytearray) -> str | None:
    """The reason in an answer that is an error; None: it has none, as a page of a proxy's."""
    try:
        reason = json_of(body)["error"]
    except (MalformedError, TypeError, KeyError, IndexError):
        return None
    return reason if isinstance(reason, str) else None


def parameters_of(config: object) -> dict[str, str]:
    """The parameters of a model's config. Raises: MalformedError."""
    found = _of_type(_of_type(config, dict, "a config").get("parameters", {}), dict, "parameters")
    values = {name: _of_type(value, dict, f"parameter {short(name)}") for name, value in found.items()}
    return {name: _of_type(value.get("string_value", ""), str, short(name)) for name, value in values.items()}


def ready_models(index: object) -> list[str]:
    """Names of the models in an index that can answer. Raises: MalformedError."""
    entries = [_of_type(entry, dict, "a model in the index") for entry in _of_type(index, list, "an index of models")]
    return sorted({_of_type(entry.get("name"), str, "a name") for entry in entries if entry.get("state") == "READY"})


def outputs_of(body: bytearray, json_bytes: str | None) -> list[Output]:
    """The tensors of an answer with the binary extension of the HTTP protocol: JSON, then the tensors' bytes.

    json_bytes: the header Inference-Header-Content-Length. Raises: MalformedError.
    """
    if json_bytes is None or not json_bytes.isascii() or not json_bytes.isdecimal() or len(json_bytes) > 9:
        raise MalformedError(f"Inference-Header-Content-Length is {short(json_bytes)}, and no number of bytes")
    begin = int(json_bytes)
    described = _of_type(json_of(body[:begin]), dict, "an answer").get("outputs")
    view, outputs = memoryview(body), []
    for entry in _of_type(described, list, "outputs"):
        fields = _of_type(entry, dict, "an output")
        size = _of_type(fields.get("parameters"), dict, "an output's parameters").get("binary_data_size")
        if _of_type(size, int, "binary_data_size") < 0 or begin + size > len(body):
            raise MalformedError(f"binary_data_size is {short(size)}, and {len(body) - begin} bytes follow")
        content = view[begin : begin + size]
        begin += size
        outputs.append(Output(content=content, **{name: fields.get(name) for name in ("name", "datatype", "shape")}))
    if begin != len(body):
        raise MalformedError(f"{len(body) - begin} bytes more than its outputs have")
    return outputs


def tensor_of(outputs: Sequence[Output], name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The float32 output of this name and shape. Raises: MalformedError if it is missing or another."""
    output = next((each for each in outputs if each.name == name), None)
    if output is None:
        raise MalformedError(f"no output {name}")
    found = output.shape
    if output.datatype != DTYPES["float32"] or not isinstance(found, list) or tuple(found) != shape:
        raise MalformedError(
            f"{name} is {short(output.datatype)} of shape {short(found)} instead of FP32 {list(shape)}"
        )
    expected = math.prod(shape) * np.dtype(np.float32).itemsize
    if len(output.content) != expected:
        raise MalformedError(f"{name} has {len(output.content)} bytes instead of {expected}")
    return np.frombuffer(output.content, np.dtype("<f4")).astype(np.float32, copy=False).reshape(shape)


def _of_type(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        names = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}
        raise MalformedError(f"{what} is {short(value)}, and not {names[kind]}")
    return value
