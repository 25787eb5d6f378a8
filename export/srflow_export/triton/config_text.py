"""Triton's config.pbtxt as text: protobuf's text format, of which these configs need little."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or output. dtype: Triton's name without TYPE_. dims: -1 is any size; without the batch."""

    name: str
    dtype: str
    dims: Sequence[int]
    optional: bool = False

    def text(self) -> str:
        """The tensor as one line of a config."""
        optional = " optional: true" if self.optional else ""
        return f"{{ name: {quoted(self.name)} data_type: TYPE_{self.dtype} dims: {list(self.dims)}{optional} }}"


def quoted(text: str) -> str:
    """A string of the text format."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def listed(name: str, entries: Iterable[str]) -> str:
    """A repeated field, one entry a line."""
    lines = ",\n".join(f"  {entry}" for entry in entries)
    return f"{name} [\n{lines}\n]"


def tensors(name: str, values: Iterable[Tensor]) -> str:
    """The field `input` or `output`."""
    return listed(name, (value.text() for value in values))


def parameters(values: Mapping[str, str]) -> str:
    """The field `parameters`."""
    entries = (f"{{ key: {quoted(key)} value: {{ string_value: {quoted(text)} }} }}" for key, text in values.items())
    return listed("parameters", entries)


def document(*parts: str) -> str:
    """A whole config of these fields; empty parts are left out."""
    return "\n".join(part for part in parts if part) + "\n"
