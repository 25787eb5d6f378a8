"""What a bundle's manifest says about its engines: files that TensorRT or TensorRT-RTX built from its graphs.

Engine files stay as the builder gave them, so that trtexec and Triton load them; what they were built for stands here,
and a runtime that does not fit is refused before it reads them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

EngineRuntime = Literal["tensorrt", "tensorrt_rtx"]
"""Which library builds and runs an engine, by the name of its Python module."""

EnginePrecision = Literal["fp32", "fp16"]
"""Of the graphs that engines are built from."""

EngineCheck = Literal["engine", "network"]

_CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class LrProfile:
    """LR sizes that an engine takes, as (height, width) in LR pixels, each 1 … 65536.

    All other shapes follow: an engine's encoder takes `lr` 1×3×h×w, its sampler one image's conditioning and latents.
    """

    min: tuple[int, int]
    """At least."""

    opt: tuple[int, int]
    """The size that its kernels were chosen for."""

    max: tuple[int, int]
    """At most."""

    def holds(self, height: int, width: int) -> bool:
        """Whether an LR image of this size fits."""
        return self.min[0] <= height <= self.max[0] and self.min[1] <= width <= self.max[1]

    def __str__(self) -> str:
        """As `srflow-export --shapes` takes it, such as "16x16,88x120,256x256"."""
        return ",".join("x".join(map(str, size)) for size in (self.min, self.opt, self.max))


@dataclass(frozen=True, kw_only=True)
class EngineRecord:
    """A pair of engines, the encoder's and the sampler's.

    What the fields promise, :func:`read_engine_record` has checked; the constructor checks nothing.
    """

    runtime: EngineRuntime
    """The library that built them and runs them."""

    version: str
    """Its version, as `tensorrt.__version__` says it; no other version runs them."""

    precision: EnginePrecision
    """Of the graphs that they were built from."""

    compute_capabilities: tuple[str, ...]
    """The GPUs that they were built for, such as ("8.9", "12.0")."""

    gpu: str
    """Name of the GPU that they were timed on; empty where they were built without one."""

    profile: LrProfile
    """LR sizes that they take."""

    encoder: str
    """The encoder's file in the bundle, such as "engines/….engine"."""

    sampler: str
    """The sampler's."""

    graphs: Mapping[str, str]
    """sha256 of the graph that each was built from, by its file: {"encoder.onnx": …, "sampler.onnx": …}, or the
    float32 graphs' names. Another hash in the bundle means that the graph was exported again since."""

    checked: EngineCheck = "network"
    """What showed, when they were built, that they compute in this precision: "engine", their own inspector; "network",
    the library's reading of the graph alone, as on a machine without a GPU that could load them."""


def read_engine_record(raw: Any) -> EngineRecord:
    """A record as manifest.json holds it. Raises: KeyError, TypeError or ValueError for anything else."""
    if not isinstance(raw, dict):
        raise TypeError(f"a {type(raw).__name__} where an object is expected")
    if raw["runtime"] not in get_args(EngineRuntime):
        raise ValueError(f"runtime {raw['runtime']!r} is not known")
    checked = raw.get("checked", "network")
    if checked not in get_args(EngineCheck):
        raise ValueError(f"checked is {checked!r}, not one of {', '.join(get_args(EngineCheck))}")
    if raw["precision"] not in get_args(EnginePrecision):
        raise ValueError(f"precision {raw['precision']!r} is none that engines have")
    texts = {name: raw[name] for name in ("version", "gpu", "encoder", "sampler")}
    capabilities, graphs = raw["compute_capabilities"], raw["graphs"]
    if not isinstance(capabilities, list) or not isinstance(graphs, dict):
        raise TypeError("compute_capabilities or graphs has the wrong type")
    if odd := [value for value in (*texts.values(), *capabilities, *graphs.values()) if not isinstance(value, str)]:
        raise TypeError(f"{odd[0]!r} is not text")
    if odd := [capability for capability in capabilities if not _CAPABILITY.fullmatch(capability)]:
        raise ValueError(f"{odd[0]!r} is no compute capability")
    # Without a graph's hash, nothing would tell that it was exported again since.
    if sorted(name.partition(".")[0] for name in graphs) != ["encoder", "sampler"]:
        raise ValueError("graphs are not an encoder's and a sampler's")
    profile = LrProfile(**{name: _size(raw["profile"][name]) for name in ("min", "opt", "max")})
    return EngineRecord(
        runtime=raw["runtime"],
        precision=raw["precision"],
        compute_capabilities=tuple(capabilities),
        graphs=dict(graphs),
        profile=profile,
        checked=checked,
        **texts,
    )


def _size(raw: Any) -> tuple[int, int]:
    height, width = raw
    if not all(isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= 1 << 16 for side in raw):
        raise ValueError(f"{raw!r} is no size")
    return height, width
