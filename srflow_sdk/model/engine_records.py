"""A bundle's engines, which TensorRT or TensorRT-RTX built from its graphs.

Engine files stay as the builder wrote them, so that trtexec and Triton can load them. What they
were built for is recorded in the manifest, and a runtime that does not match is refused before it
reads them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from srflow_sdk.geometry.sizes import LrProfile
from srflow_sdk.plain_text import command_line

__all__ = [
    "RTX_SMS",
    "EnginePrecision",
    "EngineRecord",
    "EngineRuntime",
    "LrProfile",
    "PluginLibrary",
    "engines_command",
]

EngineRuntime = Literal["tensorrt", "tensorrt_rtx"]
"""Which library builds and runs an engine, by the name of its Python module."""

EnginePrecision = Literal["fp32", "fp16"]
"""Precision of the graphs that engines are built from."""

RTX_SMS = (75, 80, 86, 89, 120, 121)
"""GPUs that TensorRT-RTX 1.7 builds for, as its ComputeCapability names them; others need
TensorRT."""


@dataclass(frozen=True, kw_only=True)
class PluginLibrary:
    """A `libsrflow_trt`: its srflow-sdk, its header's number, and TensorRT's major version.

    Attributes:
        abi: 0 of engines that were built before there was one.
    """

    version: str
    tensorrt_major: int
    abi: int = 0


@dataclass(frozen=True, kw_only=True)
class EngineRecord:
    """The engines of a bundle's encoder and sampler, and of its inverter if it has one.

    Attributes:
        runtime: the library that built them and runs them.
        version: the library's version, as in `tensorrt.__version__`; no other version runs them.
        precision: precision of the graphs that they were built from.
        compute_capabilities: compute capabilities of the GPUs that they were built for, such as
            ("8.9", "12.0").
        gpu: name of the GPU that they were timed on; empty if they were built without one.
        profile: LR sizes that they take.
        encoder: the encoder's file in the bundle, such as "engines/….engine".
        sampler: the sampler's file in the bundle.
        graphs: sha256 of the graph that each was built from, by file name: {"encoder.onnx": …,
            "sampler.onnx": …}, or the float32 graphs' names, and "inverter.onnx" with an inverter.
            A different hash in the bundle means that the graph was exported again since.
        inverter: the inverter's file in the bundle; empty if there is none, as in older bundles.
        plugins: the library whose plugins they contain, and without which they do not load; None:
            they need none.
    """

    runtime: EngineRuntime
    version: str
    precision: EnginePrecision
    compute_capabilities: tuple[str, ...]
    gpu: str
    profile: LrProfile
    encoder: str
    sampler: str
    graphs: Mapping[str, str]
    inverter: str = ""
    plugins: PluginLibrary | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the engines' files in the bundle."""
        return tuple(filter(None, (self.encoder, self.sampler, self.inverter)))


def engines_command(
    bundle: str | os.PathLike[str],
    *,
    runtime: EngineRuntime,
    precision: EnginePrecision,
    sms: Sequence[int] = (),
    profile: LrProfile | None = None,
) -> str:
    """The command that builds engines into a bundle, as a line for this system's shell.

    The arguments are those of the exporter's `EngineRequest`. sms: only TensorRT-RTX builds for
    other GPUs than this machine's.
    """
    option = "--trt" if runtime == "tensorrt" else "--rtx"
    words = ["srflow-export", "--engines-for", os.fspath(bundle), option, precision]
    if sms and runtime == "tensorrt_rtx":
        words += ["--sm", *map(str, sorted(set(sms)))]
    if profile is not None:
        words += ["--shapes", str(profile)]
    return command_line(words)
