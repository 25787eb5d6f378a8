"""Triton's config.pbtxt as text: protobuf's text format, of which these configs need little."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or output.

    dtype: Triton's name without TYPE_. dims: -1 is any size; without the batch. scalar: the model's own tensor has no
    dimension but the batch, which Triton cannot say with dims.
    """

    name: str
    dtype: str
    dims: Sequence[int]
    optional: bool = False
    scalar: bool = False

    def text(self) -> str:
        """The tensor as one line of a config."""
        more = (" optional: true" if self.optional else "") + (" reshape: { shape: [ ] }" if self.scalar else "")
        return f"{{ name: {quoted(self.name)} data_type: TYPE_{self.dtype} dims: {list(self.dims)}{more} }}"


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


def parameters_in(text: str) -> dict[str, str]:
    """The parameters of a config that :func:`parameters` wrote, whatever was edited since."""
    found = re.findall(r'key:\s*"(\w+)"\s*value:?\s*\{\s*string_value:\s*"([^"\\]*)"', text)
    return dict(found)


def warmup(name: str, inputs: Iterable[tuple[str, str, Sequence[int]]]) -> str:
    """The field `model_warmup` with one request of zeros. inputs: name, dtype and shape of each."""
    entries = ",\n".join(
        f"    {{ key: {quoted(key)} value: {{ data_type: TYPE_{dtype} dims: {list(shape)} zero_data: true }} }}"
        for key, dtype, shape in inputs
    )
    return f"model_warmup [ {{\n  name: {quoted(name)}\n  batch_size: 1\n  inputs [\n{entries}\n  ]\n}} ]"


def stamped(text: str) -> str:
    """A config under a comment from which :func:`is_edited` tells whether somebody changed it."""
    return f"# Written by srflow-export; sha256 of what follows: {sha256(text.encode()).hexdigest()}\n{text}"


def is_edited(text: str) -> bool:
    """True if a config is not as :func:`stamped` gave it."""
    return text != stamped(text.partition("\n")[2])


def document(*parts: str) -> str:
    """A whole config of these fields; empty parts are left out."""
    return "\n".join(part for part in parts if part) + "\n"
